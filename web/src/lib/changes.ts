/** What an entry of the audit log changed, value by value. */
export interface Change {
  key: string
  before?: string
  after?: string
}

type Values = Record<string, unknown>

function shown(value: unknown): string {
  if (value === null || value === undefined) return 'nothing'
  return typeof value === 'string' ? value : JSON.stringify(value)
}

/** Values that differ; of what was made or deleted, all that are something. */
export function changes(before: Values | null, after: Values | null): Change[] {
  const keys = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])].sort()
  return keys.flatMap((key): Change[] => {
    const old = before?.[key]
    const now = after?.[key]
    if (before && after) {
      if (JSON.stringify(old) === JSON.stringify(now)) return []
      return [{ key, before: shown(old), after: shown(now) }]
    }
    const value = before ? old : now
    if (value === null || value === undefined) return []
    return [before ? { key, before: shown(value) } : { key, after: shown(value) }]
  })
}
