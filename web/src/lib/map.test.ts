import { expect, it } from 'vitest'
import type { Machine } from './machines'
import { allowedLinks, bundles, countPaths, groupsOf, type Link, layout } from './map'

const machine = (id: string, user?: string, tags: string[] = []): Machine => ({
  id,
  name: id,
  dns_name: id,
  os: 'linux-x86_64',
  agent_version: '1',
  wg_key: '',
  ipv4: '100.64.0.1',
  ipv6: 'fd00::1',
  online: true,
  posture: 'none',
  created_at: '',
  state: 'online',
  tags,
  ephemeral: false,
  key_expiry: true,
  user,
})

const all = [machine('b', 'ann'), machine('a', 'ann'), machine('c', undefined, ['tag:web'])]

const regions = new Map([[3, 'Bengaluru']])

it('groups', () => {
  const names = (by: 'owner' | 'tag' | 'system' | 'region') =>
    groupsOf(all, by, regions).map(({ name, machines }) => [
      name,
      machines.map(({ id }) => id).join(''),
    ])
  expect(names('region')).toEqual([['no relay', 'abc']])
  expect(groupsOf([{ ...machine('d'), home_region: 3 }], 'region', regions)[0]?.name).toBe(
    'Bengaluru',
  )
  expect(names('owner')).toEqual([
    ['ann', 'ab'],
    ['tag:web', 'c'],
  ])
  expect(names('tag')).toEqual([
    ['no tag', 'ab'],
    ['tag:web', 'c'],
  ])
  expect(names('system')).toEqual([['linux', 'abc']])
})

it('places every machine within its group, and no two groups on each other', () => {
  const many = Array.from({ length: 120 }, (_, n) => machine(`m${n}`, `u${n % 7}`))
  const groups = groupsOf(many, 'owner', regions)
  const { clusters, places, width, height } = layout(groups, 1.6)
  for (const [index, group] of groups.entries()) {
    const cluster = clusters[index]
    if (!cluster) throw new Error('a cluster is missing')
    for (const { id } of group.machines) {
      const place = places.get(id)
      if (!place) throw new Error('a place is missing')
      expect(Math.hypot(place.x - cluster.x, place.y - cluster.y)).toBeLessThan(cluster.r)
      expect(place.x).toBeGreaterThan(0)
      expect(place.x).toBeLessThan(width)
      expect(place.y).toBeLessThan(height)
    }
    for (const other of clusters.slice(index + 1)) {
      expect(Math.hypot(other.x - cluster.x, other.y - cluster.y)).toBeGreaterThan(
        other.r + cluster.r,
      )
    }
  }
})

it('bundles what runs between groups, and counts what goes by relay', () => {
  const links: Link[] = [
    { a: 'a', b: 'c', path: 'direct' },
    { a: 'c', b: 'b', path: 'relay' },
    { a: 'a', b: 'b', path: 'direct' },
    { a: 'c', b: 'gone' },
  ]
  expect(bundles(groupsOf(all, 'owner', regions), links)).toEqual([
    { from: 'ann', to: 'tag:web', count: 2, relayed: 1 },
  ])
})

it('draws both directions of what is allowed as one', () => {
  const pairs = [
    { src: 'a', dst: 'b' },
    { src: 'b', dst: 'a' },
    { src: 'b', dst: 'c' },
  ]
  expect(allowedLinks(pairs)).toHaveLength(2)
})

it('counts tunnels by their paths', () => {
  const tunnel = { machine: 'a', peer: 'b', reported_at: '', post_quantum: true, epoch: 1 }
  const counted = countPaths(
    [
      { ...tunnel, path: 'direct' },
      { ...tunnel, path: 'relay', region: 3 },
      { ...tunnel, path: 'relay', region: 4 },
      { ...tunnel, path: 'relay', region: 3 },
      { ...tunnel, path: 'none' },
    ],
    regions,
  )
  expect(counted).toEqual({
    direct: 1,
    relayed: 3,
    waiting: 1,
    by: [
      ['Bengaluru', 2],
      ['region 4', 1],
    ],
  })
})
