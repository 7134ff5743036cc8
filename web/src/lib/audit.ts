/** The filters of the audit log as the page's address and the API have them. */
export interface AuditFilters {
  actor?: string
  action?: string
  target?: string
  since?: string
  until?: string
  text?: string
}

/** Days are those of the person's own clock, the last one included. */
export function auditParameters(filters: AuditFilters): AuditFilters {
  const { actor, action, target, text } = filters
  const start = (day: string | undefined, shift: number) => {
    if (!day) return undefined
    const [year, month, date] = day.split('-').map(Number)
    if (!year || !month || !date) return undefined
    return new Date(year, month - 1, date + shift).toISOString()
  }
  const all = {
    actor,
    action,
    target,
    text,
    since: start(filters.since, 0),
    until: start(filters.until, 1),
  }
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value))
}
