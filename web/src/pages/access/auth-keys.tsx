import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Plus } from 'lucide-react'
import { useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { authKeysQuery, refetch } from '@/api/queries'
import { Confirm, type Confirmation } from '@/components/confirm'
import { CopyLine } from '@/components/copy'
import { SelectField, SwitchField, TextField } from '@/components/field'
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
import { parseTags } from '@/lib/tags'
import { toast } from '@/lib/toast'
import { useSubmit } from '@/lib/use-submit'
import { KeyState } from './key-state'

const LIFETIMES: ReadonlyArray<readonly [number, string]> = [
  [5 * 60, '5 minutes'],
  [60 * 60, '1 hour'],
  [24 * 60 * 60, '1 day'],
  [7 * 24 * 60 * 60, '7 days'],
  [30 * 24 * 60 * 60, '30 days'],
  [90 * 24 * 60 * 60, '90 days'],
]

/** `DEFAULT_AUTH_KEY_USES` and `MAX_AUTH_KEY_USES` of the server. */
const DEFAULT_USES = 1_000
const MOST_USES = 100_000

export default function AuthKeys() {
  const org = useOrg()
  const queries = useQueryClient()
  const query = useQuery(authKeysQuery(org.id))
  const [making, setMaking] = useState(false)
  const [asked, setAsked] = useState<Confirmation | null>(null)
  const revoke = (key: Schemas['AuthKeyInfo'], quarantine: boolean) =>
    setAsked({
      title: `Revoke ${key.description || 'this key'}?`,
      text: quarantine
        ? 'It enrols no machine any more, and every machine that it enrolled goes into quarantine: for a key that leaked.'
        : 'It enrols no machine any more. Machines that are in stay in.',
      verb: quarantine ? 'Revoke and quarantine' : 'Revoke',
      destructive: true,
      run: async () => {
        await open(
          api.DELETE('/api/orgs/{org}/auth-keys/{id}', {
            params: { path: { org: org.id, id: key.id }, query: { quarantine } },
          }),
        )
        toast.success('The key is revoked')
        await refetch(queries, org.id, 'auth-keys', 'machines', 'audit')
      },
    })
  const make = org.may('manage') ? (
    <Button onClick={() => setMaking(true)}>
      <Plus /> Make an auth key
    </Button>
  ) : null
  return (
    <Page title="Auth keys" lead="They enrol machines without a person at hand." actions={make}>
      <Ready query={query}>
        {(keys) =>
          keys.length === 0 ? (
            <Empty title="There are no auth keys" action={make}>
              A server or a container joins with a key in one line,{' '}
              <code>ztna up --auth-key …</code>.
            </Empty>
          ) : (
            <Table label="Auth keys">
              <TableHeader>
                <tr>
                  <TableHead>Description</TableHead>
                  <TableHead>State</TableHead>
                  <TableHead>Kind</TableHead>
                  <TableHead>Tags</TableHead>
                  <TableHead>Machines</TableHead>
                  <TableHead>Made</TableHead>
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
                        used={
                          key.uses >=
                          (key.max_uses ?? (key.reusable ? Number.POSITIVE_INFINITY : 1))
                        }
                      />
                    </TableCell>
                    <TableCell>
                      <span className="flex flex-wrap gap-1">
                        <Badge>{key.reusable ? 'reusable' : 'one machine'}</Badge>
                        {key.ephemeral ? <Badge>ephemeral</Badge> : null}
                        {key.preapproved ? <Badge>pre-approved</Badge> : null}
                      </span>
                    </TableCell>
                    <TableCell>
                      <span className="flex flex-wrap gap-1">
                        {key.tags.map((tag) => (
                          <Badge key={tag}>{tag}</Badge>
                        ))}
                      </span>
                    </TableCell>
                    <TableCell className="figures">
                      {key.uses.toLocaleString('en')}
                      {key.reusable && key.max_uses
                        ? ` of ${key.max_uses.toLocaleString('en')}`
                        : ''}
                    </TableCell>
                    <TableCell title={exact(key.created_at)}>
                      {ago(key.created_at)}
                      <span className="block text-xs text-muted-foreground">
                        {key.created_by ?? 'nobody who is a member now'}
                      </span>
                    </TableCell>
                    <TableCell className="text-right whitespace-nowrap">
                      {org.may('manage') && !key.revoked_at ? (
                        <span className="flex justify-end gap-1">
                          <Button variant="outline" size="sm" onClick={() => revoke(key, false)}>
                            Revoke<span className="sr-only"> {key.description}</span>
                          </Button>
                          {key.uses > 0 ? (
                            <Button variant="outline" size="sm" onClick={() => revoke(key, true)}>
                              Revoke and quarantine
                              <span className="sr-only"> {key.description}</span>
                            </Button>
                          ) : null}
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

function Make({ onClose }: { onClose: () => void }) {
  const org = useOrg()
  const queries = useQueryClient()
  const [description, setDescription] = useState('')
  const [seconds, setSeconds] = useState(3600)
  const [tags, setTags] = useState('')
  const [reusable, setReusable] = useState(false)
  const [most, setMost] = useState('')
  const [ephemeral, setEphemeral] = useState(false)
  const [preapproved, setPreapproved] = useState(false)
  const [made, setMade] = useState<Schemas['CreatedAuthKey'] | null>(null)
  const form = useSubmit(async () => {
    setMade(
      await open(
        api.POST('/api/orgs/{org}/auth-keys', {
          params: { path: { org: org.id } },
          body: {
            description,
            expires_in: seconds,
            tags: parseTags(tags),
            reusable,
            ...(reusable && most ? { max_uses: Number(most) } : {}),
            ephemeral,
            preapproved,
          },
        }),
      ),
    )
    void refetch(queries, org.id, 'auth-keys', 'audit')
  })
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()}>
      <DialogContent>
        <DialogHeader>
          <DialogTitle>{made ? 'The auth key' : 'Make an auth key'}</DialogTitle>
        </DialogHeader>
        {made ? (
          <>
            <Alert tone="warn">Copy it now: it is shown this once.</Alert>
            <CopyLine wrap text={made.key} what="the auth key" />
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
                value={seconds}
                onChange={(event) => setSeconds(Number(event.target.value))}
              >
                {LIFETIMES.map(([value, label]) => (
                  <option key={value} value={value}>
                    {label}
                  </option>
                ))}
              </SelectField>
              <TextField
                label="Tags"
                placeholder="tag:web"
                spellCheck={false}
                value={tags}
                onChange={(event) => setTags(event.target.value)}
              />
            </div>
            <SwitchField
              label="Reusable"
              hint="Enrols several machines until it ends; else exactly one."
              checked={reusable}
              onCheckedChange={setReusable}
            />
            {reusable ? (
              <TextField
                label="Machines at most"
                type="number"
                min={1}
                max={MOST_USES}
                placeholder={DEFAULT_USES.toLocaleString('en')}
                hint="Every registration counts, of machines that are gone too. A low bound is what limits a key that leaks."
                value={most}
                onChange={(event) => setMost(event.target.value)}
              />
            ) : null}
            <SwitchField
              label="Ephemeral"
              hint="Its machines are deleted after 30 minutes of silence: for containers and jobs."
              checked={ephemeral}
              onCheckedChange={setEphemeral}
            />
            <SwitchField
              label="Pre-approved"
              hint="Its machines need no approval where the organisation asks for it."
              checked={preapproved}
              onCheckedChange={setPreapproved}
            />
            {form.error ? <Failure error={form.error} doing="Making the key" /> : null}
            <DialogFooter>
              <Button variant="outline" onClick={onClose}>
                Cancel
              </Button>
              <Button type="submit" disabled={form.busy}>
                Make the key
              </Button>
            </DialogFooter>
          </form>
        )}
      </DialogContent>
    </Dialog>
  )
}
