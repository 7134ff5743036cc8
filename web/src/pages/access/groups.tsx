import { useQuery } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import type { Schemas } from '@/api/client'
import { policyGroupsQuery } from '@/api/queries'
import { Empty, Ready } from '@/components/page'
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

type Person = Schemas['GroupPerson']

/** Who is in which group of the policy. Groups are changed where they stand: in the document, or at the provider. */
export function Groups() {
  const org = useOrg()
  const query = useQuery(policyGroupsQuery(org.id))
  const policy = (
    <Button variant="outline" size="sm" asChild>
      <Link to="/o/$org/policy" params={{ org: org.slug }}>
        Edit the policy
      </Link>
    </Button>
  )
  return (
    <section className="flex flex-col gap-2">
      <div className="flex items-center justify-between gap-2">
        <h2 className="font-semibold">Groups</h2>
        {query.data?.length ? policy : null}
      </div>
      <Ready query={query} rows={2}>
        {(groups) =>
          groups.length === 0 ? (
            <Empty title="The policy declares no group" action={policy}>
              Under <code>"groups"</code>, as in <code>"group:eng": ["ann@example.com"]</code>.
              Rules then name the group, and single sign-on can fill it.
            </Empty>
          ) : (
            <Table label="Groups">
              <TableHeader>
                <tr>
                  <TableHead>Group</TableHead>
                  <TableHead>People</TableHead>
                </tr>
              </TableHeader>
              <TableBody>
                {groups.map(({ name, people }) => (
                  <TableRow key={name}>
                    <TableCell className="font-mono text-xs">{name}</TableCell>
                    <TableCell>
                      {people.length === 0 ? (
                        <span className="text-muted-foreground">nobody</span>
                      ) : (
                        <ul className="flex flex-wrap gap-x-4 gap-y-1">
                          {people.map((person) => (
                            <li key={person.email} className="[overflow-wrap:anywhere]">
                              {person.email} <Standing {...person} />
                            </li>
                          ))}
                        </ul>
                      )}
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

function Standing({ member, provider }: Person) {
  if (!member) {
    return (
      <Badge
        tone="warn"
        title="The entry means nobody until somebody with this address is a member"
      >
        no member
      </Badge>
    )
  }
  return provider ? <Badge title="By the identity provider's groups">single sign-on</Badge> : null
}
