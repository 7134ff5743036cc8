import { type UseQueryResult, useQuery, useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { MoreHorizontal } from 'lucide-react'
import { useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { machinesQuery, refetch } from '@/api/queries'
import type { Confirmation } from '@/components/confirm'
import { SelectField, TextField } from '@/components/field'
import { Menu } from '@/components/menu'
import { Empty, Failure, Ready } from '@/components/page'
import { StateBadge } from '@/components/state'
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
import { STATIC_OS } from '@/lib/machines'
import { useOrg } from '@/lib/org'
import { toast } from '@/lib/toast'
import { useSubmit } from '@/lib/use-submit'

type Gateway = Schemas['Gateway']

/** `MAX_STATIC_PEERS` of the server. */
const MOST = 100

/** Machines that carry static peers. */
export function Gateways({
  query,
  ask,
}: {
  query: UseQueryResult<Gateway[]>
  ask: (asked: Confirmation) => void
}) {
  const org = useOrg()
  const queries = useQueryClient()
  const manage = org.may('manage')
  const [editing, setEditing] = useState<Gateway | 'new' | null>(null)
  const stop = (gateway: Gateway) =>
    ask({
      title: `Shall ${gateway.name} carry static peers no more?`,
      text:
        gateway.static_peers > 0
          ? `Its ${gateway.static_peers} are offline until they have another gateway, which means new keys for each.`
          : 'It carries none now.',
      verb: 'Stop',
      destructive: true,
      run: async () => {
        await open(
          api.DELETE('/api/orgs/{org}/machines/{machine}/gateway', {
            params: { path: { org: org.id, machine: gateway.machine } },
          }),
        )
        toast.success(`${gateway.name} is no gateway any more`)
        await refetch(queries, org.id, 'gateways', 'static-peers', 'audit')
      },
    })
  const add = manage ? (
    <Button variant="outline" onClick={() => setEditing('new')}>
      Make a machine a gateway
    </Button>
  ) : null
  return (
    <section className="flex flex-col gap-2">
      <div className="flex flex-wrap items-center justify-between gap-2">
        <h2 className="font-semibold">Gateways</h2>
        {query.data?.length ? add : null}
      </div>
      <Ready query={query} rows={2}>
        {(gateways) =>
          gateways.length === 0 ? (
            <Empty title="There is no gateway" action={add}>
              {manage
                ? 'A Linux machine of the org that devices reach from outside, at a UDP port that its firewall or router lets in.'
                : 'An admin of the organisation can make a machine one.'}
            </Empty>
          ) : (
            <Table label="Gateways">
              <TableHeader>
                <tr>
                  <TableHead>Machine</TableHead>
                  <TableHead>State</TableHead>
                  <TableHead>Devices reach it at</TableHead>
                  <TableHead>UDP port there</TableHead>
                  <TableHead>Devices</TableHead>
                  <TableHead>
                    <span className="sr-only">Actions</span>
                  </TableHead>
                </tr>
              </TableHeader>
              <TableBody>
                {gateways.map((gateway) => (
                  <TableRow key={gateway.machine}>
                    <TableCell className="[overflow-wrap:anywhere]">
                      <Link
                        to="/o/$org/machines/$machine"
                        params={{ org: org.slug, machine: gateway.machine }}
                        className="font-medium hover:underline"
                      >
                        {gateway.name}
                      </Link>
                    </TableCell>
                    <TableCell>
                      <StateBadge state={gateway.online ? 'online' : 'offline'} />
                    </TableCell>
                    <TableCell className="font-mono text-xs">{gateway.endpoint}</TableCell>
                    <TableCell className="figures">{gateway.listen_port}</TableCell>
                    <TableCell className="figures">
                      {gateway.static_peers} of {MOST}
                    </TableCell>
                    <TableCell className="text-right">
                      {manage ? (
                        <Menu
                          variant="ghost"
                          size="icon-sm"
                          aria-label={`Actions for the gateway ${gateway.name}`}
                          align="end"
                          entries={() => [
                            { text: 'Change its address', run: () => setEditing(gateway) },
                            {
                              text: 'Carry no devices any more',
                              destructive: true,
                              run: () => stop(gateway),
                            },
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
      {editing ? (
        <EditGateway
          gateway={editing === 'new' ? null : editing}
          taken={query.data ?? []}
          onClose={() => setEditing(null)}
        />
      ) : null}
    </section>
  )
}

function EditGateway({
  gateway,
  taken,
  onClose,
}: {
  gateway: Gateway | null
  taken: readonly Gateway[]
  onClose: () => void
}) {
  const org = useOrg()
  const queries = useQueryClient()
  const { data: machines } = useQuery(machinesQuery(org.id))
  const free = (machines ?? []).filter(
    ({ id, os }) => os !== STATIC_OS && !taken.some((other) => other.machine === id),
  )
  const [chosen, setChosen] = useState(gateway?.machine ?? '')
  const machine = chosen || (free[0]?.id ?? '')
  const [endpoint, setEndpoint] = useState(gateway?.endpoint ?? '')
  const [port, setPort] = useState(gateway ? String(gateway.listen_port) : '')
  const form = useSubmit(async () => {
    const made = await open(
      api.PUT('/api/orgs/{org}/machines/{machine}/gateway', {
        params: { path: { org: org.id, machine } },
        body: { endpoint: endpoint.trim(), ...(port ? { listen_port: Number(port) } : {}) },
      }),
    )
    toast.success(`${made.name} carries static peers at ${made.endpoint}`)
    void refetch(queries, org.id, 'gateways', 'static-peers', 'audit')
    onClose()
  })
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()}>
      <DialogContent>
        <form onSubmit={form.submit} className="contents">
          <DialogHeader>
            <DialogTitle className="[overflow-wrap:anywhere]">
              {gateway ? `Gateway ${gateway.name}` : 'Make a machine a gateway'}
            </DialogTitle>
          </DialogHeader>
          {gateway ? null : (
            <SelectField
              label="Machine"
              value={machine}
              onChange={(event) => setChosen(event.target.value)}
            >
              {free.map(({ id, name }) => (
                <option key={id} value={id}>
                  {name}
                </option>
              ))}
            </SelectField>
          )}
          <TextField
            label="Devices reach it at"
            placeholder="vpn.example.org:51820"
            hint="Its name or address as seen from outside, with the UDP port. Devices that are configured already keep the address that they were given."
            required
            spellCheck={false}
            value={endpoint}
            onChange={(event) => setEndpoint(event.target.value)}
          />
          <TextField
            label="UDP port on the machine"
            placeholder="that of the address"
            hint="Only where a router in between changes it."
            type="number"
            min={1}
            max={65_535}
            value={port}
            onChange={(event) => setPort(event.target.value)}
          />
          {form.error ? <Failure error={form.error} doing="Saving the gateway" /> : null}
          <DialogFooter>
            <Button variant="outline" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" disabled={form.busy || !machine}>
              Save
            </Button>
          </DialogFooter>
        </form>
      </DialogContent>
    </Dialog>
  )
}
