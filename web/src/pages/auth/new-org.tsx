import { useQueryClient, useSuspenseQuery } from '@tanstack/react-query'
import { Link, useNavigate } from '@tanstack/react-router'
import { useState } from 'react'
import { api, open } from '@/api/client'
import { meQuery } from '@/api/queries'
import { signOut } from '@/api/session'
import { TextField } from '@/components/field'
import { Failure } from '@/components/page'
import { Button } from '@/components/ui/button'
import { useSubmit } from '@/lib/use-submit'
import { Frame } from './frame'

export default function NewOrg() {
  const { data: me } = useSuspenseQuery(meQuery)
  const queries = useQueryClient()
  const navigate = useNavigate()
  const [name, setName] = useState('')
  const form = useSubmit(async () => {
    const org = await open(api.POST('/api/orgs', { body: { name } }))
    await queries.fetchQuery({ ...meQuery, staleTime: 0 })
    await navigate({ to: '/o/$org/machines', params: { org: org.slug } })
  })
  return (
    <Frame
      title="New organisation"
      lead={
        me.orgs.length === 0
          ? 'An organisation holds your machines, their policy, and the people who use them. To join one that exists, open the link of its invitation instead.'
          : 'It has machines, policy and people of its own, and nothing crosses between organisations.'
      }
      foot={
        me.orgs.length > 0 ? (
          <Link to="/" className="link">
            Cancel
          </Link>
        ) : (
          <>
            Signed in as {me.email}.{' '}
            <Button variant="link" onClick={() => void signOut().catch(() => undefined)}>
              Sign out
            </Button>
          </>
        )
      }
    >
      <form onSubmit={form.submit} className="flex flex-col gap-4">
        <TextField
          label="Name"
          hint="A label for DNS is made of it, as in web.LABEL.ztna.internal. It stays."
          required
          autoFocus
          maxLength={64}
          value={name}
          onChange={(event) => setName(event.target.value)}
        />
        {form.error ? <Failure error={form.error} /> : null}
        <Button type="submit" size="lg" disabled={form.busy}>
          Make the organisation
        </Button>
      </form>
    </Frame>
  )
}
