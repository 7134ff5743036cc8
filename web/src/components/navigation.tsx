import { useQuery } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { facetsQuery } from '@/api/queries'
import { Logo } from '@/components/logo'
import { NAV } from '@/components/nav'
import { useOrg } from '@/lib/org'

/** The pages of an org that its role may see. */
export function Navigation({ onGo }: { onGo?: () => void }) {
  const org = useOrg()
  const pending = usePending(org.id)
  return (
    <>
      <div className="flex h-12 shrink-0 items-center px-4">
        <Link
          to="/o/$org/machines"
          params={{ org: org.slug }}
          onClick={onGo}
          aria-label="ztna, start"
        >
          <Logo />
        </Link>
      </div>
      <nav aria-label="Pages" className="flex-1 overflow-y-auto px-2 pb-4">
        {NAV.map((group) => {
          const entries = group.entries.filter((entry) => org.may(entry.right))
          if (entries.length === 0) return null
          return (
            <div key={group.label ?? 'top'} className="mb-3">
              {group.label ? (
                <p className="px-2 pt-1 pb-1 text-xs text-muted-foreground">{group.label}</p>
              ) : null}
              <ul className="flex flex-col gap-px">
                {entries.map((entry) => (
                  <li key={entry.to}>
                    <Link
                      to={entry.to}
                      params={{ org: org.slug }}
                      onClick={onGo}
                      className="flex h-8 items-center gap-2.5 rounded-md px-2 text-sm text-foreground/85 hover:bg-accent/70 aria-[current=page]:bg-accent aria-[current=page]:font-medium aria-[current=page]:text-foreground [&[aria-current=page]_svg]:text-primary"
                    >
                      <entry.icon aria-hidden className="size-4 text-muted-foreground" />
                      <span className="flex-1">{entry.label}</span>
                      {entry.to === '/o/$org/machines' && pending > 0 ? (
                        <span
                          title={`${pending} waiting for approval`}
                          className="figures rounded-full bg-warn-soft px-1.5 text-xs font-medium text-warn"
                        >
                          {pending}
                        </span>
                      ) : null}
                    </Link>
                  </li>
                ))}
              </ul>
            </div>
          )
        })}
      </nav>
    </>
  )
}

function usePending(id: string): number {
  const { data } = useQuery({ ...facetsQuery(id), select: ({ pending }) => pending })
  return data ?? 0
}
