import { getRouteApi, Link, useNavigate } from '@tanstack/react-router'
import { Building2 } from 'lucide-react'
import { useState } from 'react'
import { ApiError } from '@/api/errors'
import { signIn } from '@/api/session'
import { TextField } from '@/components/field'
import { Failure } from '@/components/page'
import { Alert } from '@/components/ui/alert'
import { Button } from '@/components/ui/button'
import { ownPath } from '@/lib/search'
import { useSubmit } from '@/lib/use-submit'
import { Frame } from './frame'
import { begin } from './sso'

const route = getRouteApi('/login')

export default function Login() {
  const search = route.useSearch()
  const navigate = useNavigate()
  const [email, setEmail] = useState(search.email ?? '')
  const [password, setPassword] = useState('')
  const [code, setCode] = useState('')
  const [wantsCode, setWantsCode] = useState(false)
  const [sso, setSso] = useState(false)
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
          <Link to="/reset-password" className="link absolute top-0 right-0 text-xs">
            Forgotten?
          </Link>
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
      <Button variant="outline" size="lg" onClick={() => setSso(true)}>
        <Building2 /> Continue with single sign-on
      </Button>
    </Frame>
  )
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
      <form
        className="flex flex-col gap-4"
        onSubmit={(event) => {
          event.preventDefault()
          location.assign(begin(org.trim(), next))
        }}
      >
        <TextField
          label="Work e-mail, or the organisation's label"
          hint="The label stands in the names of its machines, as in web.LABEL.ztna.internal."
          required
          autoFocus
          value={org}
          onChange={(event) => setOrg(event.target.value)}
        />
        <Button type="submit" size="lg">
          Continue
        </Button>
      </form>
    </Frame>
  )
}
