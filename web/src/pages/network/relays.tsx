import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Plus } from 'lucide-react'
import { useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { refetch, relayHealthQuery, relaysQuery } from '@/api/queries'
import { Confirm, type Confirmation } from '@/components/confirm'
import { CopyLine } from '@/components/copy'
import { TextField } from '@/components/field'
import { Empty, Failure, Page, Ready } from '@/components/page'
import { Badge } from '@/components/ui/badge'
import { Button } from '@/components/ui/button'
import { Card, CardContent, CardHeader, CardTitle } from '@/components/ui/card'
import {
  Dialog,
  DialogContent,
  DialogDescription,
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

type Node = Schemas['NodeHealth']

/** Numbers that are an org's own. */
const OWN = { first: 900, last: 999 }

export default function Relays() {
  const org = useOrg()
  const queries = useQueryClient()
  const health = useQuery(relayHealthQuery(org.id))
  const relays = useQuery(relaysQuery(org.id))
  const [adding, setAdding] = useState(false)
  const [asked, setAsked] = useState<Confirmation | null>(null)
  const add = org.may('manage') ? (
    <Button onClick={() => setAdding(true)}>
      <Plus /> Add an own region
    </Button>
  ) : null
  return (
    <Page
      title="Relays"
      lead="They carry tunnels where no direct path exists, and see nothing of what is inside. Machines use the nearest region."
      actions={add}
    >
      <Ready query={health}>
        {({ regions }) =>
          regions.length === 0 ? (
            <Empty title="There is no relay region">
              Without one, machines behind hard NATs do not reach each other.
            </Empty>
          ) : (
            <Table label="Relay regions">
              <TableHeader>
                <tr>
                  <TableHead>Region</TableHead>
                  <TableHead>Relay</TableHead>
                  <TableHead>Health</TableHead>
                  <TableHead>Round trip</TableHead>
                  <TableHead>Checked</TableHead>
                  <TableHead>
                    <span className="sr-only">Actions</span>
                  </TableHead>
                </tr>
              </TableHeader>
              <TableBody>
                {regions.flatMap((region) =>
                  region.nodes.map((node, index) => (
                    <TableRow key={`${region.id}/${node.node}`}>
                      <TableCell>
                        {index === 0 ? (
                          <>
                            <span className="font-medium">{region.name}</span>{' '}
                            <span className="text-muted-foreground">
                              {region.code} · {region.id}
                            </span>{' '}
                            {region.own ? <Badge tone="info">own</Badge> : null}
                          </>
                        ) : null}
                      </TableCell>
                      <TableCell>{node.node}</TableCell>
                      <TableCell>
                        <Up node={node} />
                      </TableCell>
                      <TableCell className="figures">
                        {node.latency_ms == null ? '–' : `${node.latency_ms.toFixed(1)} ms`}
                      </TableCell>
                      <TableCell title={exact(node.checked_at)}>{ago(node.checked_at)}</TableCell>
                      <TableCell className="text-right">
                        {region.own && index === 0 && org.may('manage') ? (
                          <Button
                            variant="outline"
                            size="sm"
                            onClick={() =>
                              setAsked({
                                title: `Remove ${region.name}?`,
                                text: 'Machines leave it for their next nearest region at once.',
                                verb: 'Remove',
                                destructive: true,
                                run: async () => {
                                  await open(
                                    api.DELETE('/api/orgs/{org}/relays/{region}', {
                                      params: { path: { org: org.id, region: region.id } },
                                    }),
                                  )
                                  await refetch(queries, org.id, 'relays', 'relay-health', 'audit')
                                },
                              })
                            }
                          >
                            Remove<span className="sr-only"> {region.name}</span>
                          </Button>
                        ) : null}
                      </TableCell>
                    </TableRow>
                  )),
                )}
              </TableBody>
            </Table>
          )
        }
      </Ready>
      {org.may('manage') && relays.data ? (
        <Card>
          <CardHeader>
            <CardTitle>A relay of your own</CardTitle>
          </CardHeader>
          <CardContent className="flex flex-col gap-2">
            <p className="text-muted-foreground">
              Run <code>ztna-derp</code> with the key below: it then lets in this organisation's
              machines and nobody else, and needs no connection to the control plane. Then add its
              region here.
            </p>
            <CopyLine
              text={`ztna-derp --ticket-key ${relays.data.ticket_key}`}
              what="the relay's line"
            />
          </CardContent>
        </Card>
      ) : null}
      {adding && relays.data ? (
        <AddRegion
          taken={relays.data.regions.map(({ id }) => id)}
          onClose={() => setAdding(false)}
        />
      ) : null}
      <Confirm asked={asked} onClose={() => setAsked(null)} />
    </Page>
  )
}

function Up({ node }: { node: Node }) {
  if (node.up == null) {
    return (
      <Badge title={node.error ?? undefined}>{node.error ? 'not probed' : 'not probed yet'}</Badge>
    )
  }
  return (
    <span className="flex flex-wrap items-center gap-1.5">
      <Badge tone={node.up ? 'good' : 'bad'} title={exact(node.since)}>
        {node.up ? 'up' : 'down'} since {ago(node.since)}
      </Badge>
      {node.error ? <span className="text-xs text-bad">{node.error}</span> : null}
    </span>
  )
}

function AddRegion({ taken, onClose }: { taken: number[]; onClose: () => void }) {
  const org = useOrg()
  const queries = useQueryClient()
  const free = Array.from({ length: OWN.last - OWN.first + 1 }, (_, n) => OWN.first + n).find(
    (id) => !taken.includes(id),
  )
  const [name, setName] = useState('')
  const [code, setCode] = useState('')
  const [host, setHost] = useState('')
  const [derp, setDerp] = useState('443')
  const [stun, setStun] = useState('3478')
  const [pin, setPin] = useState('')
  const form = useSubmit(async () => {
    if (free === undefined) throw new Error('all region numbers of an organisation are taken')
    const port = (text: string) => (text.trim() === '' ? null : Number(text))
    await open(
      api.PUT('/api/orgs/{org}/relays/{region}', {
        params: { path: { org: org.id, region: free } },
        body: {
          id: free,
          name,
          code,
          nodes: [
            {
              name: `${code}1`,
              host,
              derp_port: port(derp),
              stun_port: port(stun),
              certificate: pin.trim() ? { sha256: pin.trim().replace(/^sha256:/, '') } : 'web_pki',
            },
          ],
        },
      }),
    )
    toast.success(`${name} is added`)
    await refetch(queries, org.id, 'relays', 'relay-health', 'audit')
    onClose()
  })
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()}>
      <DialogContent>
        <form onSubmit={form.submit} className="contents">
          <DialogHeader>
            <DialogTitle>Add an own region</DialogTitle>
            <DialogDescription>
              With one relay; more are added by the API. Its number will be {free}.
            </DialogDescription>
          </DialogHeader>
          <div className="grid gap-4 sm:grid-cols-2">
            <TextField
              label="Name"
              required
              placeholder="Head office"
              value={name}
              onChange={(event) => setName(event.target.value)}
            />
            <TextField
              label="Code"
              required
              placeholder="hq"
              spellCheck={false}
              value={code}
              onChange={(event) => setCode(event.target.value)}
            />
          </div>
          <TextField
            label="Host"
            required
            placeholder="relay.corp.example"
            spellCheck={false}
            value={host}
            onChange={(event) => setHost(event.target.value)}
          />
          <div className="grid gap-4 sm:grid-cols-2">
            <TextField
              label="Relay's TCP port"
              inputMode="numeric"
              value={derp}
              onChange={(event) => setDerp(event.target.value)}
            />
            <TextField
              label="STUN's UDP port"
              inputMode="numeric"
              hint="Empty: no STUN there."
              value={stun}
              onChange={(event) => setStun(event.target.value)}
            />
          </div>
          <TextField
            label="Pin of its certificate"
            placeholder="sha256:…"
            hint="Empty: a certificate of a public authority."
            spellCheck={false}
            value={pin}
            onChange={(event) => setPin(event.target.value)}
          />
          {form.error ? <Failure error={form.error} doing="Adding the region" /> : null}
          <DialogFooter>
            <Button variant="outline" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" disabled={form.busy}>
              Add
            </Button>
          </DialogFooter>
        </form>
      </DialogContent>
    </Dialog>
  )
}
