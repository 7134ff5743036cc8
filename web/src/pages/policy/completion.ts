/** What may stand at a place of the policy document: fields by the object that one is in, names by the org. */

import { countries } from './countries'

/** Names that the org has. */
export interface Known {
  people: readonly string[]
  tags: readonly string[]
  groups: readonly string[]
  hosts: readonly string[]
}

export interface Option {
  label: string
  detail?: string
  type: 'property' | 'enum'
}

const SECTIONS: ReadonlyArray<readonly [string, string]> = [
  ['acls', 'rules by ports'],
  ['grants', 'rules by networks and protocols'],
  ['groups', 'people under one name'],
  ['hosts', 'addresses under a name'],
  ['tagOwners', 'who may give a tag'],
  ['autoApprovers', 'routes that need no approval'],
  ['postures', 'what rules may ask of machines'],
  ['defaultSrcPosture', 'postures of rules that name none'],
  ['tests', 'what has to hold before this is saved'],
]

const EVERY_RULE = ['id', 'description', 'srcPosture', 'srcOS', 'srcCountry', 'when', 'expires']

/** Fields of the objects in a section, and of objects within them. */
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  acls: ['action', 'proto', 'src', 'dst', ...EVERY_RULE],
  grants: ['action', 'src', 'dst', 'ip', ...EVERY_RULE],
  tests: ['src', 'accept', 'deny', 'proto', 'srcPostureAttrs', 'time'],
  when: ['days', 'from', 'to', 'zone'],
  autoApprovers: ['routes', 'exitNode'],
}

const VALUES: Readonly<Record<string, readonly string[]>> = {
  action: ['accept', 'deny'],
  proto: ['tcp', 'udp', 'icmp', 'sctp'],
  days: ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'],
  srcOS: ['linux', 'macos', 'windows', 'ios', 'android', 'freebsd'],
}

const AUTOGROUPS = ['member', 'tagged', 'owner', 'admin', 'auditor'].map(
  (name) => `autogroup:${name}`,
)
const DESTINATIONS = ['autogroup:self', 'autogroup:internet']

interface Frame {
  kind: '{' | '['
  /** The field that this stands in. */
  field: string | null
}

export interface Place {
  frames: Frame[]
  /** The field whose value is being written. */
  field: string | null
  /** Whether the cursor is within a string. */
  inString: boolean
}

/** Where a text ends: which brackets are open, and in which fields. Comments and strings are minded. */
export function placeOf(text: string): Place {
  const frames: Frame[] = []
  let field: string | null = null
  let string: string | null = null
  let last = ''
  for (let at = 0; at < text.length; at++) {
    const c = text[at] ?? ''
    if (string !== null) {
      if (c === '\\') at++
      else if (c === '"') {
        last = string
        string = null
      } else string += c
      continue
    }
    if (c === '/' && text[at + 1] === '/') {
      const end = text.indexOf('\n', at)
      if (end < 0) break
      at = end
    } else if (c === '/' && text[at + 1] === '*') {
      const end = text.indexOf('*/', at + 2)
      if (end < 0) break
      at = end + 1
    } else if (c === '"') string = ''
    else if (c === ':') field = last
    else if (c === '{' || c === '[') {
      frames.push({ kind: c, field })
      if (c === '{') field = null
    } else if (c === '}' || c === ']') {
      const closed = frames.pop()
      field = frames.at(-1)?.kind === '[' ? (frames.at(-1)?.field ?? null) : (closed?.field ?? null)
    } else if (c === ',' && frames.at(-1)?.kind === '{') field = null
  }
  return { frames, field, inString: string !== null }
}

/** What fields mean, where their names do not say it. */
const MEANINGS: Readonly<Record<string, string>> = {
  srcPosture: 'postures that the source has to have',
  srcOS: 'systems that the source runs',
  srcCountry: "countries of the source's public address",
  when: 'days and hours at which it holds',
  expires: 'when it ends',
  proto: 'transport, or all',
  ip: 'protocols and ports, as in tcp:443',
  zone: 'time zone, as in Europe/Berlin',
  time: 'when it is asked for',
  srcPostureAttrs: 'what the source is taken to be',
}

const property = (label: string, detail?: string): Option => ({ label, detail, type: 'property' })
const value = (label: string, detail?: string): Option => ({ label, detail, type: 'enum' })

const named = (labels: readonly string[]) => labels.map((label) => value(label))

/** What may follow a text. */
export function completionsAt(text: string, known: Known): Option[] {
  const { frames, field, inString } = placeOf(text)
  if (!inString) return []
  const inner = frames.at(-1)
  if (!inner) return []
  if (inner.kind === '{' && field === null) {
    if (frames.length === 1) return SECTIONS.map(([name, detail]) => property(name, detail))
    const owner = inner.field ?? ''
    if (owner === 'groups') return named(known.groups)
    if (owner === 'tagOwners') return named(known.tags)
    return (FIELDS[owner] ?? []).map((name) => property(name, MEANINGS[name]))
  }
  if (!field) return []
  const fixed = VALUES[field]
  if (fixed) return named(fixed)
  if (field === 'srcCountry') return countries().map(([code, name]) => value(code, name))
  const selectors = [...AUTOGROUPS, '*', ...known.groups, ...known.tags, ...known.people]
  const section = frames[1]?.field
  if (field === 'src') return named([...selectors, ...known.hosts])
  if (field === 'dst' || (section === 'tests' && (field === 'accept' || field === 'deny'))) {
    const ports = section === 'grants' ? '' : ':*'
    return [...selectors, ...DESTINATIONS, ...known.hosts].map((name) => value(name + ports))
  }
  if (section === 'groups') return named(known.people)
  if (section === 'tagOwners' || section === 'autoApprovers') return named(selectors)
  return []
}
