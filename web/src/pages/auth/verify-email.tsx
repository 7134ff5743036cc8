import { getRouteApi, Link } from '@tanstack/react-router'
import { useState } from 'react'
import { api, open } from '@/api/client'
import { TextField } from '@/components/field'
import { Failure } from '@/components/page'
import { Alert } from '@/components/ui/alert'
import { Button } from '@/components/ui/button'
import { useSubmit } from '@/lib/use-submit'
import { Frame } from './frame'

const route = getRouteApi('/verify-email')

export default function VerifyEmail() {
  const { token } = route.useSearch()
  const [password, setPassword] = useState('')
  const [done, setDone] = useState(false)
  const form = useSubmit(async () => {
    await open(api.POST('/api/auth/verify-email', { body: { token: token ?? '', password } }))
    setDone(true)
  })
  if (!token) {
    return (
      <Frame title="Confirm your address">
        <Alert>This is not the whole link of the mail; copy it again.</Alert>
      </Frame>
    )
  }
  if (done) {
    return (
      <Frame title="Your address is confirmed" lead="You can sign in now.">
        <Button asChild size="lg">
          <Link to="/login">Sign in</Link>
        </Button>
      </Frame>
    )
  }
  return (
    <Frame
      title="Confirm your address"
      lead="Give the password that you chose when you signed up: so nobody else can confirm an account in your name."
    >
      <form onSubmit={form.submit} className="flex flex-col gap-4">
        <TextField
          label="Password"
          type="password"
          autoComplete="current-password"
          required
          autoFocus
          value={password}
          onChange={(event) => setPassword(event.target.value)}
        />
        {form.error ? <Failure error={form.error} /> : null}
        <Button type="submit" size="lg" disabled={form.busy}>
          Confirm
        </Button>
      </form>
    </Frame>
  )
}
