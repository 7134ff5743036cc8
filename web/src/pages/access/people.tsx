import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { MoreHorizontal, UserPlus } from 'lucide-react'
import { useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { sentence } from '@/api/errors'
import { invitationsQuery, membersQuery, meQuery, refetch } from '@/api/queries'
import { Confirm, type Confirmation } from '@/components/confirm'
import { CopyLine } from '@/components/copy'
import { SelectField, TextField } from '@/components/field'
import { Menu, type MenuEntry } from '@/components/menu'
import { Empty, Failure, Page, Ready } from '@/components/page'
import { Badge } from '@/components/ui/badge'
import { Button } from '@/components/ui/button'
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
import { ago, exact } from '@/lib/format'
import { useOrg } from '@/lib/org'
import { toast } from '@/lib/toast'
import { useSubmit } from '@/lib/use-submit'
import { Groups } from './groups'

type Role = Schemas['Role']
type Member = Schemas['Member']

const ROLES: ReadonlyArray<readonly [Role, string]> = [
  ['owner', 'everything, owners and single sign-on included'],
  ['admin', 'machines, keys, policy and people'],
  ['auditor', 'reads everything, changes nothing'],
  ['member', 'own machines, and what concerns every member'],
]

export default function People() {
  const org = useOrg()
  const members = useQuery(membersQuery(org.id))
  const [inviting, setInviting] = useState(false)
  const [asked, setAsked] = useState<Confirmation | null>(null)
  return (
    <Page
      title="People"
      actions={
        org.may('manage') ? (
          <Button onClick={() => setInviting(true)}>
            <UserPlus /> Invite
          </Button>
        ) : null
      }
    >
      <Ready query={members}>
        {(list) => (
          <Table label="Members">
            <TableHeader>
              <tr>
                <TableHead>E-mail address</TableHead>
                <TableHead>Role</TableHead>
                <TableHead>Member since</TableHead>
                <TableHead>
                  <span className="sr-only">Actions</span>
                </TableHead>
              </tr>
            </TableHeader>
            <TableBody>
              {list.map((member) => (
                <TableRow key={member.user}>
                  <TableCell className="[overflow-wrap:anywhere]">
                    {member.email}
                    {member.user === org.me.id ? <Badge className="ml-2">you</Badge> : null}
                  </TableCell>
                  <TableCell>{member.role}</TableCell>
                  <TableCell title={exact(member.joined_at)}>{ago(member.joined_at)}</TableCell>
                  <TableCell className="text-right">
                    <MemberMenu member={member} ask={setAsked} />
                  </TableCell>
                </TableRow>
              ))}
            </TableBody>
          </Table>
        )}
      </Ready>
      {org.may('read') ? <Invitations ask={setAsked} /> : null}
      {org.may('read') ? <Groups /> : null}
      {inviting ? <Invite onClose={() => setInviting(false)} /> : null}
      <Confirm asked={asked} onClose={() => setAsked(null)} />
    </Page>
  )
}

function MemberMenu({ member, ask }: { member: Member; ask: (asked: Confirmation) => void }) {
  const org = useOrg()
  const queries = useQueryClient()
  const path = { org: org.id, user: member.user }
  const self = member.user === org.me.id
  const after = () =>
    Promise.all([
      refetch(queries, org.id, 'members', 'policy', 'audit', 'machines'),
      self ? queries.invalidateQueries({ queryKey: meQuery.queryKey }) : null,
    ])
  const role = useMutation({
    mutationFn: (next: Role) =>
      open(api.PATCH('/api/orgs/{org}/members/{user}', { params: { path }, body: { role: next } })),
    onSuccess: (answer) => toast.success(`${answer.email} is ${answer.role} now`),
    onError: (error) => toast.error(sentence(error)),
    onSettled: after,
  })
  if (!org.may('manage') && !self) return null
  const takeFactor = () =>
    ask({
      title: `Take the second factor off ${member.email}?`,
      text: 'For somebody who lost authenticator and backup codes. Their sessions end, and the password alone signs in until they set up a new one.',
      verb: 'Take it off',
      destructive: true,
      run: async () => {
        await open(api.DELETE('/api/orgs/{org}/members/{user}/second-factor', { params: { path } }))
        toast.success(`${member.email} has no second factor any more`)
      },
    })
  const remove = () =>
    ask({
      title: self ? `Leave ${org.name}?` : `Remove ${member.email}?`,
      text: 'Their machines are deleted with them, and their keys revoked. This cannot be undone.',
      verb: self ? 'Leave' : 'Remove',
      destructive: true,
      typed: self ? org.slug : undefined,
      run: async () => {
        await open(api.DELETE('/api/orgs/{org}/members/{user}', { params: { path } }))
        toast.success(self ? `You left ${org.name}` : `${member.email} is removed`)
        if (self) location.assign('/')
        else await after()
      },
    })
  const roles: MenuEntry[] = ROLES.map(([name, text]) => ({
    text: (
      <>
        {name}
        <span className="block text-xs text-muted-foreground">{text}</span>
      </>
    ),
    chosen: name === member.role ? 'now' : undefined,
    disabled: name === member.role || (name === 'owner' && !org.may('own')),
    run: () => role.mutate(name),
  }))
  const entries = (): MenuEntry[] => [
    ...(org.may('manage') ? [{ heading: 'Role' }, ...roles, 'rule' as const] : []),
    ...(org.may('manage') && !self
      ? [{ text: 'Take the second factor off', run: takeFactor }]
      : []),
    { text: self ? 'Leave the organisation' : 'Remove', destructive: true, run: remove },
  ]
  return (
    <Menu
      variant="ghost"
      size="icon-sm"
      aria-label={`Actions for ${member.email}`}
      align="end"
      listClass="max-w-72"
      entries={entries}
    >
      <MoreHorizontal />
    </Menu>
  )
}

function Invitations({ ask }: { ask: (asked: Confirmation) => void }) {
  const org = useOrg()
  const queries = useQueryClient()
  const query = useQuery(invitationsQuery(org.id))
  return (
    <section className="flex flex-col gap-2">
      <h2 className="font-semibold">Invitations</h2>
      <Ready query={query} rows={2}>
        {(list) =>
          list.length === 0 ? (
            <Empty title="Nobody is invited just now">
              An invitation lets one person in, by a link that is bound to the address.
            </Empty>
          ) : (
            <Table label="Invitations">
              <TableHeader>
                <tr>
                  <TableHead>E-mail address</TableHead>
                  <TableHead>Role</TableHead>
                  <TableHead>Ends</TableHead>
                  <TableHead>
                    <span className="sr-only">Actions</span>
                  </TableHead>
                </tr>
              </TableHeader>
              <TableBody>
                {list.map((one) => (
                  <TableRow key={one.id}>
                    <TableCell className="[overflow-wrap:anywhere]">{one.email}</TableCell>
                    <TableCell>{one.role}</TableCell>
                    <TableCell title={exact(one.expires_at)}>{ago(one.expires_at)}</TableCell>
                    <TableCell className="text-right">
                      {org.may('manage') ? (
                        <Button
                          variant="outline"
                          size="sm"
                          onClick={() =>
                            ask({
                              title: `Withdraw the invitation of ${one.email}?`,
                              text: 'Its link leads nowhere from then on.',
                              verb: 'Withdraw',
                              destructive: true,
                              run: async () => {
                                await open(
                                  api.DELETE('/api/orgs/{org}/invitations/{id}', {
                                    params: { path: { org: org.id, id: one.id } },
                                  }),
                                )
                                await refetch(queries, org.id, 'invitations', 'audit')
                              },
                            })
                          }
                        >
                          Withdraw<span className="sr-only"> {one.email}</span>
                        </Button>
                      ) : null}
                    </TableCell>
                  </TableRow>
                ))}
              </TableBody>
            </Table>
          )
        }
      </Ready>
    </section>
  )
}

function Invite({ onClose }: { onClose: () => void }) {
  const org = useOrg()
  const queries = useQueryClient()
  const [email, setEmail] = useState('')
  const [role, setRole] = useState<Role>('member')
  const [made, setMade] = useState<Schemas['Invited'] | null>(null)
  const form = useSubmit(async () => {
    const invited = await open(
      api.POST('/api/orgs/{org}/invitations', {
        params: { path: { org: org.id } },
        body: { email, role },
      }),
    )
    void refetch(queries, org.id, 'invitations', 'audit')
    if (invited.token) {
      setMade(invited)
      return
    }
    toast.success(`An invitation is on its way to ${invited.invitation.email}`)
    onClose()
  })
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()}>
      <DialogContent>
        <DialogHeader>
          <DialogTitle>Invite into {org.name}</DialogTitle>
        </DialogHeader>
        {made?.token ? (
          <>
            <p>
              No mail is sent here. Hand this link on to {made.invitation.email}; it is shown this
              once.
            </p>
            <CopyLine
              wrap
              what="the invitation's link"
              text={`${location.origin}/accept-invitation?token=${made.token}`}
            />
            <DialogFooter>
              <Button onClick={onClose}>Done</Button>
            </DialogFooter>
          </>
        ) : (
          <form onSubmit={form.submit} className="contents">
            <TextField
              label="E-mail address"
              type="email"
              required
              value={email}
              onChange={(event) => setEmail(event.target.value)}
            />
            <SelectField
              label="Role"
              value={role}
              onChange={(event) => setRole(event.target.value as Role)}
              hint={ROLES.find(([name]) => name === role)?.[1]}
            >
              {ROLES.filter(([name]) => name !== 'owner' || org.may('own')).map(([name]) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
            </SelectField>
            {form.error ? <Failure error={form.error} doing="Inviting" /> : null}
            <DialogFooter>
              <Button variant="outline" onClick={onClose}>
                Cancel
              </Button>
              <Button type="submit" disabled={form.busy}>
                Invite
              </Button>
            </DialogFooter>
          </form>
        )}
      </DialogContent>
    </Dialog>
  )
}
