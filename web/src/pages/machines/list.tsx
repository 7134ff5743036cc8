import { useQuery } from '@tanstack/react-query'
import { getRouteApi } from '@tanstack/react-router'
import { Columns3, Filter, Plus, Search, X } from 'lucide-react'
import { lazy, Suspense, useCallback, useDeferredValue, useMemo, useRef, useState } from 'react'
import type { Schemas } from '@/api/client'
import { ALL_AT_ONCE, facetsQuery, type MachineSearch, machinesQuery } from '@/api/queries'
import { Confirm } from '@/components/confirm'
import { Menu } from '@/components/menu'
import { Empty, Failure, Loading, Page, Ready } from '@/components/page'
import { STATES } from '@/components/state'
import { Button } from '@/components/ui/button'
import { Card, CardContent } from '@/components/ui/card'
import { Input } from '@/components/ui/input'
import { count, system } from '@/lib/format'
import {
  COLUMNS,
  type Column,
  facets,
  filterMachines,
  type Machine,
  sortMachines,
} from '@/lib/machines'
import { useOrg } from '@/lib/org'
import { listOf, textOf } from '@/lib/search'
import { useKey } from '@/lib/shortcuts'
import { useDebounced } from '@/lib/use-debounced'
import { useMachineActions } from './actions'
import { BulkBar } from './bulk'
import { orderOf, usePages } from './pages'
import { HEADS, MachineTable, type Rows, type Selection } from './table'

const route = getRouteApi('/signed-in/o/$org/machines')

const AddMachine = lazy(() => import('./add'))
const AddMachineDialog = lazy(() => import('./add-dialog'))
const EditMachine = lazy(() => import('./edit'))

/** The server is asked so long after the last letter, in milliseconds. */
const PAUSE = 200
const HIDDEN_KEY = 'ztna-machine-columns-hidden'

function useColumns(): [Column[], (column: Column) => void] {
  const [hidden, setHidden] = useState<string[]>(() =>
    listOf(localStorage.getItem(HIDDEN_KEY) ?? ''),
  )
  const toggle = (column: Column) => {
    const next = hidden.includes(column)
      ? hidden.filter((other) => other !== column)
      : [...hidden, column]
    localStorage.setItem(HIDDEN_KEY, next.join(','))
    setHidden(next)
  }
  return [COLUMNS.filter((column) => !hidden.includes(column)), toggle]
}

export default function Machines() {
  const org = useOrg()
  const search = route.useSearch()
  const navigate = route.useNavigate()
  const query = useQuery(facetsQuery(org.id))
  const adding = search.add !== undefined
  const setAdding = (on: boolean) =>
    void navigate({ search: (old) => ({ ...old, add: on ? '1' : undefined }), replace: true })
  return (
    <Page
      wide
      title="Machines"
      actions={
        <Button onClick={() => setAdding(true)}>
          <Plus /> Add a machine
        </Button>
      }
    >
      <Ready query={query} rows={12}>
        {(facets) =>
          facets.count === 0 ? (
            <FirstRun />
          ) : facets.count > ALL_AT_ONCE ? (
            <ManyMachines facets={facets} />
          ) : (
            <AllMachines />
          )
        }
      </Ready>
      {adding ? (
        <Suspense fallback={null}>
          <AddMachineDialog onClose={() => setAdding(false)} />
        </Suspense>
      ) : null}
    </Page>
  )
}

/** All machines are here: found, sorted and counted in the browser. */
function AllMachines() {
  const org = useOrg()
  const query = useQuery(machinesQuery(org.id))
  return (
    <Ready query={query} rows={12}>
      {(machines) => <All machines={machines} />}
    </Ready>
  )
}

function All({ machines }: { machines: Machine[] }) {
  const view = useView()
  const { search, column, descending } = view
  // The box answers at once; a list of a thousand follows when there is time.
  const text = useDeferredValue(view.text)
  const found = useMemo(() => {
    const filters = {
      text,
      states: listOf(search.state),
      systems: listOf(search.os),
      tags: listOf(search.tag),
      posture: listOf(search.posture),
    }
    return sortMachines(filterMachines(machines, filters), column, descending)
  }, [machines, text, column, descending, search.state, search.os, search.tag, search.posture])
  const { systems, tags } = useMemo(() => facets(machines), [machines])
  const states = useMemo(() => {
    const counts = new Map<string, number>()
    for (const machine of machines) counts.set(machine.state, (counts.get(machine.state) ?? 0) + 1)
    return Object.entries(STATES).flatMap(([state, { label }]) => {
      const n = counts.get(state)
      return n ? [{ value: state, label, n }] : []
    })
  }, [machines])
  const rows = useMemo(
    (): Rows => ({
      count: found.length,
      at: (index) => found[index],
      areAll: (selected) => found.length > 0 && found.every(({ id }) => selected.has(id)),
      everything: () => found,
    }),
    [found],
  )
  const known = useMemo(() => new Map(machines.map((one) => [one.id, one])), [machines])
  return (
    <List
      view={view}
      rows={rows}
      total={machines.length}
      states={states}
      systems={systems}
      tags={tags}
      pending={machines.some(({ state }) => state === 'pending')}
      // What is gone is chosen no more.
      newest={(machine) => known.get(machine.id)}
    />
  )
}

/** Too many to load them all: the server finds and sorts them, and they come page by page as one scrolls. */
function ManyMachines({ facets }: { facets: Schemas['MachineFacets'] }) {
  const view = useView()
  const { search, column, descending } = view
  const text = useDebounced(view.text, PAUSE)
  const wanted = useMemo(
    (): MachineSearch => ({
      search: text.trim() || undefined,
      state: search.state,
      os: search.os,
      tag: search.tag,
      posture: search.posture,
      ...orderOf(column, descending),
    }),
    [text, search.state, search.os, search.tag, search.posture, column, descending],
  )
  const { rows, page } = usePages(wanted)
  return (
    <>
      {page.error ? <Failure error={page.error} doing="Reading the list" /> : null}
      <List
        view={view}
        rows={rows}
        total={facets.count}
        states={Object.entries(STATES).map(([value, { label }]) => ({ value, label }))}
        systems={facets.systems.map(({ value, count: n }) => [value, n])}
        tags={facets.tags.map(({ value, count: n }) => [value, n])}
        pending={facets.pending > 0}
        newest={(machine) => page.known.get(machine.id) ?? machine}
      />
    </>
  )
}

function FirstRun() {
  const org = useOrg()
  return (
    <Card className="mx-auto w-full max-w-2xl">
      <CardContent className="flex flex-col gap-4 p-5">
        <div>
          <h2 className="text-lg font-semibold">
            {org.may('read') ? 'The first machine' : 'Your first machine'}
          </h2>
          <p className="text-muted-foreground">
            Machines of {org.name} reach each other over WireGuard as far as its policy says. Add
            two, and ping one from the other by name.
          </p>
        </div>
        <Suspense fallback={<Loading />}>
          <AddMachine />
        </Suspense>
      </CardContent>
    </Card>
  )
}

/** What the page's address and this browser say of the list. */
function useView() {
  const search = route.useSearch()
  const navigate = route.useNavigate()
  const [text, setText] = useState(search.q ?? '')
  const sort = search.sort ?? 'name'
  const named = sort.replace(/^-/, '')
  return {
    search,
    set: (change: Partial<typeof search>) =>
      void navigate({ search: (old) => ({ ...old, ...change }), replace: true }),
    text,
    setText,
    column: COLUMNS.find((one) => one === named) ?? 'name',
    descending: sort.startsWith('-'),
  }
}

function List({
  view,
  rows,
  total,
  states,
  systems,
  tags,
  pending,
  newest,
}: {
  view: ReturnType<typeof useView>
  rows: Rows
  total: number
  states: Choice[]
  systems: Array<[string, number]>
  tags: Array<[string, number]>
  pending: boolean
  newest: (machine: Machine) => Machine | undefined
}) {
  const { search, set, text, setText, column, descending } = view
  const [columns, toggleColumn] = useColumns()
  const [selected, setSelected] = useState<Selection>(new Map())
  const [editing, setEditing] = useState<Machine | null>(null)
  const { act, asked, close, put } = useMachineActions()
  const box = useRef<HTMLInputElement>(null)
  useKey(
    '/',
    useCallback(() => box.current?.focus(), []),
  )
  const filtered =
    text !== '' || [search.state, search.os, search.tag, search.posture].some((one) => one)
  const chosen = [...selected.values()].flatMap((machine) => newest(machine) ?? [])

  return (
    <>
      <div className="flex flex-wrap items-center gap-2">
        <div className="relative w-full sm:w-72">
          <Search
            aria-hidden
            className="pointer-events-none absolute top-2 left-2.5 size-4 text-muted-foreground"
          />
          <Input
            ref={box}
            type="search"
            aria-label="Search machines"
            aria-keyshortcuts="/"
            placeholder="Name, address, owner, tag"
            className="pl-8"
            value={text}
            onChange={(event) => {
              setText(event.target.value)
              set({ q: event.target.value || undefined })
            }}
          />
        </div>
        <Facet
          label="State"
          chosen={listOf(search.state)}
          choices={states}
          onChange={(state) => set({ state: textOf(state) })}
        />
        <Facet
          label="System"
          chosen={listOf(search.os)}
          choices={systems.map(([value, n]) => ({ value, label: system(value), n }))}
          onChange={(os) => set({ os: textOf(os) })}
        />
        {tags.length > 0 ? (
          <Facet
            label="Tag"
            chosen={listOf(search.tag)}
            choices={tags.map(([value, n]) => ({ value, label: value, n }))}
            onChange={(tag) => set({ tag: textOf(tag) })}
          />
        ) : null}
        <Facet
          label="Posture"
          chosen={listOf(search.posture)}
          choices={[
            { value: 'failing', label: 'Failing' },
            { value: 'stale', label: 'No fresh report' },
            { value: 'passing', label: 'Passing' },
            { value: 'none', label: 'Not checked' },
          ]}
          onChange={(posture) => set({ posture: textOf(posture) })}
        />
        {filtered ? (
          <Button
            variant="ghost"
            size="sm"
            onClick={() => {
              setText('')
              set({
                q: undefined,
                state: undefined,
                os: undefined,
                tag: undefined,
                posture: undefined,
              })
            }}
          >
            <X /> Clear
          </Button>
        ) : null}
        <div className="flex-1" />
        <span role="status" className="figures text-xs text-muted-foreground">
          {rows.count === total
            ? count(total, 'machine')
            : `${rows.count.toLocaleString('en')} of ${count(total, 'machine')}`}
        </span>
        <Menu
          variant="outline"
          size="icon-sm"
          aria-label="Choose columns"
          className="max-md:hidden"
          align="end"
          entries={() => [
            { heading: 'Columns' },
            ...COLUMNS.filter((one) => one !== 'name').map((one) => ({
              text: HEADS[one].label,
              checked: columns.includes(one),
              toggle: () => toggleColumn(one),
            })),
          ]}
        >
          <Columns3 />
        </Menu>
      </div>
      {rows.count === 0 ? (
        <Empty title="No machine matches">Take a filter away, or search for something else.</Empty>
      ) : (
        <MachineTable
          rows={rows}
          pending={pending}
          columns={columns}
          sort={{ column, descending }}
          onSort={(next) => set({ sort: next === column && !descending ? `-${next}` : next })}
          selected={selected}
          onSelect={setSelected}
          act={act}
          edit={setEditing}
        />
      )}
      {chosen.length > 0 ? (
        <BulkBar machines={chosen} act={act} clear={() => setSelected(new Map())} />
      ) : null}
      <Confirm asked={asked} onClose={close} />
      {editing ? (
        <Suspense fallback={null}>
          <EditMachine machine={editing} onDone={put} onClose={() => setEditing(null)} />
        </Suspense>
      ) : null}
    </>
  )
}

interface Choice {
  value: string
  label: string
  n?: number
}

function Facet({
  label,
  chosen,
  choices,
  onChange,
}: {
  label: string
  chosen: string[]
  choices: Choice[]
  onChange: (chosen: string[]) => void
}) {
  return (
    <Menu
      variant="outline"
      size="sm"
      className="h-8"
      entries={() =>
        choices.map(({ value, label: text, n }) => ({
          text,
          n,
          checked: chosen.includes(value),
          toggle: (on) =>
            onChange(on ? [...chosen, value] : chosen.filter((other) => other !== value)),
        }))
      }
    >
      <Filter className="size-3.5! text-muted-foreground" />
      {label}
      {chosen.length > 0 ? (
        <span className="figures rounded-full bg-primary px-1.5 text-primary-foreground">
          {chosen.length}
        </span>
      ) : null}
    </Menu>
  )
}
