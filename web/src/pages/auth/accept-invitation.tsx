import { useQuery, useQueryClient } from '@tanstack/react-query'
import { getRouteApi, Link, useNavigate } from '@tanstack/react-router'
import { api, open } from '@/api/client'
import { meQuery } from '@/api/queries'
import { accessToken, signOut } from '@/api/session'
import { Failure, Ready } from '@/components/page'
import { Alert } from '@/components/ui/alert'
import { Button } from '@/components/ui/button'
import { useSubmit } from '@/lib/use-submit'
import { Frame } from './frame'

const route = getRouteApi('/accept-invitation')

export default function AcceptInvitation() {
  const { token } = route.useSearch()
  const session = useQuery({
    queryKey: ['signed-in'],
    queryFn: async () => (await accessToken()) !== null,
    gcTime: 0,
  })
  const title = 'You are invited'
  if (!token) {
    return (
      <Frame title={title}>
        <Alert>This is not the whole link of the invitation; copy it again.</Alert>
      </Frame>
    )
  }
  const next = `/accept-invitation?token=${encodeURIComponent(token)}`
  return (
    <Ready query={session} rows={3}>
      {(signedIn) =>
        signedIn ? (
          <Join token={token} title={title} />
        ) : (
          <Frame
            title={title}
            lead="into an organisation. Sign in, or sign up, with the address that the invitation was sent to."
          >
            <div className="flex flex-col gap-2">
              <Button asChild size="lg">
                <Link to="/signup" search={{ next }}>
                  Sign up
                </Link>
              </Button>
              <Button asChild size="lg" variant="outline">
                <Link to="/login" search={{ next }}>
                  I have an account
                </Link>
              </Button>
            </div>
          </Frame>
        )
      }
    </Ready>
  )
}

function Join({ token, title }: { token: string; title: string }) {
  const me = useQuery(meQuery)
  const queries = useQueryClient()
  const navigate = useNavigate()
  const form = useSubmit(async () => {
    const org = await open(api.POST('/api/accept-invitation', { body: { token } }))
    await queries.fetchQuery({ ...meQuery, staleTime: 0 })
    await navigate({ to: '/o/$org/machines', params: { org: org.slug } })
  })
  return (
    <Frame
      title={title}
      lead={me.data ? `You are signed in as ${me.data.email}.` : null}
      foot={
        <Button variant="link" onClick={() => void signOut().catch(() => undefined)}>
          Use another account
        </Button>
      }
    >
      <form onSubmit={form.submit} className="flex flex-col gap-4">
        {form.error ? <Failure error={form.error} /> : null}
        <Button type="submit" size="lg" disabled={form.busy} autoFocus>
          Accept the invitation
        </Button>
      </form>
    </Frame>
  )
}
