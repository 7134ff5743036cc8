/** Where machines stand on the map: pure, and the same for the same machines. */
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

/** Pairs between groups, counted; within a group too. */
export function between(
  groups: readonly Group[],
  pairs: readonly Pair[],
): Array<{ from: string; to: string; count: number }> {
  const of = new Map(groups.flatMap(({ name, machines }) => machines.map(({ id }) => [id, name])))
  const counts = new Map<string, { from: string; to: string; count: number }>()
  for (const { src, dst } of pairs) {
    const from = of.get(src)
    const to = of.get(dst)
    if (!from || !to) continue
    const key = `${from}\n${to}`
    const entry = counts.get(key)
    if (entry) entry.count += 1
    else counts.set(key, { from, to, count: 1 })
  }
  return [...counts.values()]
}
