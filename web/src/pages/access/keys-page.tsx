import type { UseQueryResult } from '@tanstack/react-query'
import { Plus } from 'lucide-react'
import { type ReactNode, useState } from 'react'
import { Confirm, type Confirmation } from '@/components/confirm'
import { Empty, Page, Ready } from '@/components/page'
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
import { KeyState } from './key-state'

interface Key {
  id: string
  description: string
  expires_at: string
  revoked_at?: string | null
}

/** What a table of one kind of keys shows beside description and state. */
export interface KeyColumn<K> {
  head: string
  cell: (key: K) => ReactNode
  title?: (key: K) => string | undefined
  className?: string
}

/** A page of keys of one kind: all of them, how to make one, and how to end one. */
export function KeysPage<K extends Key>({
  title,
  lead,
  make,
  empty,
  query,
  columns,
  isUsed,
  revocations,
  Make,
}: {
  title: string
  lead: ReactNode
  /** On the button. */
  make: string
  empty: { title: string; text: ReactNode }
  query: UseQueryResult<K[]>
  columns: ReadonlyArray<KeyColumn<K>>
  /** Whether it has done all that it may. */
  isUsed?: (key: K) => boolean
  /** The ways to end one, each asked about before. */
  revocations: (key: K) => Confirmation[]
  Make: (props: { onClose: () => void }) => ReactNode
}) {
  const org = useOrg()
  const [making, setMaking] = useState(false)
  const [asked, setAsked] = useState<Confirmation | null>(null)
  const button = org.may('manage') ? (
    <Button onClick={() => setMaking(true)}>
      <Plus /> {make}
    </Button>
  ) : null
  return (
    <Page title={title} lead={lead} actions={button}>
      <Ready query={query}>
        {(keys) =>
          keys.length === 0 ? (
            <Empty title={empty.title} action={button}>
              {empty.text}
            </Empty>
          ) : (
            <Table label={title}>
              <TableHeader>
                <tr>
                  <TableHead>Description</TableHead>
                  <TableHead>State</TableHead>
                  {columns.map(({ head }) => (
                    <TableHead key={head}>{head}</TableHead>
                  ))}
                  <TableHead>
                    <span className="sr-only">Actions</span>
                  </TableHead>
                </tr>
              </TableHeader>
              <TableBody>
                {keys.map((key) => (
                  <TableRow key={key.id}>
                    <TableCell className="min-w-40 [overflow-wrap:anywhere]">
                      {key.description || <span className="text-muted-foreground">none</span>}
                    </TableCell>
                    <TableCell>
                      <KeyState
                        expires={key.expires_at}
                        revoked={key.revoked_at}
                        used={isUsed?.(key)}
                      />
                    </TableCell>
                    {columns.map(({ head, cell, title: hint, className }) => (
                      <TableCell key={head} title={hint?.(key)} className={className}>
                        {cell(key)}
                      </TableCell>
                    ))}
                    <TableCell className="text-right">
                      {org.may('manage') && !key.revoked_at ? (
                        <span className="flex flex-wrap justify-end gap-1">
                          {revocations(key).map((confirmation) => (
                            <Button
                              key={confirmation.verb}
                              variant="outline"
                              size="sm"
                              onClick={() => setAsked(confirmation)}
                            >
                              {confirmation.verb}
                              <span className="sr-only"> {key.description}</span>
                            </Button>
                          ))}
                        </span>
                      ) : null}
                    </TableCell>
                  </TableRow>
                ))}
              </TableBody>
            </Table>
          )
        }
      </Ready>
      {making ? <Make onClose={() => setMaking(false)} /> : null}
      <Confirm asked={asked} onClose={() => setAsked(null)} />
    </Page>
  )
}

/** Several words of a key, each in a frame. */
export function Words({ children }: { children: ReactNode }) {
  return <span className="flex flex-wrap gap-1">{children}</span>
}
