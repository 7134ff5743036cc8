/** Searching, filtering and sorting machines: pure, and quick enough for ten thousand of them. */
import type { Schemas } from '@/api/client'

export type Machine = Schemas['Machine']
export type Posture = Schemas['MachinePosture']

/** What static peers are said to run. */
export const STATIC_OS = 'wireguard'

/** How a machine stands with the org's posture policies. */
export type PostureStanding = Schemas['PostureStanding']

export function postureStanding(posture: Posture | undefined): PostureStanding {
  if (!posture || posture.results.length === 0) return 'none'
  if (posture.results.some((result) => result.failing_since)) return 'failing'
  return posture.current ? 'passing' : 'stale'
}

/** How a machine's tunnels go, counted; `null`: it has none, told of none lately, or is not there. */
export function tunnelsOf(machine: Machine): (Schemas['TunnelMix'] & { all: number }) | null {
  const { tunnels } = machine
  if (!tunnels || !machine.online) return null
  const all = tunnels.direct + tunnels.relayed + tunnels.waiting
  return all > 0 ? { ...tunnels, all } : null
}

/** As in `2 direct, 1 by relay`. */
export function mixText({ direct, relayed, waiting }: Schemas['TunnelMix']): string {
  const parts = [
    direct > 0 ? `${direct} direct` : '',
    relayed > 0 ? `${relayed} by relay` : '',
    waiting > 0 ? `${waiting} without a path` : '',
  ]
  return parts.filter(Boolean).join(', ')
}

/** What stands in the owner's column. */
export function ownerOf(machine: Machine): string {
  return machine.user ?? (machine.tags.length > 0 ? 'tagged' : 'auth key')
}

function haystack(machine: Machine): string {
  return [
    machine.name,
    machine.dns_name,
    machine.ipv4,
    machine.ipv6,
    machine.user ?? '',
    machine.os,
    ...machine.tags,
  ]
    .join('\n')
    .toLowerCase()
}

/** Whether every word of a search is somewhere in what is known of a machine. */
export function matches(machine: Machine, text: string): boolean {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean)
  const hay = haystack(machine)
  return words.every((word) => hay.includes(word))
}

export interface Filters {
  text: string
  states: readonly string[]
  systems: readonly string[]
  tags: readonly string[]
  posture: readonly string[]
}

const systemOf = (machine: Machine) => machine.os.split('-')[0] ?? machine.os

export function filterMachines(machines: readonly Machine[], filters: Filters): Machine[] {
  const { text, states, systems, tags, posture } = filters
  return machines.filter(
    (machine) =>
      (states.length === 0 || states.includes(machine.state)) &&
      (systems.length === 0 || systems.includes(systemOf(machine))) &&
      (tags.length === 0 || tags.some((tag) => machine.tags.includes(tag))) &&
      (posture.length === 0 || posture.includes(machine.posture)) &&
      (text === '' || matches(machine, text)),
  )
}

export const COLUMNS = [
  'name',
  'state',
  'owner',
  'address',
  'os',
  'version',
  'tags',
  'path',
  'pq',
  'posture',
  'seen',
  'expiry',
] as const
export type Column = (typeof COLUMNS)[number]

const collator = new Intl.Collator('en', { numeric: true, sensitivity: 'base' })

const STATE_ORDER: readonly Schemas['MachineState'][] = [
  'pending',
  'quarantined',
  'locked',
  'disabled',
  'expired',
  'online',
  'offline',
]

const POSTURE_ORDER: readonly PostureStanding[] = ['failing', 'stale', 'none', 'passing']

function addressNumber(ipv4: string): number {
  return ipv4.split('.').reduce((number, part) => number * 256 + Number(part), 0)
}

/** The value by which a column sorts; `null` sorts last either way. */
function keyOf(machine: Machine, column: Column): string | number | null {
  switch (column) {
    case 'name':
      return machine.name
    case 'state':
      return STATE_ORDER.indexOf(machine.state)
    case 'owner':
      return machine.user ?? null
    case 'address':
      return addressNumber(machine.ipv4)
    case 'os':
      return machine.os
    case 'version':
      return machine.agent_version
    case 'tags':
      return machine.tags[0] ?? null
    case 'path': {
      const tunnels = tunnelsOf(machine)
      return tunnels ? tunnels.direct / tunnels.all : null
    }
    case 'pq': {
      const tunnels = tunnelsOf(machine)
      return tunnels ? tunnels.post_quantum / tunnels.all : null
    }
    case 'posture':
      return POSTURE_ORDER.indexOf(machine.posture)
    case 'seen':
      return machine.last_seen ? -Date.parse(machine.last_seen) : null
    case 'expiry':
      return machine.key_expires_at ? Date.parse(machine.key_expires_at) : null
  }
}

/** Sorts by a column, then by name. */
export function sortMachines(
  machines: readonly Machine[],
  column: Column,
  descending: boolean,
): Machine[] {
  const sign = descending ? -1 : 1
  return machines
    .map((machine) => ({ machine, key: keyOf(machine, column) }))
    .sort((a, b) => {
      if (a.key !== b.key) {
        if (a.key === null) return 1
        if (b.key === null) return -1
        const order =
          typeof a.key === 'number' && typeof b.key === 'number'
            ? a.key - b.key
            : collator.compare(String(a.key), String(b.key))
        if (order !== 0) return sign * order
      }
      return collator.compare(a.machine.name, b.machine.name)
    })
    .map(({ machine }) => machine)
}

/** What may be chosen to filter by, with how many machines have it. */
export function facets(machines: readonly Machine[]): {
  systems: Array<[string, number]>
  tags: Array<[string, number]>
} {
  const systems = new Map<string, number>()
  const tags = new Map<string, number>()
  const add = (map: Map<string, number>, key: string) => map.set(key, (map.get(key) ?? 0) + 1)
  for (const machine of machines) {
    add(systems, systemOf(machine))
    for (const tag of machine.tags) add(tags, tag)
  }
  const sorted = (map: Map<string, number>) => [...map].sort(([a], [b]) => collator.compare(a, b))
  return { systems: sorted(systems), tags: sorted(tags) }
}

/** A sign-in that ends within so many days is pointed out. */
const SOON_DAYS = 30

export function expiresSoon(machine: Machine, now: number): boolean {
  if (!machine.key_expires_at) return false
  return Date.parse(machine.key_expires_at) - now < SOON_DAYS * 86_400_000
}

export type ActionName = Schemas['MachineAction']['action']

/** What can be done to a machine in a state, beside deleting it. */
export function actionsFor(
  machine: Machine,
  rights: { manage: boolean; email: string },
): ActionName[] {
  if (machine.wipe) return []
  if (!rights.manage) {
    const own = machine.user === rights.email
    return own && !['locked', 'disabled'].includes(machine.state) ? ['lock'] : []
  }
  switch (machine.state) {
    case 'pending':
      return ['approve', 'deny']
    case 'quarantined':
      return ['release', 'lock', 'disable', 'wipe']
    case 'locked':
      return ['unlock', 'disable', 'wipe']
    case 'disabled':
      return ['enable', 'wipe']
    case 'expired':
    case 'online':
    case 'offline':
      return ['quarantine', 'lock', 'disable', 'wipe']
  }
}

/** Why a word cannot be a machine's name, or `null`: one DNS label (RFC 1123 §2.1). */
export function nameFault(name: string): string | null {
  if (name.length === 0) return 'A machine needs a name.'
  if (name.length > 63) return 'A name has at most 63 characters.'
  if (!/^[a-z0-9-]+$/.test(name)) return 'Lower-case letters, digits and dashes only.'
  if (/^-|-$/.test(name)) return 'A name neither begins nor ends with a dash.'
  return null
}
