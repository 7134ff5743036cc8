/** Names that a policy document speaks of. The server reads the document; this only helps to write it. */
export function namesIn(text: string): { tags: string[]; groups: string[]; hosts: string[] } {
  const all = (pattern: RegExp) => [...new Set([...text.matchAll(pattern)].map(([name]) => name))]
  const hosts = /"hosts"\s*:\s*\{([^}]*)\}/.exec(text)?.[1] ?? ''
  return {
    tags: all(/\btag:[A-Za-z0-9-]+/g),
    groups: all(/\bgroup:[A-Za-z0-9._-]+/g).filter((name) => !name.startsWith('autogroup')),
    hosts: [...hosts.matchAll(/"([^"]+)"\s*:/g)].flatMap(([, name]) => (name ? [name] : [])),
  }
}

/** A rule as it is shown: the parts that every kind has. */
export interface RuleParts {
  action: 'accept' | 'deny'
  src: string[]
  dst: string[]
  more: string[]
}

const texts = (value: unknown): string[] =>
  typeof value === 'string'
    ? [value]
    : Array.isArray(value)
      ? value.filter((one): one is string => typeof one === 'string')
      : []

export function partsOf(rule: Record<string, unknown>): RuleParts {
  const ip = texts(rule.ip)
  const proto = texts(rule.proto)
  const conditions = ['srcPosture', 'srcOS', 'srcCountry', 'when', 'expires'].filter(
    (key) => rule[key] !== undefined,
  )
  return {
    action: rule.action === 'deny' ? 'deny' : 'accept',
    src: texts(rule.src),
    dst: texts(rule.dst),
    more: [
      ...(ip.length > 0 ? [ip.join(', ')] : []),
      ...(proto.length > 0 ? [proto.join(', ')] : []),
      ...conditions.map((key) => `${key}: ${shown(rule[key])}`),
    ],
  }
}

const shown = (value: unknown): string =>
  typeof value === 'string'
    ? value
    : Array.isArray(value)
      ? value.map(shown).join(', ')
      : JSON.stringify(value)

/** A destination without its ports: `tag:web:80,443` is `tag:web`. */
export function targetOf(dst: string): string {
  return dst.replace(/:(\*|[\d,-]+)$/, '')
}

export interface GridCell {
  rules: string[]
  accepts: number
  denies: number
}

/** Who may reach whom, as rules say it: a row for each source, a column for each destination. */
export function gridOf(
  rules: ReadonlyArray<{ id: string; in_force: boolean; rule: Record<string, unknown> }>,
): { sources: string[]; targets: string[]; cell: (src: string, dst: string) => GridCell } {
  const sources = new Set<string>()
  const targets = new Set<string>()
  const cells = new Map<string, GridCell>()
  for (const { id, rule } of rules) {
    const { src, dst, action } = partsOf(rule)
    for (const from of src) {
      for (const to of new Set(dst.map(targetOf))) {
        sources.add(from)
        targets.add(to)
        const key = `${from}\n${to}`
        const cell = cells.get(key) ?? { rules: [], accepts: 0, denies: 0 }
        cell.rules.push(id)
        if (action === 'deny') cell.denies += 1
        else cell.accepts += 1
        cells.set(key, cell)
      }
    }
  }
  const empty: GridCell = { rules: [], accepts: 0, denies: 0 }
  return {
    sources: [...sources].sort(),
    targets: [...targets].sort(),
    cell: (src, dst) => cells.get(`${src}\n${dst}`) ?? empty,
  }
}
