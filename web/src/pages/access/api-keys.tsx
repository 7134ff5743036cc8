import { useQuery, useQueryClient } from '@tanstack/react-query'
import { useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { apiKeysQuery, membersQuery, refetch } from '@/api/queries'
import { CopyLine } from '@/components/copy'
import { SelectField, TextField } from '@/components/field'
import { Failure } from '@/components/page'
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
import { ago, exact } from '@/lib/format'
import { useOrg } from '@/lib/org'
import { toast } from '@/lib/toast'
import { useSubmit } from '@/lib/use-submit'
import { type KeyColumn, KeysPage, Words } from './keys-page'

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

type Key = Schemas['ApiKeyInfo']

export default function ApiKeys() {
  const org = useOrg()
  const queries = useQueryClient()
  const query = useQuery(apiKeysQuery(org.id))
  const { data: members } = useQuery(membersQuery(org.id))
  const whose = (id: string) =>
    members?.find(({ user }) => user === id)?.email ?? 'nobody who is a member now'
  const columns: KeyColumn<Key>[] = [
    {
      head: 'Scopes',
      cell: ({ scopes }) => (
        <Words>
          {scopes.map((scope) => (
            <Badge key={scope} tone={scope.includes('write') ? 'warn' : 'plain'}>
              {scope}
            </Badge>
          ))}
        </Words>
      ),
    },
    {
      head: 'Last used',
      cell: ({ last_used_at: at }) => ago(at),
      title: ({ last_used_at: at }) => exact(at),
    },
    {
      head: 'Acts for',
      cell: ({ created_by: id }) => whose(id),
      className: '[overflow-wrap:anywhere]',
    },
  ]
  return (
    <KeysPage
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
      make="Make an API key"
      empty={{
        title: 'There are no API keys',
        text: 'For a script or a pipeline that manages machines, keys or policy.',
      }}
      query={query}
      columns={columns}
      revocations={(key) => [
        {
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
        },
      ]}
      Make={Make}
    />
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
