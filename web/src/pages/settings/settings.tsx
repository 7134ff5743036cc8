import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { auditSettingsQuery, facetsQuery, meQuery, refetch, settingsQuery } from '@/api/queries'
import { Confirm, type Confirmation } from '@/components/confirm'
import { CopyButton } from '@/components/copy'
import { SelectField, SwitchField, TextField } from '@/components/field'
import { Failure, Page, Ready } from '@/components/page'
import { Badge } from '@/components/ui/badge'
import { Button } from '@/components/ui/button'
import { Card, CardContent, CardHeader, CardTitle } from '@/components/ui/card'
import { useOrg } from '@/lib/org'
import { toast } from '@/lib/toast'
import { useSubmit } from '@/lib/use-submit'

export default function Settings() {
  const org = useOrg()
  const settings = useQuery(settingsQuery(org.id))
  return (
    <Page title="Settings">
      <div className="grid items-start gap-4 lg:grid-cols-2">
        <Ready query={settings} rows={4}>
          {(data) => (
            <div className="flex flex-col gap-4">
              <Machines key={`${data.machine_approval} ${data.key_expiry_days}`} settings={data} />
              <Network key={`${data.pq} ${data.ipv4_network}`} settings={data} />
              <Lockdown settings={data} />
            </div>
          )}
        </Ready>
        <div className="flex flex-col gap-4">
          <Ready query={settings} rows={4}>
            {(data) => <Organisation key={data.name} settings={data} />}
          </Ready>
          {org.may('read') ? <Retention /> : null}
          <Card>
            <CardHeader>
              <CardTitle>Elsewhere</CardTitle>
            </CardHeader>
            <CardContent className="flex flex-col gap-1 text-sm">
              {org.may('read') ? (
                <Link to="/o/$org/sso" params={{ org: org.slug }} className="link">
                  Single sign-on and domains
                </Link>
              ) : null}
              <Link to="/o/$org/dns" params={{ org: org.slug }} className="link">
                Names and nameservers
              </Link>
              <Link to="/o/$org/people" params={{ org: org.slug }} className="link">
                People and roles, and leaving the organisation
              </Link>
            </CardContent>
          </Card>
        </div>
      </div>
    </Page>
  )
}

type OrgSettings = Schemas['OrgSettings']

function Machines({ settings }: { settings: OrgSettings }) {
  const org = useOrg()
  const queries = useQueryClient()
  const locked = !org.may('manage')
  const [approval, setApproval] = useState(settings.machine_approval)
  const [days, setDays] = useState(String(settings.key_expiry_days))
  const form = useSubmit(async () => {
    await open(
      api.PATCH('/api/orgs/{org}/settings', {
        params: { path: { org: org.id } },
        body: { machine_approval: approval, key_expiry_days: Number(days) },
      }),
    )
    toast.success('Settings are saved')
    await refetch(queries, org.id, 'settings', 'audit')
  })
  return (
    <Card>
      <CardHeader>
        <CardTitle>Machines</CardTitle>
      </CardHeader>
      <CardContent>
        <form onSubmit={form.submit} className="flex flex-col gap-5">
          <SwitchField
            label="New machines wait for approval"
            hint="Those of a pre-approved auth key do not. Machines that are in stay in."
            checked={approval}
            disabled={locked}
            onCheckedChange={setApproval}
          />
          <TextField
            label="Days until a machine signs in again"
            hint="Counted from its sign-in; holds for sign-ins from then on. Machines with tags, and those whose expiry is off, never have to."
            type="number"
            min={1}
            required
            disabled={locked}
            value={days}
            onChange={(event) => setDays(event.target.value)}
          />
          {form.error ? <Failure error={form.error} doing="Saving" /> : null}
          {locked ? (
            <p className="text-xs text-muted-foreground">Owners and admins change these.</p>
          ) : (
            <Button type="submit" className="self-start" disabled={form.busy}>
              Save
            </Button>
          )}
        </form>
      </CardContent>
    </Card>
  )
}

function Organisation({ settings }: { settings: OrgSettings }) {
  const org = useOrg()
  const queries = useQueryClient()
  const [name, setName] = useState(settings.name)
  const form = useSubmit(async () => {
    await open(
      api.PATCH('/api/orgs/{org}/settings', {
        params: { path: { org: org.id } },
        body: { name: name.trim() },
      }),
    )
    toast.success('The organisation has its new name')
    await queries.invalidateQueries({ queryKey: meQuery.queryKey })
    await refetch(queries, org.id, 'settings', 'audit')
  })
  return (
    <Card>
      <CardHeader>
        <CardTitle>Organisation</CardTitle>
      </CardHeader>
      <CardContent className="flex flex-col gap-4">
        <form onSubmit={form.submit} className="flex flex-col gap-3">
          <TextField
            label="Name"
            required
            maxLength={64}
            disabled={!org.may('manage')}
            value={name}
            onChange={(event) => setName(event.target.value)}
          />
          {form.error ? <Failure error={form.error} doing="Renaming" /> : null}
          {name !== settings.name ? (
            <Button type="submit" className="self-start" disabled={form.busy}>
              Rename
            </Button>
          ) : null}
        </form>
        <dl className="grid grid-cols-[6rem_minmax(0,1fr)] items-center gap-y-1 text-sm">
          <dt className="text-muted-foreground">Label</dt>
          <dd className="flex items-center gap-1">
            <code className="text-xs">{settings.slug}</code>
            <CopyButton text={settings.slug} what="the label" />
          </dd>
          <dt className="text-muted-foreground">Id</dt>
          <dd className="flex items-center gap-1">
            <code className="min-w-0 text-xs break-all">{org.id}</code>
            <CopyButton text={org.id} what="the id" />
          </dd>
          <dt className="text-muted-foreground">Your role</dt>
          <dd className="min-h-7 content-center">{org.role}</dd>
        </dl>
      </CardContent>
    </Card>
  )
}

/** What holds for all tunnels and addresses. */
function Network({ settings }: { settings: OrgSettings }) {
  const org = useOrg()
  const queries = useQueryClient()
  const { data: facets } = useQuery(facetsQuery(org.id))
  const [pq, setPq] = useState(settings.pq)
  const [network, setNetwork] = useState(settings.ipv4_network)
  const locked = !org.may('manage')
  // Members are told of their own machines alone.
  const fixed = !org.may('read') || facets === undefined || facets.count > 0
  const form = useSubmit(async () => {
    await open(
      api.PATCH('/api/orgs/{org}/settings', {
        params: { path: { org: org.id } },
        body: { pq, ...(fixed ? {} : { ipv4_network: network.trim() }) },
      }),
    )
    toast.success('Settings are saved')
    await refetch(queries, org.id, 'settings', 'audit')
  })
  return (
    <Card>
      <CardHeader>
        <CardTitle>Network</CardTitle>
      </CardHeader>
      <CardContent>
        <form onSubmit={form.submit} className="flex flex-col gap-5">
          <SelectField
            label="Post-quantum keys"
            hint="Every tunnel between agents has a preshared key of X25519 and ML-KEM-768 before its first packet, either way. Static peers have none up to their gateway."
            disabled={locked}
            value={pq}
            onChange={(event) => setPq(event.target.value as OrgSettings['pq'])}
          >
            <option value="required">required: no static peers</option>
            <option value="preferred">preferred: static peers may come in</option>
          </SelectField>
          <TextField
            label="IPv4 addresses of machines"
            hint={
              fixed
                ? 'An address stays with its machine, so this can be chosen only while the organisation has none.'
                : 'A network within 100.64.0.0/10, 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16 that none of your machines is attached to. Fixed once the first machine has come.'
            }
            required
            spellCheck={false}
            disabled={locked || fixed}
            value={network}
            onChange={(event) => setNetwork(event.target.value)}
          />
          <dl className="text-sm">
            <dt className="font-medium">IPv6 addresses of machines</dt>
            <dd className="font-mono text-xs text-muted-foreground">{settings.ipv6_network}</dd>
          </dl>
          {form.error ? <Failure error={form.error} doing="Saving" /> : null}
          {locked ? null : (
            <Button type="submit" className="self-start" disabled={form.busy}>
              Save the network
            </Button>
          )}
        </form>
      </CardContent>
    </Card>
  )
}

function Lockdown({ settings }: { settings: OrgSettings }) {
  const org = useOrg()
  const queries = useQueryClient()
  const [asked, setAsked] = useState<Confirmation | null>(null)
  const set = async (lockdown: boolean) => {
    await open(
      api.PATCH('/api/orgs/{org}/settings', {
        params: { path: { org: org.id } },
        body: { lockdown },
      }),
    )
    toast.success(lockdown ? 'Nothing passes between machines now' : 'The lockdown is lifted')
    await refetch(queries, org.id, 'settings', 'policy', 'audit')
  }
  const lift = useSubmit(() => set(false))
  return (
    <Card>
      <CardHeader>
        <CardTitle>Lockdown</CardTitle>
        {settings.lockdown ? <Badge tone="bad">in force</Badge> : <Badge>off</Badge>}
      </CardHeader>
      <CardContent className="flex flex-col gap-3">
        <p className="text-sm text-muted-foreground">
          Ends everything between the machines of the organisation, connections that are open too,
          whatever the policy says. Machines stay managed, and the policy stays as it is.
        </p>
        {lift.error ? <Failure error={lift.error} doing="Lifting the lockdown" /> : null}
        {!org.may('manage') ? null : settings.lockdown ? (
          <Button className="self-start" disabled={lift.busy} onClick={() => lift.submit()}>
            Lift the lockdown
          </Button>
        ) : (
          <Button
            variant="destructive"
            className="self-start"
            onClick={() =>
              setAsked({
                title: `Lock ${org.name} down?`,
                text: 'Every connection between its machines ends at once, and none can be opened until somebody lifts it.',
                verb: 'Lock down',
                destructive: true,
                typed: org.slug,
                run: () => set(true),
              })
            }
          >
            Lock down
          </Button>
        )}
        <Confirm asked={asked} onClose={() => setAsked(null)} />
      </CardContent>
    </Card>
  )
}

function Retention() {
  const org = useOrg()
  const query = useQuery(auditSettingsQuery(org.id))
  return (
    <Card>
      <CardHeader>
        <CardTitle>Audit log</CardTitle>
      </CardHeader>
      <CardContent>
        <Ready query={query} rows={2}>
          {(settings) => (
            <RetentionForm key={settings.retention_days} days={settings.retention_days} />
          )}
        </Ready>
      </CardContent>
    </Card>
  )
}

function RetentionForm({ days: kept }: { days: number }) {
  const org = useOrg()
  const queries = useQueryClient()
  const [days, setDays] = useState(String(kept))
  const form = useSubmit(async () => {
    await open(
      api.PUT('/api/orgs/{org}/audit/settings', {
        params: { path: { org: org.id } },
        body: { retention_days: Number(days) },
      }),
    )
    toast.success('The audit log is kept so long from now on')
    await refetch(queries, org.id, 'settings', 'audit')
  })
  return (
    <form onSubmit={form.submit} className="flex flex-col gap-3">
      <TextField
        label="Days that rows are kept"
        hint={
          org.may('own')
            ? '30 to 3,650. Shorter deletes older rows for good.'
            : 'The organisation’s owners change this.'
        }
        type="number"
        min={30}
        max={3650}
        required
        disabled={!org.may('own')}
        value={days}
        onChange={(event) => setDays(event.target.value)}
      />
      {form.error ? <Failure error={form.error} doing="Saving" /> : null}
      {org.may('own') ? (
        <Button type="submit" variant="outline" className="self-start" disabled={form.busy}>
          Save
        </Button>
      ) : null}
    </form>
  )
}
