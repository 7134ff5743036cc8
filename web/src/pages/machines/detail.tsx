import { useQuery } from '@tanstack/react-query'
import { getRouteApi, Link, useNavigate } from '@tanstack/react-router'
import { ArrowRight, Pencil } from 'lucide-react'
import { type ReactNode, useCallback, useMemo, useState } from 'react'
import type { Schemas } from '@/api/client'
import {
  auditOfQuery,
  machinePostureQuery,
  machineQuery,
  machineReachQuery,
  machinesQuery,
  relaysQuery,
  routesQuery,
} from '@/api/queries'
import { AuditRows } from '@/components/audit-rows'
import { Confirm } from '@/components/confirm'
import { CopyButton } from '@/components/copy'
import { Page, Ready } from '@/components/page'
import { PostureResults } from '@/components/posture-results'
import { RouteSwitches } from '@/components/route-switches'
import { STATES, StateBadge, StateDot } from '@/components/state'
import { Alert } from '@/components/ui/alert'
import { Badge } from '@/components/ui/badge'
import { Button } from '@/components/ui/button'
import { Card, CardContent, CardHeader, CardTitle } from '@/components/ui/card'
import { ago, exact, system } from '@/lib/format'
import type { Machine } from '@/lib/machines'
import { useOrg } from '@/lib/org'
import { useMachineActions } from './actions'
import { Connections } from './connections'
import EditMachine from './edit'
import { MachineMenu } from './menu'

const route = getRouteApi('/signed-in/o/$org/machines/$machine')

export default function MachinePage() {
  const org = useOrg()
  const { machine: id } = route.useParams()
  const query = useQuery(machineQuery(org.id, id))
  return (
    <Ready query={query} rows={10}>
      {(machine) => <Detail machine={machine} />}
    </Ready>
  )
}

function Detail({ machine }: { machine: Machine }) {
  const org = useOrg()
  const navigate = useNavigate()
  const [editing, setEditing] = useState(false)
  const leave = useCallback(
    () => void navigate({ to: '/o/$org/machines', params: { org: org.slug } }),
    [navigate, org.slug],
  )
  const { act, asked, close, put } = useMachineActions(leave)
  const mine = machine.user === org.me.email
  return (
    <Page
      title={machine.name}
      lead={
        <Link to="/o/$org/machines" params={{ org: org.slug }} className="link">
          All machines
        </Link>
      }
      actions={
        <>
          <StateBadge state={machine.state} />
          {machine.state === 'pending' && org.may('manage') ? (
            <Button onClick={() => act('approve', [machine])}>Approve</Button>
          ) : null}
          {org.may('manage') || mine ? (
            <Button variant="outline" onClick={() => setEditing(true)}>
              <Pencil /> Edit
            </Button>
          ) : null}
          <MachineMenu machine={machine} act={act} edit={() => setEditing(true)} />
        </>
      }
    >
      <Standing machine={machine} />
      <div className="grid items-start gap-4 lg:grid-cols-2">
        <Facts machine={machine} />
        <div className="flex min-w-0 flex-col gap-4">
          <PostureCard id={machine.id} />
          {org.may('read') ? <RoutesCard id={machine.id} /> : null}
        </div>
      </div>
      {org.may('read') || mine ? <Connections id={machine.id} /> : null}
      {org.may('read') ? <ReachCard machine={machine} /> : null}
      {org.may('read') ? <AuditCard id={machine.id} /> : null}
      <Confirm asked={asked} onClose={close} />
      {editing ? (
        <EditMachine machine={machine} onDone={put} onClose={() => setEditing(false)} />
      ) : null}
    </Page>
  )
}

function Standing({ machine }: { machine: Machine }) {
  if (machine.wipe) {
    return (
      <Alert tone="bad">
        {machine.wipe.done_at
          ? `Wiped: the machine said so ${ago(machine.wipe.done_at)}.`
          : `A wipe was asked for ${ago(machine.wipe.asked_at)}; the machine has not answered yet.`}
      </Alert>
    )
  }
  if (['online', 'offline'].includes(machine.state)) return null
  return (
    <Alert tone={machine.state === 'pending' || machine.state === 'expired' ? 'warn' : 'bad'}>
      {STATES[machine.state].why}
      {machine.reason ? ` Reason: ${machine.reason}` : ''}
    </Alert>
  )
}

function Facts({ machine }: { machine: Machine }) {
  const org = useOrg()
  return (
    <Card>
      <CardHeader>
        <CardTitle>Machine</CardTitle>
      </CardHeader>
      <CardContent>
        <dl className="grid grid-cols-[6.5rem_minmax(0,1fr)] items-center gap-x-3 gap-y-1.5 text-sm">
          <Fact label="DNS name" copy={machine.dns_name}>
            {machine.dns_name}
          </Fact>
          <Fact label="IPv4" copy={machine.ipv4} mono>
            {machine.ipv4}
          </Fact>
          <Fact label="IPv6" copy={machine.ipv6} mono>
            {machine.ipv6}
          </Fact>
          <Fact label="WireGuard key" copy={machine.wg_key} mono>
            {machine.wg_key}
          </Fact>
          <Fact label="Owner">
            {machine.user ??
              (machine.tags.length > 0 ? 'nobody: it has tags' : 'nobody: an auth key enrolled it')}
          </Fact>
          <Fact label="Tags">
            {machine.tags.length === 0 ? (
              'none'
            ) : (
              <span className="flex flex-wrap gap-1">
                {machine.tags.map((tag) => (
                  <Link key={tag} to="/o/$org/machines" params={{ org: org.slug }} search={{ tag }}>
                    <Badge className="hover:bg-accent">{tag}</Badge>
                  </Link>
                ))}
              </span>
            )}
          </Fact>
          <Fact label="System">{system(machine.os)}</Fact>
          <Fact label="Agent">{machine.agent_version}</Fact>
          <Fact label="Last seen">
            <span title={exact(machine.last_seen)}>
              {machine.online ? 'now' : ago(machine.last_seen)}
            </span>
          </Fact>
          {machine.home_region == null ? null : <HomeRegion id={machine.home_region} />}
          <Fact label="Enrolled">
            <span title={exact(machine.created_at)}>{exact(machine.created_at)}</span>
            {machine.auth_key ? ' by an auth key' : ''}
          </Fact>
          <Fact label="Sign-in ends">
            {machine.key_expires_at
              ? `${exact(machine.key_expires_at)} (${ago(machine.key_expires_at)})`
              : 'never'}
          </Fact>
          {machine.ephemeral ? (
            <Fact label="Ephemeral">deleted after 30 minutes of silence</Fact>
          ) : null}
        </dl>
      </CardContent>
    </Card>
  )
}

function Fact({
  label,
  copy,
  mono = false,
  children,
}: {
  label: string
  copy?: string
  mono?: boolean
  children: ReactNode
}) {
  return (
    <>
      <dt className="text-muted-foreground">{label}</dt>
      <dd className="flex min-h-6 min-w-0 items-center gap-1">
        <span
          className={
            mono
              ? 'min-w-0 font-mono text-xs [overflow-wrap:anywhere]'
              : 'min-w-0 [overflow-wrap:anywhere]'
          }
        >
          {children}
        </span>
        {copy ? <CopyButton text={copy} what={label} /> : null}
      </dd>
    </>
  )
}

function HomeRegion({ id }: { id: number }) {
  const org = useOrg()
  const { data } = useQuery(relaysQuery(org.id))
  const region = data?.regions.find((one) => one.id === id)
  return <Fact label="Home relay">{region?.name ?? `region ${id}`}</Fact>
}

function PostureCard({ id }: { id: string }) {
  const org = useOrg()
  const query = useQuery(machinePostureQuery(org.id, id))
  return (
    <Card>
      <CardHeader>
        <CardTitle>Posture</CardTitle>
        {query.data?.reported_at ? (
          <span className="text-xs text-muted-foreground" title={exact(query.data.reported_at)}>
            reported {ago(query.data.reported_at)}
          </span>
        ) : null}
      </CardHeader>
      <CardContent>
        <Ready query={query} rows={3}>
          {(posture) => <PostureResults posture={posture} />}
        </Ready>
      </CardContent>
    </Card>
  )
}

function RoutesCard({ id }: { id: string }) {
  const org = useOrg()
  const query = useQuery({
    ...routesQuery(org.id),
    select: (all) => all.find(({ machine }) => machine === id) ?? null,
  })
  return (
    <Card>
      <CardHeader>
        <CardTitle>Routes</CardTitle>
      </CardHeader>
      <CardContent>
        <Ready query={query} rows={2}>
          {(offer) =>
            offer && offer.routes.length > 0 ? (
              <RouteSwitches offer={offer} />
            ) : (
              <p className="text-muted-foreground">
                It offers none. <code>ztna up --advertise-routes 10.0.0.0/24</code> on the machine
                does, and <code>--advertise-exit-node</code>.
              </p>
            )
          }
        </Ready>
      </CardContent>
    </Card>
  )
}

function ReachCard({ machine }: { machine: Machine }) {
  const org = useOrg()
  const reach = useQuery(machineReachQuery(org.id, machine.id))
  const { data: machines } = useQuery(machinesQuery(org.id))
  const known = useMemo(() => new Map(machines?.map((one) => [one.id, one])), [machines])
  return (
    <Card>
      <CardHeader>
        <CardTitle>Reach, as the policy stands</CardTitle>
        <Button variant="outline" size="sm" asChild>
          <Link
            to="/o/$org/policy"
            params={{ org: org.slug }}
            search={{ tab: 'ask', src: machine.name }}
          >
            Ask about a port <ArrowRight />
          </Link>
        </Button>
      </CardHeader>
      <CardContent>
        <Ready query={reach} rows={2}>
          {({ reaches, reached_by, rules }) => (
            <div className="grid gap-4 sm:grid-cols-2">
              <Side
                title="It may open something towards"
                list={reaches}
                rules={rules}
                known={known}
              />
              <Side
                title="These may open something towards it"
                list={reached_by}
                rules={rules}
                known={known}
              />
            </div>
          )}
        </Ready>
      </CardContent>
    </Card>
  )
}

/** So many machines are listed before somebody asks for all. */
const SOME = 8

function Side({
  title,
  list,
  rules,
  known,
}: {
  title: string
  list: Schemas['ReachList']
  rules: readonly Schemas['ReachRule'][]
  known: ReadonlyMap<string, Machine>
}) {
  const org = useOrg()
  const [all, setAll] = useState(false)
  const shown = all ? list.machines : list.machines.slice(0, SOME)
  const because = (ids: readonly string[]) =>
    ids
      .flatMap((id) => rules.filter(({ rule }) => rule === id))
      .map(({ name, at }) => name ?? `the rule in line ${at.line}`)
      .join(', ')
  return (
    <div className="min-w-0">
      <h3 className="mb-1 text-xs text-muted-foreground">
        {title} ({list.count.toLocaleString('en')})
      </h3>
      {list.count === 0 ? <p>no machine</p> : null}
      <ul className="flex flex-col">
        {shown.map(({ id, name, rules: by }) => {
          const state = known.get(id)?.state
          return (
            <li key={id} className="flex min-w-0 items-baseline gap-2 py-0.5 text-sm">
              {state ? <StateDot state={state} /> : null}
              <Link
                to="/o/$org/machines/$machine"
                params={{ org: org.slug, machine: id }}
                className="min-w-0 truncate hover:underline"
              >
                {name}
              </Link>
              <span className="min-w-0 flex-1 truncate text-xs text-muted-foreground">
                by {because(by)}
              </span>
            </li>
          )
        })}
      </ul>
      {list.machines.length > shown.length ? (
        <Button variant="link" className="mt-1" onClick={() => setAll(true)}>
          Show {list.count > list.machines.length ? 'the first ' : 'all '}
          {list.machines.length.toLocaleString('en')}
        </Button>
      ) : null}
    </div>
  )
}

function AuditCard({ id }: { id: string }) {
  const org = useOrg()
  const query = useQuery(auditOfQuery(org.id, id))
  return (
    <Card>
      <CardHeader>
        <CardTitle>Audit</CardTitle>
        <Button variant="outline" size="sm" asChild>
          <Link to="/o/$org/audit" params={{ org: org.slug }} search={{ target: id }}>
            All of it <ArrowRight />
          </Link>
        </Button>
      </CardHeader>
      <Ready query={query} rows={3}>
        {(page) => <AuditRows entries={page.entries} />}
      </Ready>
    </Card>
  )
}
