import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { Plus } from 'lucide-react'
import { useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { facetsQuery, posturePoliciesQuery, postureQuery, refetch } from '@/api/queries'
import { Confirm, type Confirmation } from '@/components/confirm'
import { AreaField, SelectField, SwitchField, TextField } from '@/components/field'
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
import { ago, count, exact } from '@/lib/format'
import { lines } from '@/lib/lists'
import { postureStanding } from '@/lib/machines'
import { useOrg } from '@/lib/org'
import { requirementsText, versionsOf, versionsText } from '@/lib/posture'
import { toast } from '@/lib/toast'
import { useSubmit } from '@/lib/use-submit'

type Policy = Schemas['PosturePolicy']
type Spec = Schemas['PosturePolicySpec']

const FOLLOWS: ReadonlyArray<readonly [Schemas['OnFailure'], string]> = [
  ['warn', 'warn: it is told, and shown here'],
  ['restrict', 'restrict: it opens no connection, and can still be reached'],
  ['quarantine', 'quarantine: it has no peers'],
]

export default function PosturePage() {
  const org = useOrg()
  const [editing, setEditing] = useState<Policy | 'new' | null>(null)
  const add = org.may('manage') ? (
    <Button onClick={() => setEditing('new')}>
      <Plus /> Add a policy
    </Button>
  ) : null
  return (
    <Page
      title="Posture"
      lead="How healthy machines are, as their agents report it, and what follows where they are not as they should be. The next good report releases a machine."
      actions={add}
    >
      {org.may('read') ? <Policies edit={setEditing} add={add} /> : null}
      <Results />
      {editing ? (
        <Edit policy={editing === 'new' ? null : editing} onClose={() => setEditing(null)} />
      ) : null}
    </Page>
  )
}

function Policies({ edit, add }: { edit: (policy: Policy) => void; add: React.ReactNode }) {
  const org = useOrg()
  const queries = useQueryClient()
  const query = useQuery(posturePoliciesQuery(org.id))
  const [asked, setAsked] = useState<Confirmation | null>(null)
  return (
    <section className="flex flex-col gap-2">
      <h2 className="font-semibold">Policies</h2>
      <Ready query={query} rows={3}>
        {(list) =>
          list.length === 0 ? (
            <Empty title="Nothing is asked of machines yet" action={add}>
              A policy asks for disk encryption, a firewall or a version, of all machines or of
              those with a tag or in a group.
            </Empty>
          ) : (
            <Table label="Posture policies">
              <TableHeader>
                <tr>
                  <TableHead>Policy</TableHead>
                  <TableHead>Asks for</TableHead>
                  <TableHead>Of</TableHead>
                  <TableHead>Else</TableHead>
                  <TableHead>
                    <span className="sr-only">Actions</span>
                  </TableHead>
                </tr>
              </TableHeader>
              <TableBody>
                {list.map((one) => (
                  <TableRow key={one.id}>
                    <TableCell className="min-w-32 font-medium [overflow-wrap:anywhere]">
                      {one.policy.name} {one.policy.enabled === false ? <Badge>off</Badge> : null}
                    </TableCell>
                    <TableCell className="min-w-48">
                      {requirementsText(one.policy.requires)}
                    </TableCell>
                    <TableCell>
                      {one.policy.scope?.length ? one.policy.scope.join(', ') : 'every machine'}
                    </TableCell>
                    <TableCell className="whitespace-nowrap">
                      {one.policy.on_failure}
                      {one.policy.grace_minutes
                        ? ` after ${count(one.policy.grace_minutes, 'minute')}`
                        : ' at once'}
                    </TableCell>
                    <TableCell className="text-right whitespace-nowrap">
                      {org.may('manage') ? (
                        <span className="flex justify-end gap-1">
                          <Button variant="outline" size="sm" onClick={() => edit(one)}>
                            Edit<span className="sr-only"> {one.policy.name}</span>
                          </Button>
                          <Button
                            variant="outline"
                            size="sm"
                            onClick={() =>
                              setAsked({
                                title: `Delete ${one.policy.name}?`,
                                text: 'Machines that it restricted or quarantined are released.',
                                verb: 'Delete',
                                destructive: true,
                                run: async () => {
                                  await open(
                                    api.DELETE('/api/orgs/{org}/posture/policies/{policy}', {
                                      params: { path: { org: org.id, policy: one.id } },
                                    }),
                                  )
                                  await refetch(
                                    queries,
                                    org.id,
                                    'posture-policies',
                                    'posture',
                                    'machines',
                                    'audit',
                                  )
                                },
                              })
                            }
                          >
                            Delete<span className="sr-only"> {one.policy.name}</span>
                          </Button>
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
      <Confirm asked={asked} onClose={() => setAsked(null)} />
    </section>
  )
}

/** So many rows are drawn; the machines page filters all of them. */
const SHOWN = 100

function Results() {
  const org = useOrg()
  const query = useQuery(postureQuery(org.id))
  return (
    <section className="flex flex-col gap-2">
      <div className="flex items-center justify-between gap-2">
        <h2 className="font-semibold">Machines</h2>
        <Link
          to="/o/$org/machines"
          params={{ org: org.slug }}
          search={{ posture: 'failing' }}
          className="link text-sm"
        >
          Failing machines
        </Link>
      </div>
      <Ready query={query}>
        {(list) => {
          const order = { failing: 0, stale: 1, none: 2, passing: 3 }
          const sorted = list
            .map((one) => ({ one, standing: postureStanding(one) }))
            .sort((a, b) => order[a.standing] - order[b.standing])
          if (list.length === 0) {
            return <Empty title="No machine has reported yet">Agents do so by themselves.</Empty>
          }
          return (
            <>
              <Table label="Posture of machines">
                <TableHeader>
                  <tr>
                    <TableHead>Machine</TableHead>
                    <TableHead>Standing</TableHead>
                    <TableHead>What fails</TableHead>
                    <TableHead>Reported</TableHead>
                  </tr>
                </TableHeader>
                <TableBody>
                  {sorted.slice(0, SHOWN).map(({ one, standing }) => (
                    <TableRow key={one.machine}>
                      <TableCell>
                        <Link
                          to="/o/$org/machines/$machine"
                          params={{ org: org.slug, machine: one.machine }}
                          className="font-medium [overflow-wrap:anywhere] hover:underline"
                        >
                          {one.name}
                        </Link>
                      </TableCell>
                      <TableCell>
                        {standing === 'failing' ? (
                          <Badge tone="bad">{one.consequence ?? 'failing'}</Badge>
                        ) : standing === 'passing' ? (
                          <Badge tone="good">passing</Badge>
                        ) : standing === 'stale' ? (
                          <Badge tone="warn">no fresh report</Badge>
                        ) : (
                          <Badge>nothing asked</Badge>
                        )}
                      </TableCell>
                      <TableCell className="min-w-48">
                        {one.results
                          .filter((result) => result.failing_since)
                          .flatMap((result) =>
                            result.checks
                              .filter((check) => check.passed !== 'yes')
                              .map((check) => `${result.name}: ${check.detail}`),
                          )
                          .join('; ') || '–'}
                      </TableCell>
                      <TableCell title={exact(one.reported_at)}>{ago(one.reported_at)}</TableCell>
                    </TableRow>
                  ))}
                </TableBody>
              </Table>
              {list.length > SHOWN ? (
                <p className="text-xs text-muted-foreground">
                  The first {SHOWN} of {count(list.length, 'machine')}, the failing ones first.
                </p>
              ) : null}
            </>
          )
        }}
      </Ready>
    </section>
  )
}

const FLAGS = [
  ['disk_encryption', 'Disk encryption'],
  ['firewall', 'Firewall'],
  ['screen_lock', 'Screen lock'],
  ['auto_update', 'Automatic updates'],
] as const

function Edit({ policy, onClose }: { policy: Policy | null; onClose: () => void }) {
  const org = useOrg()
  const queries = useQueryClient()
  const [spec, setSpec] = useState<Spec>(
    policy?.policy ?? {
      name: '',
      enabled: true,
      grace_minutes: 60,
      on_failure: 'warn',
      scope: [],
      requires: {},
    },
  )
  const [versions, setVersions] = useState(versionsText(spec.requires.min_os_version ?? {}))
  const [scope, setScope] = useState((spec.scope ?? []).join(' '))
  const form = useSubmit(async () => {
    const body: Spec = {
      ...spec,
      scope: lines(scope),
      requires: { ...spec.requires, min_os_version: versionsOf(versions) },
    }
    const path = { org: org.id }
    await (policy
      ? open(
          api.PUT('/api/orgs/{org}/posture/policies/{policy}', {
            params: { path: { ...path, policy: policy.id } },
            body,
          }),
        )
      : open(api.POST('/api/orgs/{org}/posture/policies', { params: { path }, body })))
    toast.success(`${spec.name} is saved`)
    await refetch(queries, org.id, 'posture-policies', 'posture', 'machines', 'audit')
    onClose()
  })
  const { data: facets } = useQuery(facetsQuery(org.id))
  const unknown = lines(scope).filter(
    (label) =>
      label.startsWith('tag:') && facets && !facets.tags.some(({ value }) => value === label),
  )
  const cuts = spec.enabled !== false && spec.on_failure !== 'warn'
  const set = (change: Partial<Spec>) => setSpec({ ...spec, ...change })
  const require = (change: Partial<Spec['requires']>) =>
    set({ requires: { ...spec.requires, ...change } })
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()}>
      <DialogContent>
        <form onSubmit={form.submit} className="contents">
          <DialogHeader>
            <DialogTitle>
              {policy ? `Edit ${policy.policy.name}` : 'Add a posture policy'}
            </DialogTitle>
          </DialogHeader>
          <TextField
            label="Name"
            required
            maxLength={64}
            value={spec.name}
            onChange={(event) => set({ name: event.target.value })}
          />
          <TextField
            label="Of which machines"
            placeholder="tag:web group:eng"
            hint={
              unknown.length > 0
                ? `No machine has ${unknown.join(', ')} now.`
                : 'Tags and groups, any of them suffices. Empty: every machine.'
            }
            spellCheck={false}
            value={scope}
            onChange={(event) => setScope(event.target.value)}
          />
          <fieldset className="flex flex-col gap-3 rounded-md border p-3">
            <legend className="px-1 text-sm font-medium">Asks for</legend>
            <div className="grid gap-x-6 gap-y-2 sm:grid-cols-2">
              {FLAGS.map(([key, label]) => (
                <SwitchField
                  key={key}
                  label={label}
                  checked={spec.requires[key] ?? false}
                  onCheckedChange={(on) => require({ [key]: on })}
                />
              ))}
            </div>
            <TextField
              label="Oldest agent"
              placeholder="0.1.0"
              value={spec.requires.min_agent_version ?? ''}
              onChange={(event) => require({ min_agent_version: event.target.value || null })}
            />
            <AreaField
              label="Oldest systems"
              placeholder={'debian 12\nmacos 15'}
              hint="A system and a version a line: debian, ubuntu, linux (the kernel), macos, windows."
              rows={2}
              spellCheck={false}
              value={versions}
              onChange={(event) => setVersions(event.target.value)}
            />
          </fieldset>
          <div className="grid gap-4 sm:grid-cols-2">
            <SelectField
              label="What follows else"
              value={spec.on_failure}
              hint={FOLLOWS.find(([name]) => name === spec.on_failure)?.[1]}
              onChange={(event) => {
                const next = FOLLOWS.find(([name]) => name === event.target.value)
                if (next) set({ on_failure: next[0] })
              }}
            >
              {FOLLOWS.map(([name]) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
            </SelectField>
            <TextField
              label="After minutes"
              type="number"
              min={0}
              max={43_200}
              hint="Grace between the first failure and what follows."
              value={spec.grace_minutes ?? 0}
              onChange={(event) => set({ grace_minutes: Number(event.target.value) })}
            />
          </div>
          <SwitchField
            label="On"
            checked={spec.enabled ?? true}
            onCheckedChange={(enabled) => set({ enabled })}
          />
          {cuts ? (
            <Alert tone="bad">
              Machines that fail it, or tell nothing,{' '}
              {spec.on_failure === 'restrict' ? 'reach nobody' : 'are out'}{' '}
              {spec.grace_minutes ? `after ${count(spec.grace_minutes, 'minute')}` : 'at once'}.
              With “warn”, the list behind this shows first who they are.
            </Alert>
          ) : null}
          {form.error ? <Failure error={form.error} doing="Saving" /> : null}
          <DialogFooter>
            <Button variant="outline" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" variant={cuts ? 'destructive' : 'default'} disabled={form.busy}>
              Save
            </Button>
          </DialogFooter>
        </form>
      </DialogContent>
    </Dialog>
  )
}
