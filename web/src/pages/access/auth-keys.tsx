import { useQuery, useQueryClient } from '@tanstack/react-query'
import { useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { authKeysQuery, refetch } from '@/api/queries'
import type { Confirmation } from '@/components/confirm'
import { CopyLine } from '@/components/copy'
import { SelectField, SwitchField, TextField } from '@/components/field'
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
import { parseTags } from '@/lib/tags'
import { toast } from '@/lib/toast'
import { useSubmit } from '@/lib/use-submit'
import { type KeyColumn, KeysPage, Words } from './keys-page'

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

type Key = Schemas['AuthKeyInfo']

const COLUMNS: KeyColumn<Key>[] = [
  {
    head: 'Kind',
    cell: ({ reusable, ephemeral, preapproved }) => (
      <Words>
        <Badge>{reusable ? 'reusable' : 'one machine'}</Badge>
        {ephemeral ? <Badge>ephemeral</Badge> : null}
        {preapproved ? <Badge>pre-approved</Badge> : null}
      </Words>
    ),
  },
  {
    head: 'Tags',
    cell: ({ tags }) => (
      <Words>
        {tags.map((tag) => (
          <Badge key={tag}>{tag}</Badge>
        ))}
      </Words>
    ),
  },
  {
    head: 'Machines',
    className: 'figures',
    cell: ({ uses, reusable, max_uses: most }) =>
      uses.toLocaleString('en') + (reusable && most ? ` of ${most.toLocaleString('en')}` : ''),
  },
  {
    head: 'Made',
    title: ({ created_at: at }) => exact(at),
    cell: ({ created_at: at, created_by: by }) => (
      <>
        {ago(at)}
        <span className="block text-xs text-muted-foreground">
          {by ?? 'nobody who is a member now'}
        </span>
      </>
    ),
  },
]

export default function AuthKeys() {
  const org = useOrg()
  const queries = useQueryClient()
  const query = useQuery(authKeysQuery(org.id))
  const revocation = (key: Key, quarantine: boolean): Confirmation => ({
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
  return (
    <KeysPage
      title="Auth keys"
      lead="They enrol machines without a person at hand."
      make="Make an auth key"
      empty={{
        title: 'There are no auth keys',
        text: (
          <>
            A server or a container joins with a key in one line, <code>ztna up --auth-key …</code>.
          </>
        ),
      }}
      query={query}
      columns={COLUMNS}
      isUsed={({ uses, max_uses: most, reusable }) =>
        uses >= (most ?? (reusable ? Number.POSITIVE_INFINITY : 1))
      }
      revocations={(key) => [
        revocation(key, false),
        ...(key.uses > 0 ? [revocation(key, true)] : []),
      ]}
      Make={Make}
    />
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
