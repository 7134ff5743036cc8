/** Where machines stand on the map: pure, and the same for the same machines. */
import type { Schemas } from '@/api/client'
import type { Regions } from './connections'
import type { Machine } from './machines'
import type { Pair } from './reach'

export type By = 'owner' | 'tag' | 'system' | 'region'

export interface Group {
  name: string
  machines: Machine[]
}

export interface Placed {
  id: string
  x: number
  y: number
}

export interface Cluster {
  name: string
  x: number
  y: number
  r: number
  size: number
}

export interface Layout {
  width: number
  height: number
  clusters: Cluster[]
  places: ReadonlyMap<string, Placed>
}

function groupOf(machine: Machine, by: By, regions: Regions): string {
  switch (by) {
    case 'owner':
      return machine.user ?? (machine.tags.length > 0 ? machine.tags.join(' ') : 'no owner')
    case 'tag':
      return machine.tags.join(' ') || 'no tag'
    case 'system':
      return machine.os.split('-')[0] ?? machine.os
    case 'region': {
      const { home_region: id } = machine
      return id == null ? 'no relay' : (regions.get(id) ?? `region ${id}`)
    }
  }
}

export function groupsOf(machines: readonly Machine[], by: By, regions: Regions): Group[] {
  const groups = new Map<string, Machine[]>()
  for (const machine of machines) {
    const name = groupOf(machine, by, regions)
    const list = groups.get(name)
    if (list) list.push(machine)
    else groups.set(name, [machine])
  }
  return [...groups]
    .map(([name, list]) => ({
      name,
      machines: list.sort((a, b) => (a.name < b.name ? -1 : 1)),
    }))
    .sort((a, b) => b.machines.length - a.machines.length || (a.name < b.name ? -1 : 1))
}

/** Distance between machines of a group. */
const STEP = 34
/** Between groups. */
const GAP = 56
/** So a sunflower spreads its seeds evenly (Vogel 1979). */
const GOLDEN = Math.PI * (3 - Math.sqrt(5))

/** Groups in rows that fill a shape of `ratio`, machines within a group as seeds of a sunflower. */
export function layout(groups: readonly Group[], ratio: number): Layout {
  const sized = groups.map((group) => ({
    group,
    r: STEP * Math.sqrt(group.machines.length) + STEP,
  }))
  const area = sized.reduce((sum, { r }) => sum + (2 * r + GAP) ** 2, 0)
  const widest = Math.max(0, ...sized.map(({ r }) => 2 * r + GAP))
  const width = Math.max(Math.sqrt(area * ratio), widest)
  const clusters: Cluster[] = []
  const places = new Map<string, Placed>()
  let x = 0
  let y = 0
  let row = 0
  for (const { group, r } of sized) {
    const side = 2 * r + GAP
    if (x > 0 && x + side > width + 1) {
      x = 0
      y += row
      row = 0
    }
    const centre = { x: x + side / 2, y: y + side / 2 }
    clusters.push({ name: group.name, ...centre, r, size: group.machines.length })
    group.machines.forEach((machine, n) => {
      const distance = group.machines.length === 1 ? 0 : STEP * Math.sqrt(n + 0.5)
      places.set(machine.id, {
        id: machine.id,
        x: centre.x + distance * Math.cos(n * GOLDEN),
        y: centre.y + distance * Math.sin(n * GOLDEN),
      })
    })
    x += side
    row = Math.max(row, side)
  }
  return { width: Math.max(width, 1), height: Math.max(y + row, 1), clusters, places }
}

export type Path = Schemas['ConnectionPath']

/** A tunnel, or what the policy allows where there is none. */
export interface Link {
  a: string
  b: string
  /** How packets go; `undefined`: no tunnel. */
  path?: Path
  latency?: number | null
}

/** Tunnels between machines of the map; each once, as one of its ends told of it. */
export function tunnelLinks(tunnels: readonly Schemas['OrgTunnel'][]): Link[] {
  return tunnels.map(({ machine, peer, path, latency_ms }) => ({
    a: machine,
    b: peer,
    path,
    latency: latency_ms,
  }))
}

/** What the policy allows, one link for both directions. */
export function allowedLinks(pairs: readonly Pair[]): Link[] {
  const links = new Map<string, Link>()
  for (const { src: a, dst: b } of pairs) links.set(a < b ? `${a} ${b}` : `${b} ${a}`, { a, b })
  return [...links.values()]
}

export interface Bundle {
  from: string
  to: string
  count: number
  relayed: number
}

/** Links between different groups, counted: of many, a reader sees no single one. */
export function bundles(groups: readonly Group[], links: readonly Link[]): Bundle[] {
  const of = new Map(groups.flatMap(({ name, machines }) => machines.map(({ id }) => [id, name])))
  const found = new Map<string, Bundle>()
  for (const { a, b, path } of links) {
    const [from, to] = [of.get(a), of.get(b)].sort()
    if (from === undefined || to === undefined || from === to) continue
    const key = `${from}\n${to}`
    const bundle = found.get(key) ?? { from, to, count: 0, relayed: 0 }
    bundle.count += 1
    if (path === 'relay') bundle.relayed += 1
    found.set(key, bundle)
  }
  return [...found.values()]
}

/** How many tunnels go which way, and which relays carry the others. */
export function countPaths(
  tunnels: readonly Schemas['OrgTunnel'][],
  regions: Regions,
): { direct: number; relayed: number; waiting: number; by: Array<[string, number]> } {
  const by = new Map<string, number>()
  let [direct, relayed, waiting] = [0, 0, 0]
  for (const { path, region } of tunnels) {
    if (path === 'direct') direct += 1
    else if (path === 'relay') {
      relayed += 1
      const name = region == null ? 'a relay' : (regions.get(region) ?? `region ${region}`)
      by.set(name, (by.get(name) ?? 0) + 1)
    } else waiting += 1
  }
  return { direct, relayed, waiting, by: [...by].sort((a, b) => b[1] - a[1]) }
}
