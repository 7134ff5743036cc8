import { useQuery, useQueryClient } from '@tanstack/react-query'
import { getRouteApi } from '@tanstack/react-router'
import { Undo2 } from 'lucide-react'
import { useState } from 'react'
import { api, open } from '@/api/client'
import { policyQuery, policyVersionQuery, policyVersionsQuery, refetch } from '@/api/queries'
import { Confirm, type Confirmation } from '@/components/confirm'
import { Ready } from '@/components/page'
import { Badge } from '@/components/ui/badge'
import { Button } from '@/components/ui/button'
import { ago, exact } from '@/lib/format'
import { useOrg } from '@/lib/org'
import { toast } from '@/lib/toast'
import { cn } from '@/lib/utils'

const route = getRouteApi('/signed-in/o/$org/policy')

export function Versions() {
  const org = useOrg()
  const search = route.useSearch()
  const navigate = route.useNavigate()
  const query = useQuery(policyVersionsQuery(org.id))
  return (
    <Ready query={query}>
      {(versions) => {
        const newest = versions[0]?.version ?? 0
        const chosen = Number(search.version) || newest
        return (
          <div className="grid items-start gap-4 lg:grid-cols-[20rem_minmax(0,1fr)]">
            <ol className="max-h-[70dvh] overflow-y-auto rounded-lg border bg-card">
              {versions.map((one) => (
                <li key={one.version} className="border-b last:border-0">
                  <button
                    type="button"
                    aria-current={one.version === chosen}
                    onClick={() =>
                      void navigate({
                        search: { tab: 'versions', version: String(one.version) },
                        replace: true,
                      })
                    }
                    className="flex w-full flex-col px-3 py-2 text-left text-sm hover:bg-muted/60 aria-[current=true]:bg-accent"
                  >
                    <span className="flex items-center gap-2">
                      <span className="figures font-medium">Version {one.version}</span>
                      {one.version === newest ? <Badge tone="good">in force</Badge> : null}
                      <span className="ml-auto text-xs text-muted-foreground" title={exact(one.at)}>
                        {ago(one.at)}
                      </span>
                    </span>
                    <span className="text-xs text-muted-foreground [overflow-wrap:anywhere]">
                      {one.note} · {one.author ?? 'nobody who is a member now'}
                    </span>
                  </button>
                </li>
              ))}
            </ol>
            {chosen > 0 ? <Version version={chosen} newest={newest} /> : null}
          </div>
        )
      }}
    </Ready>
  )
}

function Version({ version, newest }: { version: number; newest: number }) {
  const org = useOrg()
  const queries = useQueryClient()
  const query = useQuery(policyVersionQuery(org.id, version))
  const [whole, setWhole] = useState(false)
  const [asked, setAsked] = useState<Confirmation | null>(null)
  const rollback = () =>
    setAsked({
      title: `Go back to version ${version}?`,
      text: 'It becomes the newest version, and is in force at once. Nothing is lost: the versions between stay in the list.',
      verb: 'Go back',
      destructive: true,
      run: async () => {
        const answer = await open(
          api.POST('/api/orgs/{org}/policy/versions/{version}/rollback', {
            params: { path: { org: org.id, version } },
            body: { version: newest },
          }),
        )
        queries.setQueryData(policyQuery(org.id).queryKey, answer)
        toast.success(`Version ${answer.version} is in force`)
        await refetch(queries, org.id, 'policy', 'audit')
      },
    })
  return (
    <section aria-label={`Version ${version}`} className="flex min-w-0 flex-col gap-2">
      <div className="flex flex-wrap items-center gap-2">
        <h2 className="font-semibold">Version {version}</h2>
        <Button variant="outline" size="sm" onClick={() => setWhole(!whole)}>
          {whole ? 'What it changed' : 'The whole document'}
        </Button>
        {org.may('manage') && version !== newest ? (
          <Button size="sm" onClick={rollback}>
            <Undo2 /> Go back to it
          </Button>
        ) : null}
      </div>
      <Ready query={query}>
        {(one) =>
          whole || one.diff.trim() === '' ? (
            <pre
              tabIndex={0}
              className="max-h-[70dvh] overflow-auto rounded-lg border bg-card p-3 text-xs"
            >
              {one.text}
            </pre>
          ) : (
            <Diff text={one.diff} />
          )
        }
      </Ready>
      <Confirm asked={asked} onClose={() => setAsked(null)} />
    </section>
  )
}

/** A unified diff, as the server makes it. */
function Diff({ text }: { text: string }) {
  return (
    <pre
      tabIndex={0}
      className="max-h-[70dvh] overflow-auto rounded-lg border bg-card py-2 text-xs leading-5"
    >
      {text
        .replace(/\n$/, '')
        .split('\n')
        .map((line, index) => (
          <span
            // biome-ignore lint/suspicious/noArrayIndexKey: lines have no other name, and stay where they are
            key={index}
            className={cn(
              'block min-w-fit px-3 whitespace-pre',
              line.startsWith('+') && 'bg-good-soft text-good',
              line.startsWith('-') && 'bg-bad-soft text-bad',
              line.startsWith('@@') && 'text-muted-foreground',
            )}
          >
            {line || ' '}
          </span>
        ))}
    </pre>
  )
}
