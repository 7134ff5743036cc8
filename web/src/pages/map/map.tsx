import { useQuery } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { ArrowRight } from 'lucide-react'
import { useMemo } from 'react'
import { connectionsQuery, machinesQuery, reachQuery, relaysQuery } from '@/api/queries'
import { Empty, Page, Ready } from '@/components/page'
import { STATES, StateBadge, StateDot } from '@/components/state'
import { Button } from '@/components/ui/button'
import { NativeSelect } from '@/components/ui/native-select'
import type { Connection, Regions } from '@/lib/connections'
import { count } from '@/lib/format'
import type { Machine } from '@/lib/machines'
import { type By, between, groupsOf, layout } from '@/lib/map'
import { useOrg } from '@/lib/org'
import { neighbours, type Pair } from '@/lib/reach'

const route = getRouteApi('/signed-in/o/$org/map')

/** Beyond so many machines the map shows groups alone. */
const EACH = 300
const RATIO = 1.7
/** The least that the drawing shows, in its own units, which are the screen's at this width. */
const SMALLEST = { width: 760, height: 480 }

const BY: ReadonlyArray<readonly [By, string]> = [
  ['owner', 'owner or tag'],
  ['tag', 'tag'],
  ['system', 'system'],
  ['region', 'home relay'],
]

const FILL: Record<Machine['state'], string> = {
  online: 'fill-good',
  offline: 'fill-card stroke-muted-foreground',
  pending: 'fill-warn',
  expired: 'fill-warn',
  quarantined: 'fill-bad',
  locked: 'fill-bad',
  disabled: 'fill-bad',
}

export default function MapPage() {
  const org = useOrg()
  const search = route.useSearch()
  const navigate = route.useNavigate()
  const machines = useQuery(machinesQuery(org.id))
  const reach = useQuery(reachQuery(org.id))
  const by = BY.find(([name]) => name === search.by)?.[0] ?? 'owner'
  const chosen = machines.data?.find(({ id }) => id === search.at)
  const { data: relays } = useQuery(relaysQuery(org.id))
  const regions = useMemo(
    () => new Map(relays?.regions.map((region) => [region.id, region.name])),
    [relays],
  )
  const tunnels = useQuery({
    ...connectionsQuery(org.id, chosen?.id ?? ''),
    enabled: chosen !== undefined,
  })
  const paths = useMemo(
    () => new Map(chosen ? tunnels.data?.connections.map((one) => [one.peer, one]) : []),
    [chosen, tunnels.data],
  )
  const choose = (id: string | undefined) =>
    void navigate({
      search: (old) => ({ ...old, at: id === search.at ? undefined : id }),
      replace: true,
    })
  return (
    <Page
      wide
      title="Map"
      lead="Who may open something towards whom, as the policy stands now. Choose a machine to see its own reach and its tunnels."
      actions={
        <span className="flex items-center gap-2 text-sm whitespace-nowrap text-muted-foreground">
          Grouped by
          <NativeSelect
            aria-label="Grouped by"
            className="w-36"
            value={by}
            onChange={(event) =>
              void navigate({
                search: (old) => ({ ...old, by: event.target.value }),
                replace: true,
              })
            }
          >
            {BY.map(([value, label]) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </NativeSelect>
        </span>
      }
    >
      <Ready query={machines} rows={12}>
        {(list) =>
          list.length === 0 ? (
            <Empty
              title="The map is empty"
              action={
                <Button asChild>
                  <Link to="/o/$org/machines" params={{ org: org.slug }}>
                    Add the first machine
                  </Link>
                </Button>
              }
            >
              Machines appear here as they come in.
            </Empty>
          ) : (
            <div className="grid items-start gap-4 xl:grid-cols-[minmax(0,1fr)_20rem]">
              <div className="rounded-lg border bg-card">
                <Drawing
                  machines={list}
                  pairs={reach.data?.pairs ?? []}
                  by={by}
                  regions={regions}
                  paths={paths}
                  chosen={chosen?.id}
                  choose={choose}
                />
                <Legend machines={list} paths={paths} />
              </div>
              <aside aria-label="Reach" className="flex min-w-0 flex-col gap-3">
                <Ready query={reach} rows={4}>
                  {(pairs) =>
                    chosen ? (
                      <Chosen
                        machine={chosen}
                        machines={list}
                        pairs={pairs.pairs}
                        choose={choose}
                      />
                    ) : (
                      <p className="rounded-lg border border-dashed p-4 text-muted-foreground">
                        {count(pairs.count, 'pair')} of machines may open something.
                        {pairs.count > pairs.pairs.length
                          ? ` The server names the first ${pairs.pairs.length.toLocaleString('en')}, which are drawn.`
                          : ''}
                      </p>
                    )
                  }
                </Ready>
              </aside>
            </div>
          )
        }
      </Ready>
    </Page>
  )
}

function Drawing({
  machines,
  pairs,
  by,
  regions,
  paths,
  chosen,
  choose,
}: {
  machines: Machine[]
  pairs: Pair[]
  by: By
  regions: Regions
  paths: ReadonlyMap<string, Connection>
  chosen: string | undefined
  choose: (id: string) => void
}) {
  const each = machines.length <= EACH
  const groups = useMemo(() => groupsOf(machines, by, regions), [machines, by, regions])
  const plan = useMemo(() => layout(groups, RATIO), [groups])
  const links = useMemo(() => {
    if (!each) {
      const at = new Map(plan.clusters.map((cluster) => [cluster.name, cluster]))
      return between(groups, pairs).flatMap(({ from, to, count: n }) => {
        const a = at.get(from)
        const b = at.get(to)
        return a && b && a !== b
          ? [{ key: `${from}→${to}`, a, b, own: false, weight: n, path: undefined }]
          : []
      })
    }
    // One line for both directions.
    const seen = new Set<string>()
    return pairs.flatMap(({ src, dst }) => {
      const key = src < dst ? src + dst : dst + src
      const a = plan.places.get(src)
      const b = plan.places.get(dst)
      if (!a || !b || seen.has(key)) return []
      seen.add(key)
      const own = src === chosen || dst === chosen
      const path = own ? paths.get(src === chosen ? dst : src)?.path : undefined
      return [{ key, a, b, own, weight: 1, path }]
    })
  }, [each, groups, pairs, plan, chosen, paths])
  const near = useMemo(() => {
    if (!chosen) return null
    const { out, into } = neighbours(pairs, chosen)
    return new Set([chosen, ...out, ...into])
  }, [pairs, chosen])
  // Few machines are not drawn larger than many.
  const width = Math.max(plan.width, SMALLEST.width)
  const height = Math.max(plan.height, SMALLEST.height)
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset cannot be a drawing
    <svg
      role="group"
      aria-label={`Map of ${count(machines.length, 'machine')}`}
      viewBox={`${(plan.width - width) / 2} ${(plan.height - height) / 2} ${width} ${height}`}
      className="max-h-[70dvh] w-full select-none"
    >
      {plan.clusters.map((cluster) => (
        <g key={cluster.name}>
          <circle
            cx={cluster.x}
            cy={cluster.y}
            r={cluster.r}
            className="fill-muted/60 stroke-border"
          />
          <text
            x={cluster.x}
            y={cluster.y - cluster.r - 8}
            textAnchor="middle"
            className="fill-muted-foreground text-[13px]"
          >
            {cluster.name.length > 34 ? `${cluster.name.slice(0, 33)}…` : cluster.name}
            {` · ${cluster.size}`}
          </text>
        </g>
      ))}
      {links.map(({ key, a, b, own, weight, path }) => (
        <line
          key={key}
          x1={a.x}
          y1={a.y}
          x2={b.x}
          y2={b.y}
          className={own ? LINES[path ?? 'none'] : 'stroke-muted-foreground'}
          strokeDasharray={path === 'relay' ? '7 5' : undefined}
          strokeWidth={own ? (path ? 2.6 : 1.4) : Math.min(1 + Math.log2(weight), 6)}
          opacity={own ? 0.9 : chosen ? 0.06 : 0.2}
        />
      ))}
      {each
        ? machines.map((machine) => {
            const place = plan.places.get(machine.id)
            if (!place) return null
            const dim = near !== null && !near.has(machine.id)
            return (
              // biome-ignore lint/a11y/useSemanticElements: a drawing has no buttons of the browser's
              <g
                key={machine.id}
                role="button"
                tabIndex={0}
                aria-pressed={machine.id === chosen}
                aria-label={`${machine.name}, ${STATES[machine.state].label}`}
                className="cursor-pointer outline-none [&:focus-visible>circle]:stroke-ring [&:focus-visible>circle]:stroke-[3px]"
                opacity={dim ? 0.25 : 1}
                onClick={() => choose(machine.id)}
                onKeyDown={(event) => {
                  if (event.key !== 'Enter' && event.key !== ' ') return
                  event.preventDefault()
                  choose(machine.id)
                }}
              >
                <title>{`${machine.name} · ${machine.ipv4} · ${STATES[machine.state].label}`}</title>
                <circle cx={place.x} cy={place.y} r={12} fill="transparent" />
                <circle
                  cx={place.x}
                  cy={place.y}
                  r={machine.id === chosen ? 9 : 7}
                  strokeWidth={1.5}
                  className={FILL[machine.state]}
                />
                {machines.length <= 60 || near?.has(machine.id) ? (
                  <text
                    x={place.x}
                    y={place.y + 20}
                    textAnchor="middle"
                    className="pointer-events-none fill-foreground text-[10px]"
                  >
                    {machine.name.length > 16 ? `${machine.name.slice(0, 15)}…` : machine.name}
                  </text>
                ) : null}
              </g>
            )
          })
        : null}
    </svg>
  )
}

const LINES: Record<Connection['path'], string> = {
  direct: 'stroke-good',
  relay: 'stroke-warn',
  none: 'stroke-muted-foreground',
}

const KINDS = [
  ['direct', 'direct tunnel'],
  ['relay', 'tunnel by relay'],
  ['none', 'allowed, no tunnel now'],
] as const

function Legend({
  machines,
  paths,
}: {
  machines: Machine[]
  paths: ReadonlyMap<string, Connection>
}) {
  const here = new Set(machines.map(({ state }) => state))
  return (
    <ul className="flex flex-wrap gap-x-4 gap-y-1 border-t px-4 py-2 text-xs text-muted-foreground">
      {(Object.keys(STATES) as Machine['state'][])
        .filter((state) => here.has(state))
        .map((state) => (
          <li key={state} className="flex items-center gap-1.5">
            <StateDot state={state} /> {STATES[state].label}
          </li>
        ))}
      {paths.size === 0
        ? null
        : KINDS.map(([path, label]) => (
            <li key={path} className="flex items-center gap-1.5">
              <svg aria-hidden viewBox="0 0 24 8" className="h-2 w-6">
                <line
                  x1={0}
                  y1={4}
                  x2={24}
                  y2={4}
                  strokeWidth={2.6}
                  strokeDasharray={path === 'relay' ? '7 5' : undefined}
                  className={LINES[path]}
                />
              </svg>
              {label}
            </li>
          ))}
    </ul>
  )
}

function Chosen({
  machine,
  machines,
  pairs,
  choose,
}: {
  machine: Machine
  machines: Machine[]
  pairs: Pair[]
  choose: (id: string) => void
}) {
  const org = useOrg()
  const names = useMemo(() => new Map(machines.map((one) => [one.id, one])), [machines])
  const { out, into } = neighbours(pairs, machine.id)
  return (
    <section className="rounded-lg border bg-card">
      <header className="flex items-center justify-between gap-2 border-b px-4 py-2">
        <h2 className="min-w-0 truncate font-semibold">
          <Link
            to="/o/$org/machines/$machine"
            params={{ org: org.slug, machine: machine.id }}
            className="hover:underline"
          >
            {machine.name}
          </Link>
        </h2>
        <StateBadge state={machine.state} />
      </header>
      <div className="flex max-h-[60dvh] flex-col gap-3 overflow-y-auto p-4">
        <Side title="May reach" ids={out} names={names} choose={choose} from={machine.name} />
        <Side
          title="May be reached by"
          ids={into}
          names={names}
          choose={choose}
          to={machine.name}
        />
      </div>
    </section>
  )
}

function Side({
  title,
  ids,
  names,
  choose,
  from,
  to,
}: {
  title: string
  ids: string[]
  names: ReadonlyMap<string, Machine>
  choose: (id: string) => void
  from?: string
  to?: string
}) {
  const org = useOrg()
  return (
    <div>
      <h3 className="mb-1 text-xs text-muted-foreground">
        {title} ({ids.length})
      </h3>
      {ids.length === 0 ? <p className="text-sm">no machine</p> : null}
      <ul className="flex flex-col">
        {ids.map((id) => {
          const peer = names.get(id)
          if (!peer) return null
          return (
            <li key={id} className="flex items-center gap-2 text-sm">
              <StateDot state={peer.state} />
              <button
                type="button"
                className="min-w-0 flex-1 truncate py-0.5 text-left hover:underline"
                onClick={() => choose(id)}
              >
                {peer.name}
              </button>
              <Link
                to="/o/$org/policy"
                params={{ org: org.slug }}
                search={{
                  tab: 'ask',
                  src: from ?? peer.name,
                  dst: to ?? peer.name,
                  protocol: 'icmp',
                }}
                className="link flex items-center gap-1 text-xs"
              >
                why <ArrowRight className="size-3" />
                <span className="sr-only">
                  {from ?? peer.name} may reach {to ?? peer.name}
                </span>
              </Link>
            </li>
          )
        })}
      </ul>
    </div>
  )
}
