import { useQuery } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { useMemo } from 'react'
import { connectionsQuery, relaysQuery } from '@/api/queries'
import { Ready } from '@/components/page'
import { Badge } from '@/components/ui/badge'
import { Card, CardContent, CardHeader, CardTitle } from '@/components/ui/card'
import {
  Table,
  TableBody,
  TableCell,
  TableHead,
  TableHeader,
  TableRow,
} from '@/components/ui/table'
import { age, keysOf, pathOf, whyOf } from '@/lib/connections'
import { ago, exact } from '@/lib/format'
import { useOrg } from '@/lib/org'

const TONES = { direct: 'good', relay: 'warn', none: 'plain' } as const

/** The tunnels of a machine: how packets go, how fast, under which keys. */
export function Connections({ id }: { id: string }) {
  const org = useOrg()
  const query = useQuery(connectionsQuery(org.id, id))
  const { data: relays } = useQuery(relaysQuery(org.id))
  const regions = useMemo(
    () => new Map(relays?.regions.map((region) => [region.id, region.name])),
    [relays],
  )
  return (
    <Card>
      <CardHeader>
        <CardTitle>Connections</CardTitle>
        {query.data?.reported_at ? (
          <span className="text-xs text-muted-foreground" title={exact(query.data.reported_at)}>
            told {ago(query.data.reported_at)}
          </span>
        ) : null}
      </CardHeader>
      <CardContent>
        <Ready query={query} rows={2}>
          {({ reported_at: told, connections, count }) =>
            !told || connections.length === 0 ? (
              <p className="text-muted-foreground">
                {told
                  ? 'It has no tunnel now. One opens with the first packet.'
                  : 'It has told of no tunnel lately.'}
              </p>
            ) : (
              <>
                <Table label="Connections">
                  <TableHeader>
                    <tr>
                      <TableHead>Peer</TableHead>
                      <TableHead>Path, and why</TableHead>
                      <TableHead>Round trip</TableHead>
                      <TableHead>Keys</TableHead>
                      <TableHead>Age of the epoch</TableHead>
                      <TableHead>Last handshake</TableHead>
                    </tr>
                  </TableHeader>
                  <TableBody>
                    {connections.map((one) => (
                      <TableRow key={one.peer}>
                        <TableCell className="min-w-24 [overflow-wrap:anywhere]">
                          <Link
                            to="/o/$org/machines/$machine"
                            params={{ org: org.slug, machine: one.peer }}
                            className="font-medium hover:underline"
                          >
                            {one.name}
                          </Link>
                        </TableCell>
                        <TableCell>
                          <Badge tone={TONES[one.path]}>{pathOf(one, regions)}</Badge>
                          {one.why ? (
                            <span className="mt-0.5 block min-w-56 text-xs text-muted-foreground [overflow-wrap:anywhere]">
                              {whyOf(one)}
                            </span>
                          ) : null}
                        </TableCell>
                        <TableCell className="figures">
                          {one.latency_ms == null ? '–' : `${one.latency_ms}\u00a0ms`}
                        </TableCell>
                        <TableCell>{keysOf(one)}</TableCell>
                        <TableCell className="figures">
                          {age(one.epoch_age_seconds, told, Date.now())}
                        </TableCell>
                        <TableCell className="figures">
                          {age(one.handshake_age_seconds, told, Date.now())}
                        </TableCell>
                      </TableRow>
                    ))}
                  </TableBody>
                </Table>
                {count > connections.length ? (
                  <p className="mt-2 text-xs text-muted-foreground">
                    It has {count.toLocaleString('en')}, and told of the{' '}
                    {connections.length.toLocaleString('en')} that it heard of last.
                  </p>
                ) : null}
              </>
            )
          }
        </Ready>
      </CardContent>
    </Card>
  )
}
