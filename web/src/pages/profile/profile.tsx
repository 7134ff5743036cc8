import { useQuery, useQueryClient } from '@tanstack/react-query'
import { lazy, Suspense, useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { meQuery, sessionsQuery } from '@/api/queries'
import { signOut } from '@/api/session'
import { Confirm, type Confirmation } from '@/components/confirm'
import { CopyButton, CopyLine } from '@/components/copy'
import { TextField } from '@/components/field'
import { Failure, Page, Ready } from '@/components/page'
import { Alert } from '@/components/ui/alert'
import { Badge } from '@/components/ui/badge'
import { Button } from '@/components/ui/button'
import { Card, CardContent, CardHeader, CardTitle } from '@/components/ui/card'
import {
  Dialog,
  DialogContent,
  DialogFooter,
  DialogHeader,
  DialogTitle,
} from '@/components/ui/dialog'
import {
  Table,
  TableBody,
  TableCell,
  TableHead,
  TableHeader,
  TableRow,
} from '@/components/ui/table'
import { ago, client, exact } from '@/lib/format'
import { useOrg } from '@/lib/org'
import { save } from '@/lib/save'
import { toast } from '@/lib/toast'
import { useSubmit } from '@/lib/use-submit'

const QrCode = lazy(() => import('./qr-code'))

export default function Profile() {
  const { me } = useOrg()
  return (
    <Page title="Profile" lead={me.email}>
      <Sessions />
      <div className="grid items-start gap-4 lg:grid-cols-2">
        <Password />
        <div className="flex flex-col gap-4">
          <SecondFactor on={me.mfa ?? false} />
          <DeleteAccount mfa={me.mfa ?? false} />
        </div>
      </div>
    </Page>
  )
}

function Sessions() {
  const query = useQuery(sessionsQuery)
  const queries = useQueryClient()
  const [asked, setAsked] = useState<Confirmation | null>(null)
  const again = () => queries.invalidateQueries({ queryKey: sessionsQuery.queryKey })
  return (
    <section className="flex flex-col gap-2">
      <div className="flex items-center justify-between gap-2">
        <h2 className="font-semibold">Sessions</h2>
        <Button
          variant="outline"
          size="sm"
          disabled={(query.data?.length ?? 0) < 2}
          onClick={() =>
            setAsked({
              title: 'End all other sessions?',
              text: 'Every other browser and command line has to sign in again. Machines stay in.',
              verb: 'End them',
              destructive: true,
              run: async () => {
                await open(api.DELETE('/api/auth/sessions'))
                await again()
              },
            })
          }
        >
          End all others
        </Button>
      </div>
      <Ready query={query} rows={3}>
        {(sessions) => (
          <Table label="Sessions">
            <TableHeader>
              <tr>
                <TableHead>Where</TableHead>
                <TableHead>From</TableHead>
                <TableHead>Begun</TableHead>
                <TableHead>Last used</TableHead>
                <TableHead>
                  <span className="sr-only">Actions</span>
                </TableHead>
              </tr>
            </TableHeader>
            <TableBody>
              {sessions.map((session) => (
                <TableRow key={session.id}>
                  <TableCell title={session.client}>
                    {client(session.client)}{' '}
                    {session.current ? <Badge tone="good">this one</Badge> : null}
                  </TableCell>
                  <TableCell className="font-mono text-xs">{session.ip ?? '–'}</TableCell>
                  <TableCell title={exact(session.began_at)}>{ago(session.began_at)}</TableCell>
                  <TableCell title={exact(session.refreshed_at)}>
                    {ago(session.refreshed_at)}
                  </TableCell>
                  <TableCell className="text-right">
                    {session.current ? null : (
                      <Button
                        variant="outline"
                        size="sm"
                        onClick={() =>
                          setAsked({
                            title: `End the session of ${client(session.client)}?`,
                            text: 'It has to sign in again.',
                            verb: 'End it',
                            destructive: true,
                            run: async () => {
                              await open(
                                api.DELETE('/api/auth/sessions/{id}', {
                                  params: { path: { id: session.id } },
                                }),
                              )
                              await again()
                            },
                          })
                        }
                      >
                        End<span className="sr-only"> {client(session.client)}</span>
                      </Button>
                    )}
                  </TableCell>
                </TableRow>
              ))}
            </TableBody>
          </Table>
        )}
      </Ready>
      <Confirm asked={asked} onClose={() => setAsked(null)} />
    </section>
  )
}

function Password() {
  const [current, setCurrent] = useState('')
  const [password, setPassword] = useState('')
  const form = useSubmit(async () => {
    await open(
      api.POST('/api/auth/change-password', { body: { current_password: current, password } }),
    )
    setCurrent('')
    setPassword('')
    toast.success('Your password is changed; every other session has ended')
  })
  return (
    <Card>
      <CardHeader>
        <CardTitle>Password</CardTitle>
      </CardHeader>
      <CardContent>
        <form onSubmit={form.submit} className="flex flex-col gap-4">
          <TextField
            label="Current password"
            type="password"
            autoComplete="current-password"
            required
            value={current}
            onChange={(event) => setCurrent(event.target.value)}
          />
          <TextField
            label="New password"
            hint="At least 12 characters. Every other session ends."
            type="password"
            autoComplete="new-password"
            required
            minLength={12}
            maxLength={512}
            value={password}
            onChange={(event) => setPassword(event.target.value)}
          />
          {form.error ? <Failure error={form.error} doing="Changing it" /> : null}
          <Button type="submit" className="self-start" disabled={form.busy}>
            Change the password
          </Button>
        </form>
      </CardContent>
    </Card>
  )
}

function SecondFactor({ on }: { on: boolean }) {
  const [open, setOpen] = useState<'set-up' | 'off' | null>(null)
  return (
    <Card>
      <CardHeader>
        <CardTitle>Second factor</CardTitle>
        <Badge tone={on ? 'good' : 'warn'}>{on ? 'on' : 'off'}</Badge>
      </CardHeader>
      <CardContent className="flex flex-col gap-3">
        <p className="text-muted-foreground">
          {on
            ? 'Sign-in asks for a code of your authenticator, or a backup code.'
            : 'With it, a stolen password alone opens nothing: sign-in also asks for a code of an authenticator app.'}
        </p>
        <Button
          variant={on ? 'outline' : 'default'}
          className="self-start"
          onClick={() => setOpen(on ? 'off' : 'set-up')}
        >
          {on ? 'Switch it off' : 'Set it up'}
        </Button>
        {open === 'set-up' ? <SetUp onClose={() => setOpen(null)} /> : null}
        {open === 'off' ? <SwitchOff onClose={() => setOpen(null)} /> : null}
      </CardContent>
    </Card>
  )
}

function SetUp({ onClose }: { onClose: () => void }) {
  const queries = useQueryClient()
  const [password, setPassword] = useState('')
  const [code, setCode] = useState('')
  const [setup, setSetup] = useState<Schemas['TotpSetup'] | null>(null)
  const [codes, setCodes] = useState<string[] | null>(null)
  const begin = useSubmit(async () => {
    setSetup(await open(api.POST('/api/auth/mfa/setup', { body: { password } })))
  })
  const verify = useSubmit(async () => {
    const answer = await open(api.POST('/api/auth/mfa/verify', { body: { code } }))
    setCodes(answer.backup_codes)
    await queries.invalidateQueries({ queryKey: meQuery.queryKey })
  })
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()}>
      <DialogContent>
        <DialogHeader>
          <DialogTitle>Set up a second factor</DialogTitle>
        </DialogHeader>
        {codes ? (
          <>
            <Alert tone="warn">
              It is on. Keep these backup codes where you find them without your phone: each stands
              in for it once, and they are shown this once.
            </Alert>
            <ul
              aria-label="Backup codes"
              className="grid grid-cols-2 gap-x-6 gap-y-1 rounded-md border bg-muted/60 p-3 font-mono text-sm"
            >
              {codes.map((one) => (
                <li key={one}>{one}</li>
              ))}
            </ul>
            <DialogFooter>
              <CopyButton text={codes.join('\n')} what="the backup codes" />
              <Button
                variant="outline"
                onClick={() =>
                  save(
                    new Blob([`${codes.join('\n')}\n`], { type: 'text/plain' }),
                    'ztna-backup-codes.txt',
                  )
                }
              >
                Save as a file
              </Button>
              <Button onClick={onClose}>I have kept them</Button>
            </DialogFooter>
          </>
        ) : setup ? (
          <form onSubmit={verify.submit} className="contents">
            <p className="text-muted-foreground">
              Scan this with an authenticator app, or type the secret into it, and give the code
              that it shows.
            </p>
            <div className="flex justify-center">
              <Suspense fallback={<div className="size-48" />}>
                <QrCode text={setup.url} label="The secret as a QR code" />
              </Suspense>
            </div>
            <CopyLine wrap text={setup.secret} what="the secret" />
            <TextField
              label="Code"
              inputMode="numeric"
              autoComplete="one-time-code"
              required
              autoFocus
              value={code}
              onChange={(event) => setCode(event.target.value)}
            />
            {verify.error ? <Failure error={verify.error} /> : null}
            <DialogFooter>
              <Button type="submit" disabled={verify.busy}>
                Switch it on
              </Button>
            </DialogFooter>
          </form>
        ) : (
          <form onSubmit={begin.submit} className="contents">
            <TextField
              label="Your password"
              type="password"
              autoComplete="current-password"
              required
              value={password}
              onChange={(event) => setPassword(event.target.value)}
            />
            {begin.error ? <Failure error={begin.error} /> : null}
            <DialogFooter>
              <Button type="submit" disabled={begin.busy}>
                Continue
              </Button>
            </DialogFooter>
          </form>
        )}
      </DialogContent>
    </Dialog>
  )
}

function SwitchOff({ onClose }: { onClose: () => void }) {
  const queries = useQueryClient()
  const [password, setPassword] = useState('')
  const [code, setCode] = useState('')
  const form = useSubmit(async () => {
    await open(api.POST('/api/auth/mfa/disable', { body: { password, code } }))
    await queries.invalidateQueries({ queryKey: meQuery.queryKey })
    toast.success('The second factor is off')
    onClose()
  })
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()}>
      <DialogContent>
        <form onSubmit={form.submit} className="contents">
          <DialogHeader>
            <DialogTitle>Switch the second factor off</DialogTitle>
          </DialogHeader>
          <TextField
            label="Your password"
            type="password"
            autoComplete="current-password"
            required
            value={password}
            onChange={(event) => setPassword(event.target.value)}
          />
          <TextField
            label="A last code"
            hint="Of the authenticator, or a backup code."
            autoComplete="one-time-code"
            required
            value={code}
            onChange={(event) => setCode(event.target.value)}
          />
          {form.error ? <Failure error={form.error} /> : null}
          <DialogFooter>
            <Button type="submit" variant="destructive" disabled={form.busy}>
              Switch it off
            </Button>
          </DialogFooter>
        </form>
      </DialogContent>
    </Dialog>
  )
}

function DeleteAccount({ mfa }: { mfa: boolean }) {
  const [asking, setAsking] = useState(false)
  const [password, setPassword] = useState('')
  const [code, setCode] = useState('')
  const form = useSubmit(async () => {
    await open(
      api.POST('/api/auth/delete-account', { body: { password, totp_code: code || undefined } }),
    )
    await signOut().catch(() => undefined)
    location.assign('/login')
  })
  return (
    <Card>
      <CardHeader>
        <CardTitle>Delete the account</CardTitle>
      </CardHeader>
      <CardContent className="flex flex-col gap-3">
        <p className="text-muted-foreground">
          With its memberships, machines, keys and sessions, and organisations that have no other
          member.
        </p>
        <Button variant="outline" className="self-start text-bad" onClick={() => setAsking(true)}>
          Delete my account
        </Button>
        <Dialog open={asking} onOpenChange={setAsking}>
          <DialogContent>
            <form onSubmit={form.submit} className="contents">
              <DialogHeader>
                <DialogTitle>Delete your account for good?</DialogTitle>
              </DialogHeader>
              <Alert tone="bad">This cannot be undone.</Alert>
              <TextField
                label="Your password"
                type="password"
                autoComplete="current-password"
                required
                value={password}
                onChange={(event) => setPassword(event.target.value)}
              />
              {mfa ? (
                <TextField
                  label="Code"
                  autoComplete="one-time-code"
                  required
                  value={code}
                  onChange={(event) => setCode(event.target.value)}
                />
              ) : null}
              {form.error ? <Failure error={form.error} /> : null}
              <DialogFooter>
                <Button variant="outline" onClick={() => setAsking(false)}>
                  Cancel
                </Button>
                <Button type="submit" variant="destructive" disabled={form.busy}>
                  Delete my account
                </Button>
              </DialogFooter>
            </form>
          </DialogContent>
        </Dialog>
      </CardContent>
    </Card>
  )
}
