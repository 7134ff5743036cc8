import { getRouteApi, Link } from '@tanstack/react-router'
import { useState } from 'react'
import { api, open } from '@/api/client'
import { TextField } from '@/components/field'
import { Failure } from '@/components/page'
import { Button } from '@/components/ui/button'
import { useSubmit } from '@/lib/use-submit'
import { Frame, PASSWORD } from './frame'

const route = getRouteApi('/reset-password')

export default function ResetPassword() {
  const { token } = route.useSearch()
  return token ? <Choose token={token} /> : <Ask />
}

function Ask() {
  const [email, setEmail] = useState('')
  const [sent, setSent] = useState(false)
  const form = useSubmit(async () => {
    await open(api.POST('/api/auth/reset-password', { body: { email } }))
    setSent(true)
  })
  const foot = (
    <Link to="/login" className="link">
      Back to sign-in
    </Link>
  )
  if (sent) {
    return (
      <Frame
        title="Look into your mail"
        lead="If the address has an account, a link to choose a new password is on its way."
        foot={foot}
      >
        {null}
      </Frame>
    )
  }
  return (
    <Frame title="Forgotten password" lead="A link by mail lets you choose a new one." foot={foot}>
      <form onSubmit={form.submit} className="flex flex-col gap-4">
        <TextField
          label="E-mail address"
          type="email"
          autoComplete="username"
          required
          autoFocus
          value={email}
          onChange={(event) => setEmail(event.target.value)}
        />
        {form.error ? <Failure error={form.error} /> : null}
        <Button type="submit" size="lg" disabled={form.busy}>
          Send the link
        </Button>
      </form>
    </Frame>
  )
}

function Choose({ token }: { token: string }) {
  const [password, setPassword] = useState('')
  const [done, setDone] = useState(false)
  const form = useSubmit(async () => {
    await open(api.POST('/api/auth/reset-password/confirm', { body: { token, password } }))
    setDone(true)
  })
  if (done) {
    return (
      <Frame
        title="Your password is changed"
        lead="All sessions of the account have ended, and sign-ins by others are no longer linked."
      >
        <Button asChild size="lg">
          <Link to="/login">Sign in</Link>
        </Button>
      </Frame>
    )
  }
  return (
    <Frame title="Choose a new password" lead="Every session of the account ends with it.">
      <form onSubmit={form.submit} className="flex flex-col gap-4">
        <TextField
          label="New password"
          hint={`At least ${PASSWORD.minLength} characters. A sentence is good.`}
          type="password"
          autoComplete="new-password"
          required
          autoFocus
          {...PASSWORD}
          value={password}
          onChange={(event) => setPassword(event.target.value)}
        />
        {form.error ? <Failure error={form.error} /> : null}
        <Button type="submit" size="lg" disabled={form.busy}>
          Change the password
        </Button>
      </form>
    </Frame>
  )
}
