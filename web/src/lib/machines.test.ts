import { describe, expect, it } from 'vitest'
import {
  actionsFor,
  expiresSoon,
  facets,
  filterMachines,
  type Machine,
  matches,
  nameFault,
  type Posture,
  postureStanding,
  sortMachines,
} from './machines'

function machine(name: string, more: Partial<Machine> = {}): Machine {
  return {
    id: name,
    name,
    dns_name: `${name}.demo.ztna.internal`,
    os: 'linux-x86_64',
    agent_version: '0.1.0',
    wg_key: 'key',
    ipv4: '100.64.0.1',
    ipv6: 'fd00::1',
    online: true,
    posture: 'none',
    created_at: '2026-01-01T00:00:00Z',
    state: 'online',
    tags: [],
    ephemeral: false,
    key_expiry: true,
    user: 'ann@demo.example',
    ...more,
  }
}

function posture(id: string, failing: boolean, current = true): Posture {
  return {
    machine: id,
    name: id,
    current,
    results: [
      {
        policy: 'p',
        name: 'p',
        on_failure: 'warn',
        checks: [],
        failing_since: failing ? '2026-01-01T00:00:00Z' : undefined,
      },
    ],
  }
}

const names = (list: Machine[]) => list.map(({ name }) => name)

describe('matches', () => {
  it('finds every word somewhere', () => {
    const web = machine('web-1', { tags: ['tag:web'], ipv4: '100.64.0.9' })
    expect(matches(web, 'WEB 100.64.0.9')).toBe(true)
    expect(matches(web, 'ann linux')).toBe(true)
    expect(matches(web, 'web ben')).toBe(false)
    expect(matches(web, '  ')).toBe(true)
  })
})

describe('filterMachines', () => {
  const all = [
    machine('a', { state: 'pending' }),
    machine('b', { tags: ['tag:web'], os: 'windows-x86_64' }),
    machine('c', { tags: ['tag:db'] }),
  ]
  const filters = { text: '', states: [], systems: [], tags: [], posture: [] }
  it('lets all through without filters', () => {
    expect(names(filterMachines(all, filters))).toEqual(['a', 'b', 'c'])
  })
  it('joins kinds by and, values by or', () => {
    expect(names(filterMachines(all, { ...filters, tags: ['tag:web', 'tag:db'] }))).toEqual([
      'b',
      'c',
    ])
    expect(
      names(filterMachines(all, { ...filters, tags: ['tag:web'], systems: ['linux'] })),
    ).toEqual([])
    expect(names(filterMachines(all, { ...filters, states: ['pending'] }))).toEqual(['a'])
  })
  it('knows postures', () => {
    const some = [machine('a'), machine('b', { posture: 'failing' })]
    expect(names(filterMachines(some, { ...filters, posture: ['failing'] }))).toEqual(['b'])
  })
})

describe('sortMachines', () => {
  it('counts numbers in names and addresses', () => {
    const all = [
      machine('web-10', { ipv4: '100.64.0.2' }),
      machine('web-9', { ipv4: '100.64.0.10' }),
    ]
    expect(names(sortMachines(all, 'name', false))).toEqual(['web-9', 'web-10'])
    expect(names(sortMachines(all, 'address', false))).toEqual(['web-10', 'web-9'])
  })
  it('puts what is missing last, either way', () => {
    const all = [machine('a', { user: undefined }), machine('b'), machine('c', { user: 'zoe@x' })]
    expect(names(sortMachines(all, 'owner', false))).toEqual(['b', 'c', 'a'])
    expect(names(sortMachines(all, 'owner', true))).toEqual(['c', 'b', 'a'])
  })
  it('falls back on names', () => {
    const all = [machine('b'), machine('a')]
    expect(names(sortMachines(all, 'os', true))).toEqual(['a', 'b'])
  })
  it('does not touch what it is given', () => {
    const all = [machine('b'), machine('a')]
    sortMachines(all, 'name', false)
    expect(names(all)).toEqual(['b', 'a'])
  })
})

it('counts facets', () => {
  const all = [machine('a', { tags: ['tag:x', 'tag:y'] }), machine('b', { tags: ['tag:x'] })]
  expect(facets(all)).toEqual({
    systems: [['linux', 2]],
    tags: [
      ['tag:x', 2],
      ['tag:y', 1],
    ],
  })
})

it('tells postures apart', () => {
  expect(postureStanding(undefined)).toBe('none')
  expect(postureStanding({ ...posture('a', false), results: [] })).toBe('none')
  expect(postureStanding(posture('a', true, false))).toBe('failing')
  expect(postureStanding(posture('a', false, false))).toBe('stale')
  expect(postureStanding(posture('a', false))).toBe('passing')
})

it('warns of sign-ins that end', () => {
  const now = Date.parse('2026-01-01T00:00:00Z')
  expect(expiresSoon(machine('a', { key_expires_at: '2026-01-20T00:00:00Z' }), now)).toBe(true)
  expect(expiresSoon(machine('a', { key_expires_at: '2026-06-20T00:00:00Z' }), now)).toBe(false)
  expect(expiresSoon(machine('a'), now)).toBe(false)
})

describe('actionsFor', () => {
  const admin = { manage: true, email: 'boss@demo.example' }
  const ann = { manage: false, email: 'ann@demo.example' }
  it('follows the state', () => {
    expect(actionsFor(machine('a', { state: 'pending' }), admin)).toEqual(['approve', 'deny'])
    expect(actionsFor(machine('a', { state: 'locked' }), admin)).toContain('unlock')
    expect(actionsFor(machine('a', { state: 'disabled' }), admin)).not.toContain('disable')
  })
  it('lets members lock their own, and nothing else', () => {
    expect(actionsFor(machine('a'), ann)).toEqual(['lock'])
    expect(actionsFor(machine('a', { state: 'locked' }), ann)).toEqual([])
    expect(actionsFor(machine('a', { user: 'ben@demo.example' }), ann)).toEqual([])
  })
  it('leaves a machine alone that is wiped', () => {
    const wiped = machine('a', { wipe: { asked_at: '2026-01-01T00:00:00Z' } })
    expect(actionsFor(wiped, admin)).toEqual([])
  })
})

describe('nameFault', () => {
  it.each(['web', 'web-1', '1', 'a'.repeat(63)])('takes %s', (name) => {
    expect(nameFault(name)).toBeNull()
  })
  it.each(['', 'Web', 'web.1', '-web', 'web-', 'a'.repeat(64), 'ü'])('refuses %s', (name) => {
    expect(nameFault(name)).not.toBeNull()
  })
})
