import { useMemo } from 'react'
import { STATES, StateDot } from '@/components/state'
import type { Regions } from '@/lib/connections'
import { count } from '@/lib/format'
import type { Machine } from '@/lib/machines'
import { type Bundle, type By, bundles, groupsOf, type Link, layout, type Path } from '@/lib/map'

/** Beyond so many machines the map shows groups alone. */
export const EACH = 300
/** Beyond so many links, those between groups are drawn as one each. */
const BUNDLED = 250
/** Names of up to so many machines are written. */
const NAMED = 60
const RATIO = 1.7
/** The least that the drawing shows, in its own units, which are the screen's at this width. */
const SMALLEST = { width: 760, height: 480 }

const FILL: Record<Machine['state'], string> = {
  online: 'fill-good',
  offline: 'fill-card stroke-muted-foreground',
  pending: 'fill-warn',
  expired: 'fill-warn',
  quarantined: 'fill-bad',
  locked: 'fill-bad',
  disabled: 'fill-bad',
}

const LINES: Record<Path | 'allowed', string> = {
  direct: 'stroke-good',
  relay: 'stroke-warn',
  none: 'stroke-muted-foreground',
  allowed: 'stroke-muted-foreground',
}

const DASHES: Partial<Record<Path | 'allowed', string>> = { relay: '7 5', none: '2 4' }

export function Drawing({
  machines,
  links,
  by,
  regions,
  chosen,
  choose,
}: {
  machines: Machine[]
  /** Where a machine is chosen, its own are what is looked at. */
  links: Link[]
  by: By
  regions: Regions
  chosen: string | undefined
  choose: (id: string) => void
}) {
  const each = machines.length <= EACH
  const groups = useMemo(() => groupsOf(machines, by, regions), [machines, by, regions])
  const plan = useMemo(() => layout(groups, RATIO), [groups])
  const own = useMemo(
    () => (chosen ? links.filter(({ a, b }) => a === chosen || b === chosen) : []),
    [links, chosen],
  )
  const bundled = !each || links.length > BUNDLED
  const near = useMemo(
    () => (chosen ? new Set([chosen, ...own.flatMap(({ a, b }) => [a, b])]) : null),
    [chosen, own],
  )
  const inGroup = useMemo(() => {
    const of = new Map(groups.flatMap(({ name, machines }) => machines.map(({ id }) => [id, name])))
    return links.filter(({ a, b }) => !bundled || of.get(a) === of.get(b))
  }, [groups, links, bundled])
  // Few machines are not drawn larger than many.
  const width = Math.max(plan.width, SMALLEST.width)
  const height = Math.max(plan.height, SMALLEST.height)
  const line = (link: Link, on: boolean) => {
    const [a, b] = [plan.places.get(link.a), plan.places.get(link.b)]
    if (!a || !b) return null
    const kind = link.path ?? 'allowed'
    return (
      <line
        key={`${link.a} ${link.b} ${kind}`}
        x1={a.x}
        y1={a.y}
        x2={b.x}
        y2={b.y}
        className={LINES[kind]}
        strokeDasharray={DASHES[kind]}
        strokeWidth={on && link.path ? 2.6 : 1.3}
        opacity={on ? 0.9 : chosen ? 0.06 : link.path ? 0.55 : 0.2}
      />
    )
  }
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
      {bundled ? (
        <Bundles
          list={bundles(groups, links)}
          at={new Map(plan.clusters.map((cluster) => [cluster.name, cluster]))}
          dim={chosen !== undefined}
        />
      ) : null}
      {each ? inGroup.map((link) => (own.includes(link) ? null : line(link, false))) : null}
      {each ? own.map((link) => line(link, true)) : null}
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
                {machines.length <= NAMED || near?.has(machine.id) ? (
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

/** All links between two groups as one, as wide as they are many, with how many go by relay. */
function Bundles({
  list,
  at,
  dim,
}: {
  list: Bundle[]
  at: ReadonlyMap<string, { x: number; y: number; r: number }>
  dim: boolean
}) {
  return list.map(({ from, to, count: n, relayed }) => {
    const [a, b] = [at.get(from), at.get(to)]
    if (!a || !b) return null
    const far = Math.hypot(b.x - a.x, b.y - a.y) || 1
    // From edge to edge.
    const [dx, dy] = [(b.x - a.x) / far, (b.y - a.y) / far]
    const ends = {
      x1: a.x + dx * a.r,
      y1: a.y + dy * a.r,
      x2: b.x - dx * b.r,
      y2: b.y - dy * b.r,
    }
    const wide = Math.min(1.5 + Math.log2(n), 8)
    return (
      <g key={`${from}\n${to}`} opacity={dim ? 0.15 : 0.7}>
        <title>{`${from} and ${to}: ${n}${relayed > 0 ? `, ${relayed} by relay` : ''}`}</title>
        <line {...ends} className="stroke-good" strokeWidth={wide} />
        {relayed > 0 ? (
          <line
            {...ends}
            className="stroke-warn"
            strokeWidth={Math.max(1.5, (wide * relayed) / n)}
            strokeDasharray="7 5"
          />
        ) : null}
      </g>
    )
  })
}

const KINDS = [
  ['direct', 'direct tunnel'],
  ['relay', 'tunnel by relay'],
  ['none', 'tunnel without a path now'],
  ['allowed', 'allowed, no tunnel now'],
] as const

/** What is drawn, and nothing that is not. */
export function Legend({ machines, links }: { machines: Machine[]; links: readonly Link[] }) {
  const here = new Set(machines.map(({ state }) => state))
  const drawn = new Set(links.map(({ path }) => path ?? 'allowed'))
  return (
    <ul
      aria-label="Legend"
      className="flex flex-wrap gap-x-4 gap-y-1 border-t px-4 py-2 text-xs text-muted-foreground"
    >
      {(Object.keys(STATES) as Machine['state'][])
        .filter((state) => here.has(state))
        .map((state) => (
          <li key={state} className="flex items-center gap-1.5">
            <StateDot state={state} /> {STATES[state].label}
          </li>
        ))}
      {KINDS.filter(([kind]) => drawn.has(kind)).map(([kind, label]) => (
        <li key={kind} className="flex items-center gap-1.5">
          <svg aria-hidden viewBox="0 0 24 8" className="h-2 w-6">
            <line
              x1={0}
              y1={4}
              x2={24}
              y2={4}
              strokeWidth={2.6}
              strokeDasharray={DASHES[kind]}
              className={LINES[kind]}
            />
          </svg>
          {label}
        </li>
      ))}
    </ul>
  )
}
