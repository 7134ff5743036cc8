import { useQuery } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { routesQuery } from '@/api/queries'
import { Empty, Page, Ready } from '@/components/page'
import { RouteSwitches } from '@/components/route-switches'
import { Alert } from '@/components/ui/alert'
import {
  Table,
  TableBody,
  TableCell,
  TableHead,
  TableHeader,
  TableRow,
} from '@/components/ui/table'
import { count } from '@/lib/format'
import { useOrg } from '@/lib/org'

export default function Routes() {
  const org = useOrg()
  const query = useQuery(routesQuery(org.id))
  return (
    <Page
      title="Routes"
      lead="Networks behind machines, and machines that carry what is bound for the internet. A route opens nothing by itself: rules of the policy say who may use it."
    >
      <Ready query={query}>
        {(all) => {
          const offers = all.filter((one) => one.routes.length > 0)
          const waiting = offers.flatMap((one) => one.routes).filter((one) => !one.approved)
          if (offers.length === 0) {
            return (
              <Empty title="No machine offers a route">
                On a machine in the network:{' '}
                <code>sudo ztna up --advertise-routes 10.0.0.0/24</code>, or{' '}
                <code>--advertise-exit-node</code>. What it offers then waits here for approval.
              </Empty>
            )
          }
          return (
            <>
              {waiting.length > 0 ? (
                <Alert tone="warn">
                  {count(waiting.length, 'network')} {waiting.length === 1 ? 'waits' : 'wait'} for
                  approval. An exit node offers two: IPv4 and IPv6.
                </Alert>
              ) : null}
              <Table label="Routes">
                <TableHeader>
                  <tr>
                    <TableHead>Machine</TableHead>
                    <TableHead>Offers</TableHead>
                  </tr>
                </TableHeader>
                <TableBody>
                  {offers.map((offer) => (
                    <TableRow key={offer.machine}>
                      <TableCell className="align-top">
                        <Link
                          to="/o/$org/machines/$machine"
                          params={{ org: org.slug, machine: offer.machine }}
                          className="font-medium [overflow-wrap:anywhere] hover:underline"
                        >
                          {offer.name}
                        </Link>
                      </TableCell>
                      <TableCell>
                        <RouteSwitches offer={offer} />
                      </TableCell>
                    </TableRow>
                  ))}
                </TableBody>
              </Table>
            </>
          )
        }}
      </Ready>
    </Page>
  )
}
