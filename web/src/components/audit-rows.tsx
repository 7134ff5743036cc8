import { useQuery } from '@tanstack/react-query'
import { ChevronRight } from 'lucide-react'
import { useMemo, useState } from 'react'
import type { Schemas } from '@/api/client'
import { machinesQuery } from '@/api/queries'
import { targetText } from '@/lib/audit'
import { changes } from '@/lib/changes'
import { ago, client, exact } from '@/lib/format'
import { useOrg } from '@/lib/org'
import { cn } from '@/lib/utils'

type Entry = Schemas['AuditEntry']

/** Rows of the audit log; each opens to what was changed. */
export function AuditRows({ entries }: { entries: readonly Entry[] }) {
  const org = useOrg()
  const { data: machines } = useQuery(machinesQuery(org.id))
  const names = useMemo(() => new Map(machines?.map(({ id, name }) => [id, name])), [machines])
  if (entries.length === 0) {
    return <p className="p-4 text-muted-foreground">There is nothing in the log about this.</p>
  }
  return (
    <ul>
      {entries.map((entry) => (
        <Row key={entry.seq} entry={entry} names={names} />
      ))}
    </ul>
  )
}

function Row({ entry, names }: { entry: Entry; names: ReadonlyMap<string, string> }) {
  const [open, setOpen] = useState(false)
  const actor = entry.actor.name ?? entry.actor.id ?? entry.actor.kind
  const refused = /refused|denied|failed/.test(entry.action)
  return (
    <li className="border-b last:border-0">
      <button
        type="button"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
        className="grid w-full grid-cols-[1rem_minmax(0,1fr)] items-center gap-x-2 px-3 py-1.5 text-left text-sm hover:bg-muted/50 md:grid-cols-[1rem_7rem_13rem_minmax(0,1fr)_minmax(0,1fr)]"
      >
        <ChevronRight
          aria-hidden
          className={cn('size-4 text-muted-foreground transition-transform', open && 'rotate-90')}
        />
        <span
          className="figures text-muted-foreground max-md:order-last max-md:col-start-2 max-md:text-xs"
          title={exact(entry.at)}
        >
          {ago(entry.at)}
        </span>
        <span className={cn('truncate font-mono text-xs', refused && 'text-bad')}>
          {entry.action}
        </span>
        <span className="truncate max-md:col-start-2" title={entry.target.id ?? undefined}>
          {targetText(entry.target, names)}
        </span>
        <span className="truncate text-muted-foreground max-md:col-start-2 max-md:text-xs">
          {actor}
          {entry.actor.kind === 'user' ? '' : ` (${entry.actor.kind.replaceAll('_', ' ')})`}
        </span>
      </button>
      {open ? <More entry={entry} /> : null}
    </li>
  )
}

function More({ entry }: { entry: Entry }) {
  const rows = changes(entry.before ?? null, entry.after ?? null)
  return (
    <div className="flex flex-col gap-3 bg-muted/40 px-4 py-3 pl-9 text-xs">
      {rows.length > 0 ? (
        <dl className="grid gap-x-3 gap-y-1 sm:grid-cols-[10rem_minmax(0,1fr)]">
          {rows.map(({ key, before, after }) => (
            <div key={key} className="contents">
              <dt className="font-mono text-muted-foreground">{key}</dt>
              <dd className="font-mono [overflow-wrap:anywhere]">
                {before === undefined ? null : (
                  <del className="rounded-sm bg-bad-soft px-1 text-bad no-underline">
                    <span className="sr-only">before </span>
                    {before}
                  </del>
                )}{' '}
                {after === undefined ? null : (
                  <ins className="rounded-sm bg-good-soft px-1 text-good no-underline">
                    <span className="sr-only">after </span>
                    {after}
                  </ins>
                )}
              </dd>
            </div>
          ))}
        </dl>
      ) : null}
      <p className="text-muted-foreground [overflow-wrap:anywhere]">
        Row {entry.seq} · {exact(entry.at)}
        {entry.ip ? ` · from ${entry.ip}` : ''}
        {entry.client ? ` · ${client(entry.client)}` : ''}
        {entry.route ? ` · ${entry.route}` : ''}
        {entry.request_id ? ` · request ${entry.request_id}` : ''} · SHA-256 {entry.hash}
      </p>
    </div>
  )
}
