import { Link } from '@tanstack/react-router'
import { useVirtualizer } from '@tanstack/react-virtual'
import { ArrowDown, ArrowUp, Timer } from 'lucide-react'
import { type KeyboardEvent, memo, type ReactNode, useCallback, useEffect, useRef } from 'react'
import { StateBadge, StateDot } from '@/components/state'
import { Badge } from '@/components/ui/badge'
import { Button } from '@/components/ui/button'
import { Checkbox } from '@/components/ui/checkbox'
import { ago, exact, system } from '@/lib/format'
import {
  type ActionName,
  type Column,
  expiresSoon,
  type Machine,
  mixText,
  ownerOf,
  type PostureStanding,
  tunnelsOf,
} from '@/lib/machines'
import { useOrg } from '@/lib/org'
import { useMedia } from '@/lib/use-media'
import { cn } from '@/lib/utils'
import { MachineMenu } from './menu'

const ROW = 36
const NARROW_ROW = 58
/** Rows beyond the edges that are there already when one scrolls. */
const OVERSCAN = 12

export const HEADS: Record<Column, { label: string; width: string }> = {
  name: { label: 'Name', width: 'minmax(7rem,2fr)' },
  state: { label: 'State', width: '5.25rem' },
  owner: { label: 'Owner', width: 'minmax(4rem,1.2fr)' },
  address: { label: 'Address', width: '6.25rem' },
  os: { label: 'System', width: '4.5rem' },
  version: { label: 'Version', width: '3.5rem' },
  tags: { label: 'Tags', width: 'minmax(2.5rem,1fr)' },
  path: { label: 'Paths', width: '4rem' },
  pq: { label: 'Keys', width: '3rem' },
  posture: { label: 'Posture', width: '4.5rem' },
  seen: { label: 'Last seen', width: '4.5rem' },
  expiry: { label: 'Expiry', width: '4rem' },
}

const POSTURE: Record<PostureStanding, ReactNode> = {
  failing: <Badge tone="bad">Failing</Badge>,
  stale: <Badge tone="warn">No report</Badge>,
  passing: <Badge tone="good">Passing</Badge>,
  none: <span className="text-muted-foreground">–</span>,
}

/** The rows of a table: some of them may not be there yet. */
export interface Rows {
  count: number
  at: (index: number) => Machine | undefined
  /** Whether all that are listed are chosen. */
  areAll: (selected: Selection) => boolean
  /** All that are listed, also what is not there yet. */
  everything: () => Machine[] | Promise<Machine[]>
  /** Which are on the screen. */
  onRange?: (first: number, last: number) => void
}

export type Selection = ReadonlyMap<string, Machine>

interface Props {
  rows: Rows
  /** Whether some of them wait for approval. */
  pending: boolean
  columns: Column[]
  sort: { column: Column; descending: boolean }
  onSort: (column: Column) => void
  selected: Selection
  onSelect: (selected: Selection) => void
  act: (action: ActionName | 'delete', machines: Machine[]) => void
  edit: (machine: Machine) => void
}

export function MachineTable(props: Props) {
  const { rows, pending, columns, selected, onSelect, act, edit } = props
  const narrow = !useMedia('(min-width: 48rem)')
  const scroller = useRef<HTMLDivElement>(null)
  const virtual = useVirtualizer({
    count: rows.count,
    getScrollElement: () => scroller.current,
    estimateSize: () => (narrow ? NARROW_ROW : ROW),
    getItemKey: (index) => rows.at(index)?.id ?? index,
    overscan: OVERSCAN,
  })
  const items = virtual.getVirtualItems()
  const [from, to] = [items[0]?.index ?? 0, items.at(-1)?.index ?? 0]
  const { onRange } = rows
  useEffect(() => onRange?.(from, to), [onRange, from, to])
  // Room for the button that approves, where there is something to approve.
  const last = pending ? '5.75rem' : '2rem'
  const template = `1.25rem ${columns.map((column) => HEADS[column].width).join(' ')} ${last}`
  // Always the same function, so that rows which stay as they are need not be drawn again while one scrolls.
  const newest = useRef(selected)
  newest.current = selected
  const toggle = useCallback(
    (machine: Machine) => {
      const next = new Map(newest.current)
      if (!next.delete(machine.id)) next.set(machine.id, machine)
      onSelect(next)
    },
    [onSelect],
  )
  const all = rows.areAll(selected)
  const toggleAll = async () =>
    onSelect(new Map(all ? [] : (await rows.everything()).map((machine) => [machine.id, machine])))

  // Arrow keys go from name to name, also over rows that are not drawn yet.
  const onKeyDown = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (!step || !(event.target instanceof HTMLElement)) return
    const row = event.target.closest<HTMLElement>('[data-index]')
    if (!row || event.target.getAttribute('aria-haspopup')) return
    event.preventDefault()
    const next = Math.min(Math.max(Number(row.dataset.index) + step, 0), rows.count - 1)
    virtual.scrollToIndex(next)
    requestAnimationFrame(() =>
      scroller.current?.querySelector<HTMLElement>(`[data-index="${next}"] a`)?.focus(),
    )
  }

  return (
    <div
      ref={scroller}
      role="table"
      aria-label="Machines"
      aria-rowcount={rows.count + 1}
      aria-colcount={columns.length + 2}
      onKeyDown={onKeyDown}
      className="relative max-h-[calc(100dvh-11.5rem)] min-h-64 overflow-auto rounded-lg border bg-card"
    >
      <div className={cn(!narrow && 'min-w-fit')}>
        {narrow ? null : (
          <div
            role="row"
            aria-rowindex={1}
            style={{ gridTemplateColumns: template }}
            className="sticky top-0 z-10 grid h-8 items-center gap-x-2 border-b bg-muted px-3"
          >
            <div role="columnheader" className="flex">
              <Checkbox
                aria-label="Select all that are listed"
                checked={all ? true : selected.size > 0 ? 'indeterminate' : false}
                onCheckedChange={() => void toggleAll()}
              />
            </div>
            {columns.map((column) => (
              <Head key={column} column={column} {...props} />
            ))}
            <div role="columnheader" className="sticky right-0 -mr-3 h-full bg-muted pr-3">
              <span className="sr-only">Actions</span>
            </div>
          </div>
        )}
        <div role="rowgroup" className="relative" style={{ height: virtual.getTotalSize() }}>
          {items.map((item) => {
            const machine = rows.at(item.index)
            if (!machine) return <Awaited key={item.key} start={item.start} narrow={narrow} />
            const Drawn = narrow ? NarrowRow : Row
            return (
              <Drawn
                key={item.key}
                machine={machine}
                index={item.index}
                start={item.start}
                template={template}
                on={selected.has(machine.id)}
                toggle={toggle}
                columns={columns}
                act={act}
                edit={edit}
              />
            )
          })}
        </div>
      </div>
    </div>
  )
}

/** A row that is on its way. */
function Awaited({ start, narrow }: { start: number; narrow: boolean }) {
  return (
    <div
      aria-hidden
      style={{ height: narrow ? NARROW_ROW : ROW, transform: `translateY(${start}px)` }}
      className="absolute inset-x-0 top-0 flex items-center border-b px-3"
    >
      <span className="h-3 w-1/3 rounded-sm bg-muted" />
    </div>
  )
}

function Head({ column, sort, onSort }: Props & { column: Column }) {
  const sorted = sort.column === column
  const Arrow = sort.descending ? ArrowDown : ArrowUp
  return (
    <div
      role="columnheader"
      aria-sort={sorted ? (sort.descending ? 'descending' : 'ascending') : 'none'}
      className="min-w-0"
    >
      <button
        type="button"
        onClick={() => onSort(column)}
        className={cn(
          'flex h-8 items-center gap-1 text-xs font-medium',
          sorted ? 'text-foreground' : 'text-muted-foreground hover:text-foreground',
        )}
      >
        {HEADS[column].label}
        {sorted ? <Arrow aria-hidden className="size-3" /> : null}
      </button>
    </div>
  )
}

type RowProps = Pick<Props, 'columns' | 'act' | 'edit'> & {
  machine: Machine
  index: number
  start: number
  template: string
  on: boolean
  toggle: (machine: Machine) => void
}

function NameLink({ machine }: { machine: Machine }) {
  const org = useOrg()
  return (
    <Link
      to="/o/$org/machines/$machine"
      params={{ org: org.slug, machine: machine.id }}
      title={machine.name}
      className="truncate font-medium hover:underline"
    >
      {machine.name}
    </Link>
  )
}

function Approve({ machine, act }: Pick<RowProps, 'machine' | 'act'>) {
  const org = useOrg()
  if (machine.state !== 'pending' || !org.may('manage')) return null
  return (
    <Button size="sm" className="h-6" onClick={() => act('approve', [machine])}>
      Approve
      <span className="sr-only"> {machine.name}</span>
    </Button>
  )
}

const Row = memo(function Row(props: RowProps) {
  const { machine, index, start, template, on, toggle, columns, act, edit } = props
  return (
    <div
      role="row"
      aria-rowindex={index + 2}
      aria-selected={on}
      data-index={index}
      style={{
        gridTemplateColumns: template,
        height: ROW,
        transform: `translateY(${start}px)`,
      }}
      className="absolute inset-x-0 top-0 grid items-center gap-x-2 border-b px-3 text-sm hover:bg-muted/50 aria-selected:bg-accent/60"
    >
      <div role="cell" className="flex">
        <Checkbox
          aria-label={`Select ${machine.name}`}
          checked={on}
          onCheckedChange={() => toggle(machine)}
        />
      </div>
      {columns.map((column) => (
        <div role="cell" key={column} className="flex min-w-0 items-center">
          <Cell column={column} machine={machine} />
        </div>
      ))}
      <div
        role="cell"
        className="sticky right-0 -mr-3 flex h-full items-center justify-end gap-1 bg-card pr-3 pl-1"
      >
        <Approve machine={machine} act={act} />
        <MachineMenu machine={machine} act={act} edit={edit} />
      </div>
    </div>
  )
})

const NarrowRow = memo(function NarrowRow(props: RowProps) {
  const { machine, index, start, on, toggle, act, edit } = props
  return (
    <div
      role="row"
      aria-rowindex={index + 2}
      aria-selected={on}
      data-index={index}
      style={{ height: NARROW_ROW, transform: `translateY(${start}px)` }}
      className="absolute inset-x-0 top-0 flex items-center gap-3 border-b px-3 text-sm aria-selected:bg-accent/60"
    >
      <div role="cell" className="flex">
        <Checkbox
          aria-label={`Select ${machine.name}`}
          checked={on}
          onCheckedChange={() => toggle(machine)}
        />
      </div>
      <div role="cell" className="min-w-0 flex-1">
        <div className="flex items-center gap-2">
          <StateDot state={machine.state} />
          <NameLink machine={machine} />
        </div>
        <div className="truncate text-xs text-muted-foreground">
          <span className="font-mono">{machine.ipv4}</span> · {ownerOf(machine)}
        </div>
      </div>
      <div role="cell" className="flex items-center gap-1">
        <Approve machine={machine} act={act} />
        <MachineMenu machine={machine} act={act} edit={edit} />
      </div>
    </div>
  )
})

const NOTHING = <span className="text-muted-foreground">–</span>

/** How many of its tunnels go directly, and how many by relay. */
function Paths({ machine }: { machine: Machine }) {
  const tunnels = tunnelsOf(machine)
  if (!tunnels) return NOTHING
  const { direct, relayed, waiting } = tunnels
  return (
    <span className="figures flex items-center gap-2 text-xs" title={mixText(tunnels)}>
      <span className="sr-only">{mixText(tunnels)}</span>
      {[
        [direct, 'bg-good'] as const,
        [relayed, 'bg-warn'] as const,
        [waiting, 'bg-muted-foreground'] as const,
      ].map(([n, tone]) =>
        n > 0 ? (
          <span key={tone} aria-hidden className="flex items-center gap-1">
            <span className={cn('size-2 rounded-full', tone)} />
            {n}
          </span>
        ) : null,
      )}
    </span>
  )
}

/** Whether its tunnels have post-quantum keys. */
function Keys({ machine }: { machine: Machine }) {
  const tunnels = tunnelsOf(machine)
  if (!tunnels) return NOTHING
  const { post_quantum: good, all } = tunnels
  if (good === all) {
    return (
      <Badge tone="good" title="Every tunnel has a post-quantum key">
        PQ
      </Badge>
    )
  }
  return (
    <Badge tone="warn" title={`${good} of ${all} tunnels have a post-quantum key yet`}>
      {good}/{all}
    </Badge>
  )
}

function Cell({ column, machine }: { column: Column; machine: Machine }) {
  switch (column) {
    case 'name':
      return (
        <span className="flex min-w-0 items-center gap-2">
          <StateDot state={machine.state} />
          <NameLink machine={machine} />
          {machine.ephemeral ? (
            <Timer
              role="img"
              aria-label="Ephemeral: deleted after 30 minutes of silence"
              className="size-3.5 shrink-0 text-muted-foreground"
            />
          ) : null}
        </span>
      )
    case 'state':
      return machine.wipe ? (
        <Badge tone="bad">{machine.wipe.done_at ? 'Wiped' : 'Wiping'}</Badge>
      ) : (
        <StateBadge state={machine.state} />
      )
    case 'owner':
      return machine.user ? (
        <span className="truncate" title={machine.user}>
          {machine.user}
        </span>
      ) : (
        <span className="text-muted-foreground">{ownerOf(machine)}</span>
      )
    case 'address':
      return <span className="figures font-mono text-xs">{machine.ipv4}</span>
    case 'os':
      return (
        <span className="truncate" title={system(machine.os)}>
          {system(machine.os.split('-')[0] ?? machine.os)}
        </span>
      )
    case 'version':
      return <span className="figures">{machine.agent_version}</span>
    case 'tags':
      return machine.tags.length === 0 ? (
        <span className="text-muted-foreground">–</span>
      ) : (
        <span className="flex min-w-0 gap-1 overflow-hidden" title={machine.tags.join(' ')}>
          {machine.tags.map((tag) => (
            <Badge key={tag}>{tag.replace(/^tag:/, '')}</Badge>
          ))}
        </span>
      )
    case 'path':
      return <Paths machine={machine} />
    case 'pq':
      return <Keys machine={machine} />
    case 'posture':
      return POSTURE[machine.posture]
    case 'seen':
      return machine.online ? (
        <span>now</span>
      ) : (
        <span className="truncate text-muted-foreground" title={exact(machine.last_seen)}>
          {ago(machine.last_seen)}
        </span>
      )
    case 'expiry':
      return machine.key_expires_at ? (
        expiresSoon(machine, Date.now()) ? (
          <Badge tone="warn" title={exact(machine.key_expires_at)}>
            {ago(machine.key_expires_at)}
          </Badge>
        ) : (
          <span className="truncate" title={exact(machine.key_expires_at)}>
            {ago(machine.key_expires_at)}
          </span>
        )
      ) : (
        <span className="text-muted-foreground">never</span>
      )
  }
}
