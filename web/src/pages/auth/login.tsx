import { useQuery } from '@tanstack/react-query'
import { getRouteApi, Link, useNavigate } from '@tanstack/react-router'
import { Building2, LogIn } from 'lucide-react'
import { useState } from 'react'
import { api, open } from '@/api/client'
import { ApiError } from '@/api/errors'
import { waysQuery } from '@/api/queries'
import { signIn } from '@/api/session'
import { TextField } from '@/components/field'
import { Failure } from '@/components/page'
import { Alert } from '@/components/ui/alert'
import { Button } from '@/components/ui/button'
import { ownPath } from '@/lib/search'
import { useSubmit } from '@/lib/use-submit'
import { Frame } from './frame'

const route = getRouteApi('/login')

export default function Login() {
  const search = route.useSearch()
  const navigate = useNavigate()
  const [email, setEmail] = useState(search.email ?? '')
  const [password, setPassword] = useState('')
  const [code, setCode] = useState('')
  const [wantsCode, setWantsCode] = useState(false)
  const [sso, setSso] = useState(false)
  const { data: ways } = useQuery(waysQuery)
  const form = useSubmit(async () => {
    try {
      await signIn(email, password, code)
    } catch (error) {
      if (error instanceof ApiError && error.code === 'MFA_REQUIRED') {
        setWantsCode(true)
        return
      }
      throw error
    }
    await navigate({ href: ownPath(search.next) })
  })
  if (sso) return <Sso email={email} next={search.next} back={() => setSso(false)} />
  return (
    <Frame
      title="Sign in"
      lead={
        search.next?.startsWith('/cli-login')
          ? 'to connect the command line on this computer'
          : null
      }
      foot={
        ways?.sign_up === false ? null : (
          <>
            No account yet?{' '}
            <Link
              to="/signup"
              search={{ next: search.next, email: email || undefined }}
              className="link"
            >
              Sign up
            </Link>
          </>
        )
      }
    >
      <form onSubmit={form.submit} className="flex flex-col gap-4">
        <TextField
          label="E-mail address"
          type="email"
          name="email"
          autoComplete="username"
          required
          autoFocus
          value={email}
          onChange={(event) => setEmail(event.target.value)}
        />
        <div className="relative">
          <TextField
            label="Password"
            type="password"
            name="password"
            autoComplete="current-password"
            required
            value={password}
            onChange={(event) => setPassword(event.target.value)}
          />
          {ways?.mail === false ? null : (
            <Link to="/reset-password" className="link absolute top-0 right-0 text-xs">
              Forgotten?
            </Link>
          )}
        </div>
        {wantsCode ? (
          <TextField
            label="Code"
            hint="Six digits of your authenticator, or one of your backup codes."
            name="code"
            autoComplete="one-time-code"
            inputMode="text"
            required
            autoFocus
            value={code}
            onChange={(event) => setCode(event.target.value)}
          />
        ) : null}
        {form.error ? <SignInFailure error={form.error} /> : null}
        <Button type="submit" size="lg" disabled={form.busy}>
          Sign in
        </Button>
      </form>
      <div className="flex items-center gap-3 text-xs text-muted-foreground">
        <span className="h-px flex-1 bg-border" /> or <span className="h-px flex-1 bg-border" />
      </div>
      <div className="flex flex-col gap-2">
        {ways?.providers.map(({ id, name, start }) => (
          <Button
            key={id}
            variant="outline"
            size="lg"
            onClick={() => location.assign(returning(start, search.next))}
          >
            <LogIn /> Continue with {name}
          </Button>
        ))}
        <Button variant="outline" size="lg" onClick={() => setSso(true)}>
          <Building2 /> Continue with single sign-on
        </Button>
      </div>
    </Frame>
  )
}

/** Where a sign-in by others begins, with the page to come back to. */
function returning(start: string, next: string | undefined): string {
  const url = new URL(start, location.origin)
  url.searchParams.set('return_to', ownPath(next))
  return url.pathname + url.search
}

function SignInFailure({ error }: { error: unknown }) {
  if (error instanceof ApiError && error.code === 'EMAIL_UNCONFIRMED') {
    return (
      <Alert tone="warn">
        Your address is not confirmed yet. Open the link of the mail that was sent to you, then sign
        in.
      </Alert>
    )
  }
  return <Failure error={error} />
}

function Sso({ email, next, back }: { email: string; next: string | undefined; back: () => void }) {
  const [org, setOrg] = useState(email)
  const [unknown, setUnknown] = useState(false)
  const form = useSubmit(async () => {
    const { start } = await open(
      api.GET('/api/auth/sso', { params: { query: { hint: org.trim() } } }),
    )
    setUnknown(!start)
    if (start) location.assign(returning(start, next))
  })
  return (
    <Frame
      title="Single sign-on"
      lead="Your organisation's own sign-in, as with Entra ID, Okta or Keycloak."
      foot={
        <Button variant="link" onClick={back}>
          Sign in with a password instead
        </Button>
      }
    >
      <form onSubmit={form.submit} className="flex flex-col gap-4">
        <TextField
          label="Work e-mail, or the organisation's label"
          hint="The label stands in the names of its machines, as in web.LABEL.ztna.internal."
          required
          autoFocus
          value={org}
          onChange={(event) => setOrg(event.target.value)}
        />
        {unknown ? (
          <Alert>
            No organisation with a sign-in of its own is known by that. Ask who runs yours for its
            label, or sign in with a password.
          </Alert>
        ) : null}
        {form.error ? <Failure error={form.error} /> : null}
        <Button type="submit" size="lg" disabled={form.busy}>
          Continue
        </Button>
      </form>
    </Frame>
  )
}
