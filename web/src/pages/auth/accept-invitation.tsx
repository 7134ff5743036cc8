import { useQuery, useQueryClient } from '@tanstack/react-query'
import { getRouteApi, Link, useNavigate } from '@tanstack/react-router'
import { api, open, type Schemas } from '@/api/client'
import { isPassing } from '@/api/errors'
import { meQuery } from '@/api/queries'
import { accessToken, signOut } from '@/api/session'
import { Failure, Ready } from '@/components/page'
import { Alert } from '@/components/ui/alert'
import { Button } from '@/components/ui/button'
import { ago } from '@/lib/format'
import { useSubmit } from '@/lib/use-submit'
import { Frame } from './frame'

const route = getRouteApi('/accept-invitation')

const TITLE = 'You are invited'

export default function AcceptInvitation() {
  const { token } = route.useSearch()
  if (!token) {
    return (
      <Frame title={TITLE}>
        <Alert>This is not the whole link of the invitation; copy it again.</Alert>
      </Frame>
    )
  }
  return <Invited token={token} />
}

function Invited({ token }: { token: string }) {
  const session = useQuery({
    queryKey: ['signed-in'],
    queryFn: async () => (await accessToken()) !== null,
    gcTime: 0,
  })
  const preview = useQuery({
    queryKey: ['invitation', token],
    queryFn: () => open(api.POST('/api/invitations/preview', { body: { token } })),
    retry: (failures, error) => isPassing(error) && failures < 2,
  })
  const next = `/accept-invitation?token=${encodeURIComponent(token)}`
  if (preview.error) {
    return (
      <Frame title={TITLE}>
        <Failure error={preview.error} />
      </Frame>
    )
  }
  return (
    <Ready query={preview} rows={3}>
      {(invitation) =>
        session.data ? (
          <Join token={token} invitation={invitation} />
        ) : (
          <Frame title={TITLE} lead={<About invitation={invitation} />}>
            <p className="text-muted-foreground">
              Sign in, or sign up, as{' '}
              <strong className="text-foreground">{invitation.email}</strong>.
            </p>
            <div className="flex flex-col gap-2">
              <Button asChild size="lg">
                <Link to="/signup" search={{ next, email: invitation.email, invitation: token }}>
                  Sign up
                </Link>
              </Button>
              <Button asChild size="lg" variant="outline">
                <Link to="/login" search={{ next, email: invitation.email }}>
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

type Invitation = Schemas['InvitationPreview']

function About({ invitation }: { invitation: Invitation }) {
  return (
    <>
      into <strong className="text-foreground">{invitation.org_name}</strong> as {invitation.role}
      {invitation.inviter ? `, by ${invitation.inviter}` : ''}. It ends {ago(invitation.expires_at)}
      .
    </>
  )
}

function Join({ token, invitation }: { token: string; invitation: Invitation }) {
  const me = useQuery(meQuery)
  const queries = useQueryClient()
  const navigate = useNavigate()
  const form = useSubmit(async () => {
    const org = await open(api.POST('/api/accept-invitation', { body: { token } }))
    await queries.fetchQuery({ ...meQuery, staleTime: 0 })
    await navigate({ to: '/o/$org/machines', params: { org: org.slug } })
  })
  const other = me.data && me.data.email !== invitation.email
  return (
    <Frame
      title={TITLE}
      lead={<About invitation={invitation} />}
      foot={
        <Button variant="link" onClick={() => void signOut().catch(() => undefined)}>
          Use another account
        </Button>
      }
    >
      <form onSubmit={form.submit} className="flex flex-col gap-4">
        {me.data ? (
          other ? (
            <Alert tone="warn">
              You are signed in as {me.data.email}; the invitation is for {invitation.email}.
            </Alert>
          ) : (
            <p className="text-muted-foreground">You are signed in as {me.data.email}.</p>
          )
        ) : null}
        {form.error ? <Failure error={form.error} /> : null}
        <Button type="submit" size="lg" disabled={form.busy} autoFocus>
          Accept the invitation
        </Button>
      </form>
    </Frame>
  )
}
