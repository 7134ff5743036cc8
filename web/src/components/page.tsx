import { Link } from '@tanstack/react-router'
import { type ReactNode, useEffect } from 'react'
import { nextStep, sentence } from '@/api/errors'
import { Alert } from '@/components/ui/alert'
import { Button } from '@/components/ui/button'
import { cn } from '@/lib/utils'

/** A page: its title, what can be done on it, and its content. */
export function Page({
  title,
  lead,
  actions,
  wide = false,
  children,
}: {
  title: string
  lead?: ReactNode
  actions?: ReactNode
  wide?: boolean
  children: ReactNode
}) {
  useEffect(() => {
    document.title = `${title} · ztna`
  }, [title])
  return (
    <div className={cn('mx-auto flex w-full flex-col gap-4', !wide && 'max-w-6xl')}>
      <div className="flex flex-wrap items-start justify-between gap-x-4 gap-y-2">
        <div className="min-w-0">
          <h1 className="text-xl font-semibold tracking-tight [overflow-wrap:anywhere]">{title}</h1>
          {lead ? <p className="mt-0.5 max-w-prose text-muted-foreground">{lead}</p> : null}
        </div>
        {actions ? <div className="flex flex-wrap items-center gap-2">{actions}</div> : null}
      </div>
      {children}
    </div>
  )
}

/** What failed, and what to do next. */
export function Failure({
  error,
  retry,
  doing,
}: {
  error: unknown
  retry?: () => void
  doing?: string
}) {
  const next = nextStep(error)
  return (
    <Alert tone="bad">
      {doing ? <p className="font-medium">{doing} failed.</p> : null}
      <p>{sentence(error)}</p>
      {next ? <p>{next}</p> : null}
      {retry ? (
        <Button variant="outline" size="sm" className="mt-2 text-foreground" onClick={retry}>
          Try again
        </Button>
      ) : null}
    </Alert>
  )
}

/** What stands where there is nothing yet: why, and how to begin. */
export function Empty({
  title,
  children,
  action,
}: {
  title: string
  children?: ReactNode
  action?: ReactNode
}) {
  return (
    <div className="flex flex-col items-center gap-1 rounded-lg border border-dashed bg-card px-4 py-10 text-center">
      <p className="font-medium">{title}</p>
      {children ? <div className="max-w-md text-muted-foreground">{children}</div> : null}
      {action ? <div className="mt-3">{action}</div> : null}
    </div>
  )
}

/** Grey lines where a table will be. */
export function Loading({ rows = 6 }: { rows?: number }) {
  return (
    <div role="status" className="flex flex-col gap-2 rounded-lg border bg-card p-4">
      <span className="sr-only">Loading</span>
      {Array.from({ length: rows }, (_, row) => (
        <span
          // biome-ignore lint/suspicious/noArrayIndexKey: the lines are all the same
          key={row}
          aria-hidden
          className="h-4 animate-pulse rounded-sm bg-muted"
          style={{ width: `${92 - ((row * 17) % 40)}%` }}
        />
      ))}
    </div>
  )
}

interface Asked {
  isPending: boolean
  error: unknown
  refetch: () => unknown
}

/** Shows that a query still loads, or failed; else what is made of its data. */
export function Ready<T>({
  query,
  rows,
  children,
}: {
  query: Asked & { data: T | undefined }
  rows?: number
  children: (data: T) => ReactNode
}) {
  if (query.data !== undefined) return children(query.data)
  if (query.error) return <Failure error={query.error} retry={() => void query.refetch()} />
  return <Loading rows={rows} />
}

export function NotFound() {
  return (
    <main className="mx-auto max-w-md p-8">
      <h1 className="sr-only">Not found</h1>
      <Empty
        title="There is no such page"
        action={
          <Button asChild variant="outline">
            <Link to="/">Go to the start</Link>
          </Button>
        }
      >
        The address may be mistyped, or what it named may be gone.
      </Empty>
    </main>
  )
}
