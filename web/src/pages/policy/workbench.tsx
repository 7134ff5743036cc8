import type { EditorView } from '@codemirror/view'
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { useBlocker } from '@tanstack/react-router'
import { CircleCheck, Save } from 'lucide-react'
import { useCallback, useEffect, useMemo, useRef, useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { ApiError, sentence } from '@/api/errors'
import { machinesQuery, membersQuery, policyQuery, refetch } from '@/api/queries'
import { Confirm, type Confirmation } from '@/components/confirm'
import { Failure } from '@/components/page'
import { Alert } from '@/components/ui/alert'
import { Badge } from '@/components/ui/badge'
import { Button } from '@/components/ui/button'
import { count } from '@/lib/format'
import { useOrg } from '@/lib/org'
import { namesIn } from '@/lib/policy'
import { toast } from '@/lib/toast'
import { useDebounced } from '@/lib/use-debounced'
import { goTo, makeEditor, mark } from './editor'

type Document = Schemas['PolicyDocument']
type DryRun = Schemas['DryRun']

/** How long one pauses before the document is tried, in milliseconds. */
const PAUSE = 500

export default function Workbench({ policy }: { policy: Document }) {
  const org = useOrg()
  const queries = useQueryClient()
  const locked = !org.may('manage')
  // What the editor began with; the server may have a newer one by now.
  const [base, setBase] = useState(policy)
  const [text, setText] = useState(policy.text)
  const [asked, setAsked] = useState<Confirmation | null>(null)
  const dirty = text !== base.text
  const settled = useDebounced(text, PAUSE)
  const dryRun = useQuery({
    queryKey: ['dry-run', org.id, settled],
    queryFn: () =>
      open(
        api.POST('/api/orgs/{org}/policy/dry-run', {
          params: { path: { org: org.id } },
          body: { text: settled },
        }),
      ),
    enabled: dirty && settled !== base.text,
    staleTime: 30_000,
    gcTime: 60_000,
  })
  const checking = dirty && (settled !== text || dryRun.isFetching)
  const result = dirty && !checking ? dryRun.data : undefined

  const host = useRef<HTMLDivElement>(null)
  const view = useRef<EditorView | null>(null)
  const { data: members } = useQuery(membersQuery(org.id))
  const { data: machines } = useQuery(machinesQuery(org.id))
  const known = useMemo(() => {
    const names = namesIn(text)
    const given = machines?.flatMap((machine) => machine.tags) ?? []
    return {
      ...names,
      tags: [...new Set([...names.tags, ...given])],
      people: members?.map((member) => member.email) ?? [],
    }
  }, [text, members, machines])
  const latest = useRef(known)
  latest.current = known

  const save = useCallback(async () => {
    const answer = await open(
      api.PUT('/api/orgs/{org}/policy', {
        params: { path: { org: org.id } },
        body: { text, version: base.version },
      }),
    )
    queries.setQueryData(policyQuery(org.id).queryKey, answer)
    setBase(answer)
    toast.success(`Version ${answer.version} is in force`)
    await refetch(queries, org.id, 'policy', 'audit')
  }, [base.version, org.id, queries, text])

  const canSave = !locked && dirty && !checking && result?.faults.length === 0
  const askToSave = () => {
    if (!canSave || !result) return
    const cuts = result.impact?.cuts.count ?? 0
    const changes = result.impact?.changes.count ?? 0
    if (cuts + changes === 0) {
      void save().catch((error) => setFailed(error))
      return
    }
    const all = `${count(cuts, 'pair')} of machines may open nothing any more that they may open now; what runs between them ends at once.`
    const some = `Of ${count(changes, 'pair')} of machines other rules decide what may be opened: what no rule allows any more ends at once. “Can A reach B?” tells for each port once it is saved.`
    setAsked({
      title:
        cuts > 0 ? 'Save, and cut connections off?' : 'Save, with other rules between machines?',
      text: [cuts > 0 ? all : '', changes > 0 ? some : ''].join(' ').trim(),
      verb: cuts > 0 ? 'Save and cut off' : 'Save',
      destructive: true,
      run: save,
    })
  }
  const [failed, setFailed] = useState<unknown>(null)
  const saver = useRef(askToSave)
  saver.current = askToSave

  // biome-ignore lint/correctness/useExhaustiveDependencies: the editor is made once; it has its own state
  useEffect(() => {
    if (!host.current) return
    const made = makeEditor({
      parent: host.current,
      text: base.text,
      readOnly: locked,
      known: () => latest.current,
      onChange: (next) => {
        setFailed(null)
        setText(next)
      },
      onSave: () => saver.current(),
    })
    view.current = made
    return () => made.destroy()
  }, [locked])

  useEffect(() => {
    if (view.current) mark(view.current, result?.faults ?? [])
  }, [result])

  useBlocker({
    shouldBlockFn: ({ current, next }) =>
      dirty &&
      current.pathname !== next.pathname &&
      !window.confirm('The policy has changes that are not saved. Leave them?'),
    enableBeforeUnload: dirty,
  })

  const replace = (next: string) =>
    view.current?.dispatch({
      changes: { from: 0, to: view.current.state.doc.length, insert: next },
    })
  const outdated = policy.version > base.version
  const conflict = failed instanceof ApiError && failed.code === 'CONFLICT'

  return (
    <div className="grid items-start gap-4 xl:grid-cols-[minmax(0,1fr)_22rem]">
      <div className="flex min-w-0 flex-col gap-2">
        {outdated ? (
          <Alert tone="warn">
            Version {policy.version} is in force meanwhile
            {policy.author ? `, by ${policy.author}` : ''}.{' '}
            <Button
              variant="link"
              onClick={() => {
                setBase(policy)
                replace(policy.text)
              }}
            >
              Take it over
            </Button>
            {dirty ? ' (what you typed is lost)' : ''}
          </Alert>
        ) : null}
        <div
          ref={host}
          className="h-[max(24rem,calc(100dvh-19rem))] overflow-hidden rounded-lg border focus-within:border-ring"
        />
        <div className="flex flex-wrap items-center gap-2">
          {locked ? (
            <span className="text-muted-foreground">Owners and admins change the policy.</span>
          ) : (
            <>
              <Button disabled={!canSave} onClick={askToSave}>
                <Save /> Save
              </Button>
              <Button variant="outline" disabled={!dirty} onClick={() => replace(base.text)}>
                Discard changes
              </Button>
            </>
          )}
          <span className="text-xs text-muted-foreground">
            Version {base.version}
            {base.author ? ` by ${base.author}` : ''} · {base.note}
          </span>
        </div>
        {failed && !conflict ? <Failure error={failed} doing="Saving" /> : null}
        {conflict ? <Alert>{sentence(failed)}</Alert> : null}
      </div>
      <aside aria-label="Check" aria-live="polite" className="flex min-w-0 flex-col gap-3">
        {!dirty ? (
          <p className="rounded-lg border border-dashed p-4 text-muted-foreground">
            What you type is checked as you type: its faults, its tests, and who would gain or lose
            access. Nothing changes before you save.
          </p>
        ) : checking ? (
          <p className="p-1 text-muted-foreground">Checking…</p>
        ) : dryRun.error ? (
          <Failure error={dryRun.error} retry={() => void dryRun.refetch()} doing="Checking" />
        ) : result ? (
          <Outcome
            result={result}
            go={(at) => view.current && goTo(view.current, at)}
            names={new Map(machines?.map(({ id, name }) => [id, name]))}
          />
        ) : null}
      </aside>
      <Confirm asked={asked} onClose={() => setAsked(null)} />
    </div>
  )
}

function Outcome({
  result,
  go,
  names,
}: {
  result: DryRun
  go: (at: Schemas['Position']) => void
  names: ReadonlyMap<string, string>
}) {
  const { faults, impact } = result
  return (
    <>
      {faults.length > 0 ? (
        <section className="flex flex-col gap-1">
          <h2 className="text-sm font-semibold text-bad">
            {count(faults.length, 'fault')}: it cannot be saved
          </h2>
          <ul className="flex flex-col gap-1">
            {faults.map((fault) => (
              <li key={`${fault.at.line}:${fault.at.column}:${fault.message}`}>
                <button
                  type="button"
                  className="w-full rounded-md bg-bad-soft px-3 py-2 text-left text-sm text-bad hover:underline"
                  onClick={() => go(fault.at)}
                >
                  <span className="figures font-medium">
                    Line {fault.at.line}, column {fault.at.column}
                  </span>
                  <span className="block [overflow-wrap:anywhere]">{fault.message}</span>
                </button>
              </li>
            ))}
          </ul>
        </section>
      ) : (
        <p className="flex items-center gap-2 text-sm font-medium text-good">
          <CircleCheck className="size-4" /> It can be saved, and its tests pass.
        </p>
      )}
      {impact ? (
        <>
          <Impact title="Would gain access" tone="good" pairs={impact.connects} names={names} />
          <Impact title="Would lose access" tone="bad" pairs={impact.cuts} names={names} />
          <Impact title="Other rules would hold" tone="info" pairs={impact.changes} names={names} />
          {impact.connects.count + impact.cuts.count + impact.changes.count === 0 ? (
            <p className="text-muted-foreground">
              For the machines that are here now, nothing changes.
            </p>
          ) : null}
        </>
      ) : null}
    </>
  )
}

const SHOWN = 20

function Impact({
  title,
  tone,
  pairs,
  names,
}: {
  title: string
  tone: 'good' | 'bad' | 'info'
  pairs: Schemas['Pairs']
  names: ReadonlyMap<string, string>
}) {
  if (pairs.count === 0) return null
  return (
    <section className="rounded-lg border bg-card">
      <h2 className="flex items-center justify-between border-b px-3 py-1.5 text-sm font-semibold">
        {title} <Badge tone={tone}>{count(pairs.count, 'pair')}</Badge>
      </h2>
      <ul tabIndex={0} aria-label={title} className="max-h-56 overflow-y-auto px-3 py-1.5 text-sm">
        {pairs.pairs.slice(0, SHOWN).map(({ src, dst }) => (
          <li key={`${src}${dst}`} className="truncate">
            {names.get(src) ?? src} → {names.get(dst) ?? dst}
          </li>
        ))}
        {pairs.count > SHOWN ? (
          <li className="text-muted-foreground">and {pairs.count - SHOWN} more</li>
        ) : null}
      </ul>
    </section>
  )
}
