import { useQuery } from '@tanstack/react-query'
import { getRouteApi, Link, useNavigate } from '@tanstack/react-router'
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
import { Frame, PASSWORD } from './frame'

const route = getRouteApi('/signup')

export default function Signup() {
  const search = route.useSearch()
  const navigate = useNavigate()
  const [email, setEmail] = useState(search.email ?? '')
  const [password, setPassword] = useState('')
  const [sent, setSent] = useState(false)
  const { data: ways } = useQuery(waysQuery)
  const form = useSubmit(async () => {
    await open(
      api.POST('/api/auth/signup', { body: { email, password, invitation: search.invitation } }),
    )
    try {
      await signIn(email, password)
    } catch (error) {
      // Where mail is sent, the address has to be confirmed first.
      if (error instanceof ApiError && error.code === 'EMAIL_UNCONFIRMED') {
        setSent(true)
        return
      }
      if (error instanceof ApiError && error.code === 'INVALID_CREDENTIALS') {
        await navigate({ to: '/login', search: { email, next: search.next } })
        return
      }
      throw error
    }
    await navigate({ href: ownPath(search.next) })
  })
  const toLogin = (
    <Link to="/login" search={{ email: email || undefined, next: search.next }} className="link">
      Sign in
    </Link>
  )
  if (sent) {
    return (
      <Frame
        title="Look into your mail"
        lead={
          <>
            A link is on its way to <strong className="text-foreground">{email}</strong>. Open it to
            confirm the address, then sign in.
          </>
        }
        foot={<>Confirmed? {toLogin}</>}
      >
        <p className="text-muted-foreground">
          Nothing there after a few minutes? Look into the spam folder, or sign up again with the
          same address and password.
        </p>
      </Frame>
    )
  }
  if (ways?.sign_up === false && !search.invitation) {
    return (
      <Frame title="Sign up" foot={<>Have an account? {toLogin}</>}>
        <Alert>
          Accounts are by invitation here. Ask who runs your organisation for one, and open its
          link.
        </Alert>
      </Frame>
    )
  }
  return (
    <Frame title="Sign up" foot={<>Have an account? {toLogin}</>}>
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
        <TextField
          label="Password"
          hint={`At least ${PASSWORD.minLength} characters. A sentence is good.`}
          type="password"
          name="password"
          autoComplete="new-password"
          required
          {...PASSWORD}
          value={password}
          onChange={(event) => setPassword(event.target.value)}
        />
        {form.error ? <Failure error={form.error} /> : null}
        <Button type="submit" size="lg" disabled={form.busy}>
          Sign up
        </Button>
      </form>
    </Frame>
  )
}
