import type { Schemas } from '@/api/client'

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

/** What an entry is about: its name, or that of the machine that its id begins with, as `ID/10.0.0.0/24`. */
export function targetText(
  target: Schemas['AuditTarget'],
  machines: ReadonlyMap<string, string>,
): string {
  if (target.name) return target.name
  if (!target.id) return '–'
  const [id = '', ...rest] = target.id.split('/')
  const machine = machines.get(id)
  return machine ? [machine, rest.join('/')].filter(Boolean).join(' ') : target.id
}
