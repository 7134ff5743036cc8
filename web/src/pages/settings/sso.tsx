import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Plus, Trash2 } from 'lucide-react'
import { useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { ApiError } from '@/api/errors'
import { refetch, ssoDomainsQuery, ssoQuery } from '@/api/queries'
import { Confirm, type Confirmation } from '@/components/confirm'
import { CopyLine } from '@/components/copy'
import { SwitchField, TextField } from '@/components/field'
import { Failure, Loading, Page, Ready } from '@/components/page'
import { Badge } from '@/components/ui/badge'
import { Button } from '@/components/ui/button'
import { Card, CardContent, CardHeader, CardTitle } from '@/components/ui/card'
import { Input } from '@/components/ui/input'
import { NativeSelect } from '@/components/ui/native-select'
import { ago } from '@/lib/format'
import { withIds } from '@/lib/lists'
import { useOrg } from '@/lib/org'
import { toast } from '@/lib/toast'
import { useSubmit } from '@/lib/use-submit'

type Sso = Schemas['SsoSettings']

export default function SsoPage() {
  const org = useOrg()
  const query = useQuery(ssoQuery(org.id))
  const missing = query.error instanceof ApiError && query.error.code === 'NOT_FOUND'
  return (
    <Page
      title="Single sign-on"
      lead="People sign in by the organisation's own OpenID Connect provider: Entra ID, Okta, Keycloak and the like. Roles and groups follow it at each sign-in."
    >
      {query.data || missing ? (
        <Provider key={query.data?.updated_at ?? 'none'} sso={query.data ?? null} />
      ) : query.error ? (
        <Failure error={query.error} retry={() => void query.refetch()} />
      ) : (
        <Loading rows={8} />
      )}
      {query.data ? <Domains /> : null}
    </Page>
  )
}

const ROLES = ['', 'admin', 'auditor', 'member'] as const

function Provider({ sso }: { sso: Sso | null }) {
  const org = useOrg()
  const queries = useQueryClient()
  const locked = !org.may('manage')
  const [issuer, setIssuer] = useState(sso?.issuer ?? '')
  const [clientId, setClientId] = useState(sso?.client_id ?? '')
  const [secret, setSecret] = useState('')
  const [create, setCreate] = useState(sso?.create_members ?? true)
  const [required, setRequired] = useState(sso?.required ?? false)
  const [trust, setTrust] = useState(sso?.trust_email ?? false)
  const [claim, setClaim] = useState(sso?.groups_claim ?? 'groups')
  const [rules, setRules] = useState(() => withIds(sso?.group_rules ?? []))
  const [asked, setAsked] = useState<Confirmation | null>(null)
  const form = useSubmit(async () => {
    await open(
      api.PUT('/api/orgs/{org}/sso', {
        params: { path: { org: org.id } },
        body: {
          issuer,
          client_id: clientId,
          client_secret: secret || undefined,
          create_members: create,
          required,
          trust_email: trust,
          groups_claim: claim,
          group_rules: rules
            .filter(({ group }) => group)
            .map(({ group, role, policy_group }) => ({ group, role, policy_group })),
        },
      }),
    )
    toast.success('Single sign-on is saved')
    await refetch(queries, org.id, 'sso', 'audit')
  })
  return (
    <Card>
      <CardHeader>
        <CardTitle>Provider</CardTitle>
        <Badge tone={sso ? 'good' : 'plain'}>
          {sso ? `saved ${ago(sso.updated_at)}` : 'none yet'}
        </Badge>
      </CardHeader>
      <CardContent>
        <form onSubmit={form.submit} className="flex flex-col gap-5">
          <div className="flex flex-col gap-1.5">
            <p className="text-sm font-medium">Redirect URI to register at the provider</p>
            <CopyLine
              text={sso?.redirect_uri ?? `${location.origin}/sign-in/${org.id}/callback`}
              what="the redirect URI"
            />
          </div>
          <div className="grid gap-4 md:grid-cols-2">
            <TextField
              label="Issuer"
              type="url"
              required
              disabled={locked}
              placeholder="https://idp.example.com"
              hint="As its discovery document names it."
              value={issuer}
              onChange={(event) => setIssuer(event.target.value)}
            />
            <TextField
              label="Claim with a person's groups"
              disabled={locked}
              spellCheck={false}
              value={claim}
              onChange={(event) => setClaim(event.target.value)}
            />
            <TextField
              label="Client id"
              required
              disabled={locked}
              spellCheck={false}
              value={clientId}
              onChange={(event) => setClientId(event.target.value)}
            />
            <TextField
              label="Client secret"
              type="password"
              autoComplete="off"
              required={!sso}
              disabled={locked}
              placeholder={sso ? 'stays as it is' : undefined}
              value={secret}
              onChange={(event) => setSecret(event.target.value)}
            />
          </div>
          <fieldset className="flex flex-col gap-2">
            <legend className="mb-1.5 text-sm font-medium">Groups of the provider</legend>
            {rules.length === 0 ? (
              <p className="text-sm text-muted-foreground">
                None means anything here yet. A group can give a role, or a group of the policy.
              </p>
            ) : null}
            {rules.map((rule, index) => (
              <div key={rule.id} className="flex flex-wrap items-center gap-2 sm:flex-nowrap">
                <Input
                  aria-label="Group at the provider"
                  placeholder="Group at the provider"
                  disabled={locked}
                  value={rule.group}
                  onChange={(event) =>
                    setRules(rules.with(index, { ...rule, group: event.target.value }))
                  }
                />
                <NativeSelect
                  aria-label="Role that it gives"
                  disabled={locked}
                  value={rule.role ?? ''}
                  onChange={(event) => {
                    const role = ROLES.find((one) => one === event.target.value)
                    setRules(rules.with(index, { ...rule, role: role || undefined }))
                  }}
                >
                  {ROLES.map((role) => (
                    <option key={role} value={role}>
                      {role || 'no role'}
                    </option>
                  ))}
                </NativeSelect>
                <Input
                  aria-label="Group of the policy that it gives"
                  placeholder="group of the policy"
                  disabled={locked}
                  value={rule.policy_group ?? ''}
                  onChange={(event) =>
                    setRules(
                      rules.with(index, { ...rule, policy_group: event.target.value || undefined }),
                    )
                  }
                />
                {locked ? null : (
                  <Button
                    variant="ghost"
                    size="icon"
                    aria-label={`Remove ${rule.group || 'the empty row'}`}
                    onClick={() => setRules(rules.toSpliced(index, 1))}
                  >
                    <Trash2 />
                  </Button>
                )}
              </div>
            ))}
            {locked ? null : (
              <Button
                variant="outline"
                size="sm"
                className="self-start"
                onClick={() => setRules([...rules, ...withIds([{ group: '' }])])}
              >
                <Plus /> Group
              </Button>
            )}
          </fieldset>
          <SwitchField
            label="People of proved domains become members at their first sign-in"
            hint="Off: they are invited first."
            checked={create}
            disabled={locked}
            onCheckedChange={setCreate}
          />
          <SwitchField
            label="Required"
            hint="Members who are no owners reach the organisation only by a sign-in there within the last 24 hours."
            checked={required}
            disabled={locked}
            onCheckedChange={setRequired}
          />
          <SwitchField
            label="Trust addresses without email_verified"
            hint="Only for a provider that sends no such claim, and whose users cannot choose their own address."
            checked={trust}
            disabled={locked}
            onCheckedChange={setTrust}
          />
          {form.error ? <Failure error={form.error} doing="Saving" /> : null}
          {locked ? null : (
            <div className="flex flex-wrap gap-2">
              <Button type="submit" disabled={form.busy}>
                Save
              </Button>
              {sso ? (
                <Button
                  variant="outline"
                  onClick={() =>
                    setAsked({
                      title: 'End single sign-on?',
                      text: 'Sessions that the provider vouched for end, and nobody signs in by it any more. Who has no password resets it by mail.',
                      verb: 'End it',
                      destructive: true,
                      run: async () => {
                        await open(
                          api.DELETE('/api/orgs/{org}/sso', { params: { path: { org: org.id } } }),
                        )
                        await queries.resetQueries({ queryKey: ssoQuery(org.id).queryKey })
                      },
                    })
                  }
                >
                  End single sign-on
                </Button>
              ) : null}
            </div>
          )}
        </form>
        <Confirm asked={asked} onClose={() => setAsked(null)} />
      </CardContent>
    </Card>
  )
}

function Domains() {
  const org = useOrg()
  const queries = useQueryClient()
  const query = useQuery(ssoDomainsQuery(org.id))
  const [domain, setDomain] = useState('')
  const [asked, setAsked] = useState<Confirmation | null>(null)
  const after = () => refetch(queries, org.id, 'sso', 'audit')
  const add = useSubmit(async () => {
    await open(
      api.POST('/api/orgs/{org}/sso/domains', {
        params: { path: { org: org.id } },
        body: { domain },
      }),
    )
    setDomain('')
    await after()
  })
  return (
    <Card>
      <CardHeader>
        <CardTitle>Domains</CardTitle>
      </CardHeader>
      <CardContent className="flex flex-col gap-4">
        <p className="text-muted-foreground">
          People with an address of a proved domain get their account by the provider. A domain is
          proved by a TXT record.
        </p>
        <Ready query={query} rows={2}>
          {(domains) => (
            <ul className="flex flex-col gap-3">
              {domains.map((one) => (
                <DomainRow key={one.domain} domain={one} ask={setAsked} after={after} />
              ))}
            </ul>
          )}
        </Ready>
        {org.may('manage') ? (
          <form onSubmit={add.submit} className="flex flex-col gap-2">
            <div className="flex items-end gap-2">
              <TextField
                label="Add a domain"
                placeholder="example.com"
                required
                spellCheck={false}
                className="w-full max-w-xs"
                value={domain}
                onChange={(event) => setDomain(event.target.value)}
              />
              <Button type="submit" variant="outline" disabled={add.busy}>
                Add
              </Button>
            </div>
            {add.error ? <Failure error={add.error} doing="Adding the domain" /> : null}
          </form>
        ) : null}
        <Confirm asked={asked} onClose={() => setAsked(null)} />
      </CardContent>
    </Card>
  )
}

function DomainRow({
  domain,
  ask,
  after,
}: {
  domain: Schemas['SsoDomain']
  ask: (asked: Confirmation) => void
  after: () => Promise<unknown>
}) {
  const org = useOrg()
  const path = { org: org.id, domain: domain.domain }
  const prove = useSubmit(async () => {
    await open(api.POST('/api/orgs/{org}/sso/domains/{domain}/prove', { params: { path } }))
    toast.success(`${domain.domain} is proved`)
    await after()
  })
  return (
    <li className="flex flex-col gap-2 rounded-md border p-3">
      <div className="flex flex-wrap items-center gap-2">
        <span className="font-medium [overflow-wrap:anywhere]">{domain.domain}</span>
        <Badge tone={domain.proved_at ? 'good' : 'warn'}>
          {domain.proved_at ? `proved ${ago(domain.proved_at)}` : 'not proved yet'}
        </Badge>
        <span className="flex-1" />
        {org.may('manage') ? (
          <>
            {domain.proved_at ? null : (
              <Button size="sm" disabled={prove.busy} onClick={() => prove.submit()}>
                Look for the record
              </Button>
            )}
            <Button
              size="sm"
              variant="outline"
              onClick={() =>
                ask({
                  title: `Remove ${domain.domain}?`,
                  text: 'Nobody gets an account by an address of it any more. Those who have one keep it.',
                  verb: 'Remove',
                  destructive: true,
                  run: async () => {
                    await open(
                      api.DELETE('/api/orgs/{org}/sso/domains/{domain}', { params: { path } }),
                    )
                    await after()
                  },
                })
              }
            >
              Remove<span className="sr-only"> {domain.domain}</span>
            </Button>
          </>
        ) : null}
      </div>
      {domain.proved_at ? null : (
        <>
          <p className="text-xs text-muted-foreground">TXT record: name, and what it has to hold</p>
          <CopyLine text={domain.record_name} what="the record's name" />
          <CopyLine text={domain.record_value} what="the record's value" />
        </>
      )}
      {prove.error ? <Failure error={prove.error} /> : null}
    </li>
  )
}
