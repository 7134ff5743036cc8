import { useQuery, useQueryClient } from '@tanstack/react-query'
import { getRouteApi, Navigate } from '@tanstack/react-router'
import { useState } from 'react'
import { api, open } from '@/api/client'
import { meQuery } from '@/api/queries'
import { accessToken, signOut } from '@/api/session'
import { TextField } from '@/components/field'
import { Failure, Ready } from '@/components/page'
import { Alert } from '@/components/ui/alert'
import { Button } from '@/components/ui/button'
import { cliRequest } from '@/lib/cli-request'
import { useSubmit } from '@/lib/use-submit'
import { Frame } from './frame'

const route = getRouteApi('/cli-login')

export default function CliLogin() {
  const search = route.useSearch()
  const request = cliRequest(search)
  const session = useQuery({
    queryKey: ['signed-in'],
    queryFn: async () => (await accessToken()) !== null,
    gcTime: 0,
  })
  if (!request) {
    return (
      <Frame title="Connect the command line">
        <Alert>
          This address is not one that <code>ztna login</code> opens: its port, state or challenge
          is missing or malformed. Run <code>ztna login</code> again and let it open the browser.
        </Alert>
      </Frame>
    )
  }
  return (
    <Ready query={session} rows={3}>
      {(signedIn) => {
        if (signedIn) return <Connect {...request} />
        return (
          <Navigate to="/login" search={{ next: location.pathname + location.search }} replace />
        )
      }}
    </Ready>
  )
}

function Connect({ port, state, challenge }: { port: number; state: string; challenge: string }) {
  const me = useQuery(meQuery)
  const queries = useQueryClient()
  const [name, setName] = useState('')
  const [done, setDone] = useState(false)
  const homeless = me.data?.orgs.length === 0
  const form = useSubmit(async () => {
    if (homeless) {
      await open(api.POST('/api/orgs', { body: { name } }))
      await queries.fetchQuery({ ...meQuery, staleTime: 0 })
    }
    const { code } = await open(
      api.POST('/api/auth', { body: { action: 'cli_complete', challenge } }),
    )
    setDone(true)
    // RFC 8252 §7.3: the command line waits on this person's own machine.
    location.assign(
      `http://127.0.0.1:${port}/callback?${new URLSearchParams({ code, state }).toString()}`,
    )
  })
  return (
    <Ready query={me} rows={3}>
      {(person) => (
        <Frame
          title="Connect the command line"
          lead={`The ztna command on this computer will act as ${person.email}.`}
          foot={
            <Button variant="link" onClick={() => void signOut().catch(() => undefined)}>
              Use another account
            </Button>
          }
        >
          <form onSubmit={form.submit} className="flex flex-col gap-4">
            {homeless ? (
              <TextField
                label="Name of your organisation"
                hint="You are in none yet; this makes one."
                required
                autoFocus
                maxLength={64}
                value={name}
                onChange={(event) => setName(event.target.value)}
              />
            ) : null}
            <Alert tone="info">
              Only go on if you have just run <code>ztna login</code> yourself, on this computer.
            </Alert>
            {form.error ? <Failure error={form.error} /> : null}
            {done ? <Alert tone="good">Connected. Go back to the terminal.</Alert> : null}
            <Button type="submit" size="lg" disabled={form.busy || done} autoFocus={!homeless}>
              Connect
            </Button>
          </form>
        </Frame>
      )}
    </Ready>
  )
}
