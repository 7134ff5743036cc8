import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { MoreHorizontal, Plus } from 'lucide-react'
import { useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { gatewaysQuery, refetch, settingsQuery, staticPeersQuery } from '@/api/queries'
import { Confirm, type Confirmation } from '@/components/confirm'
import { Menu } from '@/components/menu'
import { Empty, Page, Ready } from '@/components/page'
import { StateBadge } from '@/components/state'
import { Alert } from '@/components/ui/alert'
import { Badge } from '@/components/ui/badge'
import { Button } from '@/components/ui/button'
import {
  Table,
  TableBody,
  TableCell,
  TableHead,
  TableHeader,
  TableRow,
} from '@/components/ui/table'
import { useOrg } from '@/lib/org'
import { toast } from '@/lib/toast'
import { Gateways } from './gateways'
import { MakePeer, NewKeys } from './make'

type StaticPeer = Schemas['StaticPeer']

export default function StaticPeers() {
  const org = useOrg()
  const queries = useQueryClient()
  const peers = useQuery(staticPeersQuery(org.id))
  const gateways = useQuery(gatewaysQuery(org.id))
  const [making, setMaking] = useState(false)
  const [renewing, setRenewing] = useState<StaticPeer | null>(null)
  const [asked, setAsked] = useState<Confirmation | null>(null)
  const remove = (peer: StaticPeer) =>
    setAsked({
      title: `Delete ${peer.name}?`,
      text: 'Its configuration ends at once, wherever it was copied to, and its addresses are free for others. This cannot be undone.',
      verb: 'Delete',
      destructive: true,
      run: async () => {
        await open(
          api.DELETE('/api/orgs/{org}/machines/{machine}', {
            params: { path: { org: org.id, machine: peer.id } },
          }),
        )
        toast.success(`${peer.name} is deleted`)
        await refetch(queries, org.id, 'static-peers', 'gateways', 'machines', 'audit')
      },
    })
  const list = gateways.data ?? []
  const { data: settings } = useQuery(settingsQuery(org.id))
  const required = settings?.pq === 'required'
  return (
    <Page
      title="Static peers"
      lead="Phones, printers, routers: devices with a stock WireGuard app and no agent. They join through a gateway, which holds the policy for them. Their last hop, and only that, is plain WireGuard."
      actions={
        list.length > 0 && !required ? (
          <Button onClick={() => setMaking(true)}>
            <Plus /> Add a device
          </Button>
        ) : null
      }
    >
      {required ? (
        <Alert>
          The organisation demands post-quantum keys on every tunnel, so no device without an agent
          may come in.{' '}
          {org.may('manage') ? (
            <>
              Set post-quantum keys to <em>preferred</em> in the{' '}
              <Link to="/o/$org/settings" params={{ org: org.slug }} className="link">
                settings
              </Link>{' '}
              to let them.
            </>
          ) : (
            'An admin can let them.'
          )}
        </Alert>
      ) : null}
      <Gateways query={gateways} ask={setAsked} />
      <section className="flex flex-col gap-2">
        <h2 className="font-semibold">Devices</h2>
        <Ready query={peers} rows={3}>
          {(all) =>
            all.length === 0 ? (
              <Empty title="There are no static peers">
                {list.length > 0
                  ? 'Add one: it gets a configuration as a file and as a QR code, shown once.'
                  : 'A gateway has to be there first.'}
              </Empty>
            ) : (
              <Table label="Static peers">
                <TableHeader>
                  <tr>
                    <TableHead>Name</TableHead>
                    <TableHead>State</TableHead>
                    <TableHead>Address</TableHead>
                    <TableHead>Owner</TableHead>
                    <TableHead>Gateway</TableHead>
                    <TableHead>Preshared key</TableHead>
                    <TableHead>
                      <span className="sr-only">Actions</span>
                    </TableHead>
                  </tr>
                </TableHeader>
                <TableBody>
                  {all.map((peer) => (
                    <TableRow key={peer.id}>
                      <TableCell className="min-w-36 [overflow-wrap:anywhere]">
                        <Link
                          to="/o/$org/machines/$machine"
                          params={{ org: org.slug, machine: peer.id }}
                          className="font-medium hover:underline"
                        >
                          {peer.name}
                        </Link>
                        {peer.message ? (
                          <span className="block text-xs text-muted-foreground">
                            {peer.message}
                          </span>
                        ) : null}
                      </TableCell>
                      <TableCell>
                        <StateBadge state={peer.state} />
                      </TableCell>
                      <TableCell className="font-mono text-xs">{peer.ipv4}</TableCell>
                      <TableCell>
                        {peer.user ?? (
                          <span className="flex flex-wrap gap-1">
                            {peer.tags.map((tag) => (
                              <Badge key={tag}>{tag}</Badge>
                            ))}
                          </span>
                        )}
                      </TableCell>
                      <TableCell>{peer.gateway_name ?? 'none'}</TableCell>
                      <TableCell>{peer.preshared_key ? 'yes' : 'no'}</TableCell>
                      <TableCell className="text-right">
                        {org.may('manage') || peer.user === org.me.email ? (
                          <Menu
                            variant="ghost"
                            size="icon-sm"
                            aria-label={`Actions for ${peer.name}`}
                            align="end"
                            entries={() => [
                              {
                                text: 'New keys, or another gateway',
                                run: () => setRenewing(peer),
                              },
                              { text: 'Delete', destructive: true, run: () => remove(peer) },
                            ]}
                          >
                            <MoreHorizontal />
                          </Menu>
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
      {making ? <MakePeer gateways={list} onClose={() => setMaking(false)} /> : null}
      {renewing ? (
        <NewKeys peer={renewing} gateways={list} onClose={() => setRenewing(null)} />
      ) : null}
      <Confirm asked={asked} onClose={() => setAsked(null)} />
    </Page>
  )
}
