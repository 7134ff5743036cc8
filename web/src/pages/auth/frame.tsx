import { type ReactNode, useEffect } from 'react'
import { Logo } from '@/components/logo'

/** What stands around the pages of somebody who is not signed in yet. */
export function Frame({
  title,
  lead,
  children,
  foot,
}: {
  title: string
  lead?: ReactNode
  children: ReactNode
  foot?: ReactNode
}) {
  useEffect(() => {
    document.title = `${title} · ztna`
  }, [title])
  return (
    <main className="grid min-h-dvh place-items-center p-4">
      <div className="flex w-full max-w-sm flex-col gap-5">
        <Logo />
        <div className="flex flex-col gap-4 rounded-xl border bg-card p-5 sm:p-6">
          <div>
            <h1 className="text-xl font-semibold tracking-tight">{title}</h1>
            {lead ? (
              <div className="mt-1 text-muted-foreground [overflow-wrap:anywhere]">{lead}</div>
            ) : null}
          </div>
          {children}
        </div>
        {foot ? <div className="text-center text-muted-foreground">{foot}</div> : null}
      </div>
    </main>
  )
}

/** Bounds of a password; the API holds them. */
export const PASSWORD = { minLength: 12, maxLength: 512 }
