import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Plus } from 'lucide-react'
import { useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { every } from '@/api/live'
import { keyOf, machinesQuery, membersQuery, policyQuery, refetch } from '@/api/queries'
import { Confirm, type Confirmation } from '@/components/confirm'
import { SelectField, TextField } from '@/components/field'
import { Empty, Failure, Ready } from '@/components/page'
import { Badge } from '@/components/ui/badge'
import { Button } from '@/components/ui/button'
import {
  Dialog,
  DialogContent,
  DialogDescription,
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
import { lines } from '@/lib/lists'
import { useOrg } from '@/lib/org'
import { type GridCell, gridOf, namesIn, partsOf } from '@/lib/policy'
import { toast } from '@/lib/toast'
import { useSubmit } from '@/lib/use-submit'
import { cn } from '@/lib/utils'

type Rule = Schemas['PolicyRule']

interface Draft {
  src: string
  dst: string
}

/** The document's rules one by one, and as a grid of who reaches whom. Changes leave its comments alone. */
export function Rules() {
  const org = useOrg()
  const query = useQuery({
    queryKey: keyOf(org.id, 'policy', 'rules'),
    queryFn: () =>
      open(api.GET('/api/orgs/{org}/policy/rules', { params: { path: { org: org.id } } })),
    refetchInterval: every(60_000),
  })
  const [draft, setDraft] = useState<Draft | null>(null)
  const [asked, setAsked] = useState<Confirmation | null>(null)
  const queries = useQueryClient()
  const remove = (rule: Rule) => {
    const { src, dst } = partsOf(rule.rule)
    setAsked({
      title: 'Delete this rule?',
      text: `${src.join(', ')} → ${dst.join(', ')}. What only it allowed is cut off at once. The document's earlier version can be brought back.`,
      verb: 'Delete',
      destructive: true,
      run: async () => {
        const answer = await open(
          api.DELETE('/api/orgs/{org}/policy/rules/{rule}', {
            params: { path: { org: org.id, rule: rule.id } },
          }),
        )
        toast.success(`Version ${answer.version} is in force`)
        await refetch(queries, org.id, 'policy', 'audit')
      },
    })
  }
  const add = org.may('manage') ? (
    <Button size="sm" onClick={() => setDraft({ src: '', dst: '' })}>
      <Plus /> Add a rule
    </Button>
  ) : null
  return (
    <Ready query={query}>
      {(rules) =>
        rules.length === 0 ? (
          <Empty title="No rule: nobody reaches anything" action={add}>
            Nothing is allowed that no rule allows.
          </Empty>
        ) : (
          <div className="flex flex-col gap-5">
            <Grid rules={rules} fill={org.may('manage') ? setDraft : null} />
            <section className="flex flex-col gap-2">
              <div className="flex items-center justify-between gap-2">
                <h2 className="font-semibold">Rules</h2>
                {add}
              </div>
              <Table label="Rules">
                <TableHeader>
                  <tr>
                    <TableHead>Action</TableHead>
                    <TableHead>From</TableHead>
                    <TableHead>To</TableHead>
                    <TableHead>Only</TableHead>
                    <TableHead>Line</TableHead>
                    <TableHead>
                      <span className="sr-only">Actions</span>
                    </TableHead>
                  </tr>
                </TableHeader>
                <TableBody>
                  {rules.map((rule) => (
                    <RuleRow key={rule.id} rule={rule} remove={remove} />
                  ))}
                </TableBody>
              </Table>
            </section>
            {draft ? <Add draft={draft} onClose={() => setDraft(null)} /> : null}
            <Confirm asked={asked} onClose={() => setAsked(null)} />
          </div>
        )
      }
    </Ready>
  )
}

function RuleRow({ rule, remove }: { rule: Rule; remove: (rule: Rule) => void }) {
  const org = useOrg()
  const { action, src, dst, more } = partsOf(rule.rule)
  const { id, description } = rule.rule as { id?: unknown; description?: unknown }
  return (
    <TableRow className={rule.in_force ? undefined : 'text-muted-foreground'}>
      <TableCell>
        <Badge tone={action === 'deny' ? 'bad' : 'good'}>{action}</Badge>{' '}
        {rule.in_force ? null : <Badge title="`when` or `expires` say so">not now</Badge>}
      </TableCell>
      <TableCell className="font-mono text-xs [overflow-wrap:anywhere]">
        {src.join(', ')}
        {typeof description === 'string' || typeof id === 'string' ? (
          <span className="block font-sans text-muted-foreground">{String(description ?? id)}</span>
        ) : null}
      </TableCell>
      <TableCell className="font-mono text-xs [overflow-wrap:anywhere]">{dst.join(', ')}</TableCell>
      <TableCell className="text-xs">{more.join('; ') || '–'}</TableCell>
      <TableCell className="figures whitespace-nowrap text-muted-foreground">
        {rule.section} {rule.at.line}
      </TableCell>
      <TableCell className="text-right">
        {org.may('manage') ? (
          <Button variant="outline" size="sm" onClick={() => remove(rule)}>
            Delete<span className="sr-only"> the rule of line {rule.at.line}</span>
          </Button>
        ) : null}
      </TableCell>
    </TableRow>
  )
}

function verdict(cell: GridCell): { text: string; className: string } {
  if (cell.denies > 0 && cell.accepts > 0) {
    return { text: 'partly', className: 'bg-warn-soft text-warn' }
  }
  if (cell.denies > 0) return { text: 'denied', className: 'bg-bad-soft text-bad' }
  if (cell.accepts > 0) return { text: 'accepted', className: 'bg-good-soft text-good' }
  return { text: '–', className: 'text-muted-foreground' }
}

function Grid({ rules, fill }: { rules: Rule[]; fill: ((draft: Draft) => void) | null }) {
  const grid = gridOf(rules)
  return (
    <section className="flex flex-col gap-2">
      <h2 className="font-semibold">Who to whom</h2>
      <Table label="Who to whom" grid>
        <TableHeader>
          <tr>
            <TableHead>From, down; to, across</TableHead>
            {grid.targets.map((target) => (
              <TableHead key={target} className="font-mono">
                {target}
              </TableHead>
            ))}
          </tr>
        </TableHeader>
        <TableBody>
          {grid.sources.map((source) => (
            <tr key={source} className="border-b">
              <th
                scope="row"
                className="max-w-56 px-3 py-1.5 text-left font-mono text-xs font-normal [overflow-wrap:anywhere]"
              >
                {source}
              </th>
              {grid.targets.map((target) => {
                const cell = grid.cell(source, target)
                const { text, className } = verdict(cell)
                return (
                  <TableCell key={target}>
                    {fill && cell.rules.length === 0 ? (
                      <Button
                        variant="ghost"
                        size="icon-sm"
                        aria-label={`Let ${source} reach ${target}`}
                        onClick={() => fill({ src: source, dst: `${target}:*` })}
                      >
                        <Plus className="size-3.5! text-muted-foreground" />
                      </Button>
                    ) : (
                      <span
                        className={cn('rounded-sm px-1.5 py-px text-xs font-medium', className)}
                      >
                        {text}
                      </span>
                    )}
                  </TableCell>
                )
              })}
            </tr>
          ))}
        </TableBody>
      </Table>
    </section>
  )
}

function Add({ draft, onClose }: { draft: Draft; onClose: () => void }) {
  const org = useOrg()
  const queries = useQueryClient()
  const policy = useQuery(policyQuery(org.id))
  const { data: members } = useQuery(membersQuery(org.id))
  const { data: machines } = useQuery(machinesQuery(org.id))
  const [action, setAction] = useState('accept')
  const [src, setSrc] = useState(draft.src)
  const [dst, setDst] = useState(draft.dst)
  const names = namesIn(policy.data?.text ?? '')
  const known = [
    'autogroup:member',
    '*',
    ...names.groups,
    ...new Set([...names.tags, ...(machines?.flatMap(({ tags }) => tags) ?? [])]),
    ...(members?.map(({ email }) => email) ?? []),
  ]
  const form = useSubmit(async () => {
    const answer = await open(
      api.POST('/api/orgs/{org}/policy/rules', {
        params: { path: { org: org.id } },
        body: {
          section: 'acls',
          rule: { action, src: lines(src), dst: dst.split(/\s+/).filter(Boolean) },
        },
      }),
    )
    toast.success(`Version ${answer.version} is in force`)
    await refetch(queries, org.id, 'policy', 'audit')
    onClose()
  })
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()}>
      <DialogContent>
        <form onSubmit={form.submit} className="contents">
          <DialogHeader>
            <DialogTitle>Add a rule</DialogTitle>
            <DialogDescription>
              It goes to the end of the document's acls, and is in force at once. Conditions are
              written in the document.
            </DialogDescription>
          </DialogHeader>
          <SelectField
            label="Action"
            value={action}
            onChange={(event) => setAction(event.target.value)}
          >
            <option>accept</option>
            <option>deny</option>
          </SelectField>
          <TextField
            label="From"
            required
            spellCheck={false}
            placeholder="group:dev tag:web"
            list="rule-from"
            value={src}
            onChange={(event) => setSrc(event.target.value)}
          />
          <TextField
            label="To"
            required
            spellCheck={false}
            placeholder="tag:web:80,443"
            hint="Each with its ports behind a colon, as in tag:web:80,443 or tag:db:*."
            list="rule-to"
            value={dst}
            onChange={(event) => setDst(event.target.value)}
          />
          <datalist id="rule-from">
            {known.map((name) => (
              <option key={name} value={name} />
            ))}
          </datalist>
          <datalist id="rule-to">
            {known.map((name) => (
              <option key={name} value={`${name}:*`} />
            ))}
          </datalist>
          {form.error ? <Failure error={form.error} doing="Adding it" /> : null}
          <DialogFooter>
            <Button variant="outline" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" disabled={form.busy}>
              Add
            </Button>
          </DialogFooter>
        </form>
      </DialogContent>
    </Dialog>
  )
}
