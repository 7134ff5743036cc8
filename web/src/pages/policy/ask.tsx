import { useQuery } from '@tanstack/react-query'
import { getRouteApi } from '@tanstack/react-router'
import { CircleCheck, CircleX } from 'lucide-react'
import { type FormEvent, useId, useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { keyOf, machinesQuery } from '@/api/queries'
import { SelectField, TextField } from '@/components/field'
import { Failure, Loading } from '@/components/page'
import { Badge } from '@/components/ui/badge'
import { Button } from '@/components/ui/button'
import { useOrg } from '@/lib/org'
import { cn } from '@/lib/utils'

const route = getRouteApi('/signed-in/o/$org/policy')
const PORTED = ['tcp', 'udp', 'sctp']
/** Names that are offered as one types. */
const OFFERED = 500

export function Ask() {
  const org = useOrg()
  const search = route.useSearch()
  const navigate = route.useNavigate()
  const list = useId()
  const { data: machines } = useQuery(machinesQuery(org.id))
  const [src, setSrc] = useState(search.src ?? '')
  const [dst, setDst] = useState(search.dst ?? '')
  const [protocol, setProtocol] = useState(search.protocol ?? 'tcp')
  const [port, setPort] = useState(search.port ?? '22')
  const ported = PORTED.includes(protocol)
  const question =
    search.src && search.dst
      ? {
          src: search.src,
          dst: search.dst,
          protocol: search.protocol ?? 'tcp',
          port: search.port ? Number(search.port) : null,
        }
      : null
  const answer = useQuery({
    queryKey: keyOf(org.id, 'policy', 'ask', question),
    queryFn: () =>
      open(
        api.POST('/api/orgs/{org}/acl-evaluate', {
          params: { path: { org: org.id } },
          body: question ?? { src: '', dst: '' },
        }),
      ),
    enabled: question !== null,
    retry: false,
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    void navigate({
      search: { tab: 'ask', src, dst, protocol, port: ported ? port : undefined },
      replace: true,
    })
    if (question) void answer.refetch()
  }
  return (
    <div className="flex max-w-4xl flex-col gap-4">
      <form
        onSubmit={submit}
        className="grid grid-cols-2 items-end gap-3 md:grid-cols-[minmax(0,1fr)_minmax(0,1fr)_7rem_6rem_auto]"
      >
        <datalist id={list}>
          {machines?.slice(0, OFFERED).map((machine) => (
            <option key={machine.id} value={machine.name} />
          ))}
        </datalist>
        <TextField
          label="May this machine"
          className="max-md:col-span-2"
          placeholder="name or address"
          required
          list={list}
          spellCheck={false}
          value={src}
          onChange={(event) => setSrc(event.target.value)}
        />
        <TextField
          label="reach this one"
          className="max-md:col-span-2"
          placeholder="name, or an address behind a route"
          required
          list={list}
          spellCheck={false}
          value={dst}
          onChange={(event) => setDst(event.target.value)}
        />
        <SelectField
          label="by"
          value={protocol}
          onChange={(event) => setProtocol(event.target.value)}
        >
          {['tcp', 'udp', 'icmp', 'sctp'].map((name) => (
            <option key={name}>{name}</option>
          ))}
        </SelectField>
        <TextField
          label="at port"
          type="number"
          min={1}
          max={65_535}
          required={ported}
          disabled={!ported}
          value={ported ? port : ''}
          onChange={(event) => setPort(event.target.value)}
        />
        <Button type="submit" className="max-md:col-span-2">
          Ask
        </Button>
      </form>
      {question === null ? (
        <p className="text-muted-foreground">
          The answer names every rule that decides, condition by condition; and if nothing allows
          it, the rule that comes closest.
        </p>
      ) : answer.error ? (
        <Failure error={answer.error} />
      ) : answer.data ? (
        <Answer answer={answer.data} />
      ) : (
        <Loading rows={3} />
      )}
    </div>
  )
}

function Answer({ answer }: { answer: Schemas['Evaluation'] }) {
  return (
    <section aria-live="polite" className="flex flex-col gap-3">
      <div
        className={cn(
          'flex items-start gap-2 rounded-lg px-4 py-3',
          answer.allowed ? 'bg-good-soft text-good' : 'bg-bad-soft text-bad',
        )}
      >
        {answer.allowed ? (
          <CircleCheck aria-hidden className="mt-0.5 size-5 shrink-0" />
        ) : (
          <CircleX aria-hidden className="mt-0.5 size-5 shrink-0" />
        )}
        <div className="min-w-0 [overflow-wrap:anywhere]">
          <p className="font-semibold">
            {answer.src} {answer.allowed ? 'may reach' : 'may not reach'} {answer.dst}
          </p>
          <p>{answer.reason}</p>
        </div>
      </div>
      {answer.matched.map((rule) => (
        <Rule key={rule.rule} rule={rule} title="This rule decides" />
      ))}
      {answer.closest ? <Rule rule={answer.closest} title="This rule comes closest" /> : null}
    </section>
  )
}

function Rule({ rule, title }: { rule: Schemas['RuleVerdict']; title: string }) {
  return (
    <article className="rounded-lg border bg-card">
      <header className="flex flex-wrap items-center gap-2 border-b px-4 py-2">
        <h2 className="text-sm font-semibold">{title}</h2>
        <Badge tone={rule.action === 'deny' ? 'bad' : 'good'}>{rule.action}</Badge>
        {rule.name ? <code className="text-xs">{rule.name}</code> : null}
        <span className="figures text-xs text-muted-foreground">
          line {rule.at.line}, column {rule.at.column}
        </span>
      </header>
      <div className="flex flex-col gap-1.5 px-4 py-3 text-sm">
        {rule.description ? <p>{rule.description}</p> : null}
        <ul className="flex flex-col gap-1">
          {rule.conditions.map((condition) => (
            <li key={`${condition.field}${condition.detail}`} className="flex gap-2">
              {condition.holds ? (
                <CircleCheck aria-label="holds" className="mt-0.5 size-4 shrink-0 text-good" />
              ) : (
                <CircleX aria-label="does not hold" className="mt-0.5 size-4 shrink-0 text-bad" />
              )}
              <span className="[overflow-wrap:anywhere]">
                <code className="text-xs">{condition.field}</code> {condition.detail}
              </span>
            </li>
          ))}
        </ul>
      </div>
    </article>
  )
}
