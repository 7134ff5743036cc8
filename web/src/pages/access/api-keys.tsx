import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Plus } from 'lucide-react'
import { useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { apiKeysQuery, membersQuery, refetch } from '@/api/queries'
import { Confirm, type Confirmation } from '@/components/confirm'
import { CopyLine } from '@/components/copy'
import { SelectField, TextField } from '@/components/field'
import { Empty, Failure, Page, Ready } from '@/components/page'
import { Alert } from '@/components/ui/alert'
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
import { KeyState } from './key-state'

/** What a key can be limited to; the API holds the list. */
const AREAS = [
  'audit',
  'auth-keys',
  'dns',
  'machines',
  'members',
  'policy',
  'posture',
  'relays',
  'settings',
]

const DAYS = [1, 7, 30, 90, 180, 365]

type Access = 'none' | 'read' | 'write'

export default function ApiKeys() {
  const org = useOrg()
  const queries = useQueryClient()
  const query = useQuery(apiKeysQuery(org.id))
  const { data: members } = useQuery(membersQuery(org.id))
  const [making, setMaking] = useState(false)
  const [asked, setAsked] = useState<Confirmation | null>(null)
  const make = org.may('manage') ? (
    <Button onClick={() => setMaking(true)}>
      <Plus /> Make an API key
    </Button>
  ) : null
  const whose = (id: string) =>
    members?.find(({ user }) => user === id)?.email ?? 'nobody who is a member now'
  return (
    <Page
      title="API keys"
      lead={
        <>
          They let programs call the API for their maker, within scopes.{' '}
          <a className="link" href="/api/openapi.json">
            The API's document
          </a>{' '}
          lists every call.
        </>
      }
      actions={make}
    >
      <Ready query={query}>
        {(keys) =>
          keys.length === 0 ? (
            <Empty title="There are no API keys" action={make}>
              For a script or a pipeline that manages machines, keys or policy.
            </Empty>
          ) : (
            <Table label="API keys">
              <TableHeader>
                <tr>
                  <TableHead>Description</TableHead>
                  <TableHead>State</TableHead>
                  <TableHead>Scopes</TableHead>
                  <TableHead>Last used</TableHead>
                  <TableHead>Acts for</TableHead>
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
                      <KeyState expires={key.expires_at} revoked={key.revoked_at} />
                    </TableCell>
                    <TableCell>
                      <span className="flex flex-wrap gap-1">
                        {key.scopes.map((scope) => (
                          <Badge key={scope} tone={scope.includes('write') ? 'warn' : 'plain'}>
                            {scope}
                          </Badge>
                        ))}
                      </span>
                    </TableCell>
                    <TableCell title={exact(key.last_used_at)}>{ago(key.last_used_at)}</TableCell>
                    <TableCell className="[overflow-wrap:anywhere]">
                      {whose(key.created_by)}
                    </TableCell>
                    <TableCell className="text-right">
                      {org.may('manage') && !key.revoked_at ? (
                        <Button
                          variant="outline"
                          size="sm"
                          onClick={() =>
                            setAsked({
                              title: `Revoke ${key.description || 'this key'}?`,
                              text: 'Programs that use it are refused from now on. This cannot be undone.',
                              verb: 'Revoke',
                              destructive: true,
                              run: async () => {
                                await open(
                                  api.DELETE('/api/orgs/{org}/api-keys/{id}', {
                                    params: { path: { org: org.id, id: key.id } },
                                  }),
                                )
                                toast.success('The key is revoked')
                                await refetch(queries, org.id, 'api-keys', 'audit')
                              },
                            })
                          }
                        >
                          Revoke<span className="sr-only"> {key.description}</span>
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
      {making ? <Make onClose={() => setMaking(false)} /> : null}
      <Confirm asked={asked} onClose={() => setAsked(null)} />
    </Page>
  )
}

function Make({ onClose }: { onClose: () => void }) {
  const org = useOrg()
  const queries = useQueryClient()
  const [description, setDescription] = useState('')
  const [days, setDays] = useState(30)
  const [everything, setEverything] = useState<Access>('none')
  const [areas, setAreas] = useState<Record<string, Access>>({})
  const [made, setMade] = useState<Schemas['CreatedApiKey'] | null>(null)
  const scopes =
    everything === 'none'
      ? AREAS.flatMap((area) => {
          const access = areas[area] ?? 'none'
          return access === 'none' ? [] : [`${area}:${access}`]
        })
      : [everything]
  const form = useSubmit(async () => {
    setMade(
      await open(
        api.POST('/api/orgs/{org}/api-keys', {
          params: { path: { org: org.id } },
          body: { description, expires_in_days: days, scopes },
        }),
      ),
    )
    void refetch(queries, org.id, 'api-keys', 'audit')
  })
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()}>
      <DialogContent>
        <DialogHeader>
          <DialogTitle>{made ? 'The API key' : 'Make an API key'}</DialogTitle>
        </DialogHeader>
        {made ? (
          <>
            <Alert tone="warn">Copy it now: it is shown this once.</Alert>
            <CopyLine wrap text={made.key} what="the API key" />
            <DialogFooter>
              <Button onClick={onClose}>Done</Button>
            </DialogFooter>
          </>
        ) : (
          <form onSubmit={form.submit} className="contents">
            <TextField
              label="Description"
              maxLength={255}
              placeholder="What it is for"
              value={description}
              onChange={(event) => setDescription(event.target.value)}
            />
            <div className="grid gap-4 sm:grid-cols-2">
              <SelectField
                label="Ends after"
                value={days}
                onChange={(event) => setDays(Number(event.target.value))}
              >
                {DAYS.map((value) => (
                  <option key={value} value={value}>
                    {value === 1 ? '1 day' : `${value} days`}
                  </option>
                ))}
              </SelectField>
              <SelectField
                label="Access"
                value={everything}
                onChange={(event) => setEverything(event.target.value as Access)}
              >
                <option value="none">to chosen areas</option>
                <option value="read">read everything</option>
                <option value="write">read and write everything</option>
              </SelectField>
            </div>
            {everything === 'none' ? (
              <div className="grid grid-cols-2 gap-x-4 gap-y-2 sm:grid-cols-3">
                {AREAS.map((area) => (
                  <SelectField
                    key={area}
                    label={area}
                    value={areas[area] ?? 'none'}
                    onChange={(event) =>
                      setAreas({ ...areas, [area]: event.target.value as Access })
                    }
                  >
                    <option value="none">–</option>
                    <option value="read">read</option>
                    <option value="write">write</option>
                  </SelectField>
                ))}
              </div>
            ) : null}
            {form.error ? <Failure error={form.error} doing="Making the key" /> : null}
            <DialogFooter>
              <Button variant="outline" onClick={onClose}>
                Cancel
              </Button>
              <Button type="submit" disabled={form.busy || scopes.length === 0}>
                Make the key
              </Button>
            </DialogFooter>
          </form>
        )}
      </DialogContent>
    </Dialog>
  )
}
