import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Plus, Trash2 } from 'lucide-react'
import { useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { dnsQuery, refetch } from '@/api/queries'
import { AreaField } from '@/components/field'
import { Failure, Page, Ready } from '@/components/page'
import { Button } from '@/components/ui/button'
import { Card, CardContent, CardHeader, CardTitle } from '@/components/ui/card'
import { Input } from '@/components/ui/input'
import { lines, withIds } from '@/lib/lists'
import { useOrg } from '@/lib/org'
import { toast } from '@/lib/toast'
import { useSubmit } from '@/lib/use-submit'

type Dns = Schemas['DnsSettings']

export default function DnsPage() {
  const org = useOrg()
  const query = useQuery(dnsQuery(org.id))
  return (
    <Page
      title="DNS"
      lead={
        <>
          Every machine answers by its name alone, and by the full one that its page shows. What is
          here comes on top, on all machines at once.
        </>
      }
    >
      <Ready query={query}>
        {(settings) => <Form key={JSON.stringify(settings)} settings={settings} />}
      </Ready>
    </Page>
  )
}

function Form({ settings }: { settings: Dns }) {
  const org = useOrg()
  const queries = useQueryClient()
  const locked = !org.may('manage')
  const [nameservers, setNameservers] = useState((settings.nameservers ?? []).join('\n'))
  const [search, setSearch] = useState((settings.search ?? []).join('\n'))
  const [records, setRecords] = useState(() => withIds(settings.records ?? []))
  const [split, setSplit] = useState(() =>
    withIds(
      Object.entries(settings.split ?? {}).map(([domain, servers]) => ({
        domain,
        servers: servers.join(' '),
      })),
    ),
  )
  const form = useSubmit(async () => {
    const body: Dns = {
      nameservers: lines(nameservers),
      search: lines(search),
      records: records
        .filter(({ name, address }) => name || address)
        .map(({ name, address }) => ({ name: name.trim(), address: address.trim() })),
      split: Object.fromEntries(
        split
          .filter(({ domain }) => domain)
          .map(({ domain, servers }) => [domain.trim(), lines(servers)]),
      ),
    }
    await open(api.PUT('/api/orgs/{org}/dns', { params: { path: { org: org.id } }, body }))
    toast.success('DNS is saved; machines have it in a moment')
    await refetch(queries, org.id, 'dns', 'audit')
  })
  return (
    <form onSubmit={form.submit} className="flex flex-col gap-4">
      <div className="grid items-start gap-4 lg:grid-cols-2">
        <Card>
          <CardHeader>
            <CardTitle>Resolvers</CardTitle>
          </CardHeader>
          <CardContent className="flex flex-col gap-4">
            <AreaField
              label="Nameservers"
              hint="One address a line. They answer for names that nothing else here speaks of. None: whoever did before on each machine."
              rows={2}
              disabled={locked}
              spellCheck={false}
              placeholder="9.9.9.9"
              value={nameservers}
              onChange={(event) => setNameservers(event.target.value)}
            />
            <AreaField
              label="Search domains"
              hint="One a line. Looked in for short names, after the organisation's own."
              rows={2}
              disabled={locked}
              spellCheck={false}
              placeholder="corp.example"
              value={search}
              onChange={(event) => setSearch(event.target.value)}
            />
          </CardContent>
        </Card>
        <Card>
          <CardHeader>
            <CardTitle>Split DNS</CardTitle>
            {locked ? null : (
              <Button
                variant="outline"
                size="sm"
                onClick={() => setSplit([...split, ...withIds([{ domain: '', servers: '' }])])}
              >
                <Plus /> Domain
              </Button>
            )}
          </CardHeader>
          <CardContent className="flex flex-col gap-2">
            {split.length === 0 ? (
              <p className="text-muted-foreground">
                Domains that other servers answer for, as <code>corp.example</code> by{' '}
                <code>10.0.0.53</code>. There are none.
              </p>
            ) : null}
            {split.map((row, index) => (
              <Pair
                key={row.id}
                labels={['Domain', 'Its nameservers']}
                placeholders={['corp.example', '10.0.0.53']}
                values={[row.domain, row.servers]}
                disabled={locked}
                onChange={([domain, servers]) =>
                  setSplit(split.with(index, { ...row, domain, servers }))
                }
                onRemove={() => setSplit(split.toSpliced(index, 1))}
              />
            ))}
          </CardContent>
        </Card>
      </div>
      <Card>
        <CardHeader>
          <CardTitle>Records</CardTitle>
          {locked ? null : (
            <Button
              variant="outline"
              size="sm"
              onClick={() => setRecords([...records, ...withIds([{ name: '', address: '' }])])}
            >
              <Plus /> Record
            </Button>
          )}
        </CardHeader>
        <CardContent className="flex flex-col gap-2">
          {records.length === 0 ? (
            <p className="text-muted-foreground">
              Names beside those of machines, as <code>printer.corp.example</code> for{' '}
              <code>10.0.0.9</code>. There are none.
            </p>
          ) : null}
          {records.map((row, index) => (
            <Pair
              key={row.id}
              labels={['Name', 'Address']}
              placeholders={['printer.corp.example', '10.0.0.9']}
              values={[row.name, row.address]}
              disabled={locked}
              onChange={([name, address]) =>
                setRecords(records.with(index, { ...row, name, address }))
              }
              onRemove={() => setRecords(records.toSpliced(index, 1))}
            />
          ))}
        </CardContent>
      </Card>
      {form.error ? <Failure error={form.error} doing="Saving" /> : null}
      {locked ? null : (
        <Button type="submit" className="self-start" disabled={form.busy}>
          Save DNS
        </Button>
      )}
    </form>
  )
}

function Pair({
  labels,
  placeholders,
  values,
  disabled,
  onChange,
  onRemove,
}: {
  labels: [string, string]
  placeholders: [string, string]
  values: [string, string]
  disabled: boolean
  onChange: (values: [string, string]) => void
  onRemove: () => void
}) {
  return (
    <div className="flex items-center gap-2">
      <Input
        aria-label={labels[0]}
        placeholder={placeholders[0]}
        spellCheck={false}
        disabled={disabled}
        value={values[0]}
        onChange={(event) => onChange([event.target.value, values[1]])}
      />
      <Input
        aria-label={labels[1]}
        placeholder={placeholders[1]}
        spellCheck={false}
        disabled={disabled}
        value={values[1]}
        onChange={(event) => onChange([values[0], event.target.value])}
      />
      {disabled ? null : (
        <Button
          variant="ghost"
          size="icon"
          aria-label={`Remove ${values[0] || 'the empty row'}`}
          onClick={onRemove}
        >
          <Trash2 />
        </Button>
      )}
    </div>
  )
}
