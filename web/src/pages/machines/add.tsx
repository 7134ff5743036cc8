import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { CircleCheck } from 'lucide-react'
import { useRef, useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { joinQuery, machinesQuery, refetch } from '@/api/queries'
import { CopyLine } from '@/components/copy'
import { SwitchField, TextField } from '@/components/field'
import { Failure, Ready } from '@/components/page'
import { Button } from '@/components/ui/button'
import { Tabs, TabsContent, TabsList, TabsTrigger } from '@/components/ui/tabs'
import { count } from '@/lib/format'
import { withKey } from '@/lib/join'
import { useOrg } from '@/lib/org'
import { parseTags } from '@/lib/tags'
import { useSubmit } from '@/lib/use-submit'

const SYSTEMS: Record<string, string> = { linux: 'Linux', macos: 'macOS', windows: 'Windows' }

/** The system that this browser runs on: what a person adds first is often the machine before them. */
function own(): string {
  const agent = navigator.userAgent
  if (agent.includes('Windows')) return 'windows'
  return agent.includes('Mac OS') ? 'macos' : 'linux'
}

/** How a machine comes in: a line to copy, with a key made in place; turns live when the machine comes. */
export default function AddMachine() {
  const org = useOrg()
  const queries = useQueryClient()
  const join = useQuery(joinQuery)
  const machines = useQuery(machinesQuery(org.id))
  const before = useRef<Set<string> | null>(null)
  if (before.current === null && machines.data) {
    before.current = new Set(machines.data.map(({ id }) => id))
  }
  const come = machines.data?.filter(({ id }) => before.current && !before.current.has(id)) ?? []
  const [key, setKey] = useState<Schemas['CreatedAuthKey'] | null>(null)
  const [reusable, setReusable] = useState(false)
  const [tags, setTags] = useState('')
  const form = useSubmit(async () => {
    setKey(
      await open(
        api.POST('/api/orgs/{org}/auth-keys', {
          params: { path: { org: org.id } },
          body: {
            description: 'Add a machine',
            reusable,
            preapproved: true,
            tags: parseTags(tags),
          },
        }),
      ),
    )
    void refetch(queries, org.id, 'auth-keys')
  })
  const manage = org.may('manage')
  return (
    <div className="flex flex-col gap-5">
      <Ready query={join} rows={3}>
        {({ lines }) => (
          <Tabs defaultValue={own()}>
            <TabsList aria-label="Operating system">
              {lines.map(({ os }) => (
                <TabsTrigger key={os} value={os}>
                  {SYSTEMS[os] ?? os}
                </TabsTrigger>
              ))}
            </TabsList>
            {lines.map((line) => (
              <TabsContent key={line.os} value={line.os} className="flex flex-col gap-5">
                <section className="flex flex-col gap-2">
                  <h3 className="font-medium">With a person: sign in by browser</h3>
                  <p className="text-muted-foreground">
                    The machine becomes yours.{' '}
                    {line.installs ? null : (
                      <>
                        With the <code>ztna</code> program on it, which whoever runs this server
                        builds or releases, run:
                      </>
                    )}
                  </p>
                  <CopyLine text={line.login} what="the sign-in line" />
                </section>
                {key ? (
                  <section className="flex flex-col gap-2">
                    <h3 className="font-medium">Without one: an auth key</h3>
                    <p className="text-muted-foreground">
                      Good for {count(key.info.max_uses ?? 1, 'machine')} within the hour. The key
                      is shown this once.
                    </p>
                    <CopyLine text={withKey(line, key.key)} what="the join line" />
                  </section>
                ) : null}
                {line.os === 'windows' ? (
                  <p className="text-xs text-muted-foreground">
                    In a PowerShell that was opened as administrator.
                  </p>
                ) : null}
              </TabsContent>
            ))}
          </Tabs>
        )}
      </Ready>
      {manage && join.data && !key ? (
        <section className="flex flex-col gap-3">
          <h3 className="font-medium">Without one: an auth key</h3>
          <form onSubmit={form.submit} className="flex flex-col gap-3">
            <SwitchField
              label="For several machines"
              hint="Off: the key enrols exactly one."
              checked={reusable}
              onCheckedChange={setReusable}
            />
            <TextField
              label="Tags"
              placeholder="tag:web"
              hint="Optional; names of the policy's tagOwners. Servers are best tagged: their sign-in does not end."
              value={tags}
              spellCheck={false}
              onChange={(event) => setTags(event.target.value)}
            />
            {form.error ? <Failure error={form.error} doing="Making the key" /> : null}
            <Button type="submit" className="self-start" disabled={form.busy}>
              Make an auth key
            </Button>
          </form>
        </section>
      ) : null}
      <div
        role="status"
        className="flex items-start gap-2 rounded-md border bg-muted/40 px-3 py-2 text-sm"
      >
        {come.length === 0 ? (
          <>
            <span aria-hidden className="mt-1.5 size-2 animate-pulse rounded-full bg-info" />
            <span>Waiting for the machine. This page shows it as soon as it comes.</span>
          </>
        ) : (
          <ul className="flex flex-col gap-1">
            {come.map((machine) => (
              <li key={machine.id} className="flex items-center gap-2">
                <CircleCheck aria-hidden className="size-4 shrink-0 text-good" />
                <span className="[overflow-wrap:anywhere]">
                  <Link
                    to="/o/$org/machines/$machine"
                    params={{ org: org.slug, machine: machine.id }}
                    className="link font-medium"
                  >
                    {machine.name}
                  </Link>{' '}
                  {machine.state === 'pending'
                    ? 'has come and waits for approval'
                    : `is in, with ${machine.ipv4}${machine.online ? ', and online' : ''}`}
                </span>
              </li>
            ))}
          </ul>
        )}
      </div>
    </div>
  )
}
