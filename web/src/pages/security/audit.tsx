import { useInfiniteQuery, useQuery } from '@tanstack/react-query'
import { getRouteApi } from '@tanstack/react-router'
import { Download, ShieldCheck } from 'lucide-react'
import { useState } from 'react'
import { api, open } from '@/api/client'
import { sentence } from '@/api/errors'
import { every } from '@/api/live'
import { keyOf, membersQuery, POLL } from '@/api/queries'
import { AuditRows } from '@/components/audit-rows'
import { SelectField, TextField } from '@/components/field'
import { Menu } from '@/components/menu'
import { Failure, Page, Ready } from '@/components/page'
import { Alert } from '@/components/ui/alert'
import { Button } from '@/components/ui/button'
import { Card } from '@/components/ui/card'
import { type AuditFilters, auditParameters } from '@/lib/audit'
import { count } from '@/lib/format'
import { useOrg } from '@/lib/org'
import { save } from '@/lib/save'
import { toast } from '@/lib/toast'
import { useSubmit } from '@/lib/use-submit'

const route = getRouteApi('/signed-in/o/$org/audit')
const PAGE = 100

export default function Audit() {
  const org = useOrg()
  const search = route.useSearch()
  const navigate = route.useNavigate()
  const parameters = auditParameters(search)
  const query = useInfiniteQuery({
    queryKey: keyOf(org.id, 'audit', 'list', parameters),
    queryFn: ({ pageParam }) =>
      open(
        api.GET('/api/orgs/{org}/audit', {
          params: {
            path: { org: org.id },
            query: { ...parameters, limit: PAGE, cursor: pageParam ?? undefined },
          },
        }),
      ),
    initialPageParam: null as number | null,
    getNextPageParam: (page) => page.next ?? undefined,
    // Of a log that is paged through, the pages would shift.
    refetchInterval: (query) =>
      (query.state.data?.pages.length ?? 1) > 1 ? false : every(3 * POLL)(),
  })
  return (
    <Page
      title="Audit log"
      lead="Every change and every sign-in, refused ones too. Rows are chained by their hashes, so a row that was altered or taken out is found."
      actions={
        <>
          <Verify />
          <Export filters={search} />
        </>
      }
    >
      <Filters
        key={JSON.stringify(search)}
        filters={search}
        onChange={(filters) => void navigate({ search: filters, replace: true })}
      />
      <Card>
        <Ready query={{ ...query, data: query.data }}>
          {({ pages }) => <AuditRows entries={pages.flatMap((page) => page.entries)} />}
        </Ready>
      </Card>
      {query.hasNextPage ? (
        <Button
          variant="outline"
          className="self-center"
          disabled={query.isFetchingNextPage}
          onClick={() => void query.fetchNextPage()}
        >
          Older rows
        </Button>
      ) : null}
    </Page>
  )
}

function Filters({
  filters,
  onChange,
}: {
  filters: AuditFilters
  onChange: (filters: AuditFilters) => void
}) {
  const org = useOrg()
  const { data: members } = useQuery(membersQuery(org.id))
  const [draft, setDraft] = useState(filters)
  const set = (change: AuditFilters) => setDraft({ ...draft, ...change })
  const used = Object.values(filters).some(Boolean)
  return (
    <form
      className="grid grid-cols-2 items-end gap-2 md:grid-cols-4 xl:grid-cols-[repeat(6,minmax(0,1fr))_auto]"
      onSubmit={(event) => {
        event.preventDefault()
        onChange(draft)
      }}
    >
      <TextField
        label="Text"
        value={draft.text ?? ''}
        onChange={(event) => set({ text: event.target.value })}
      />
      <SelectField
        label="Who"
        value={draft.actor ?? ''}
        onChange={(event) => {
          const next = { ...draft, actor: event.target.value }
          setDraft(next)
          onChange(next)
        }}
      >
        <option value="">anybody</option>
        {members?.map((member) => (
          <option key={member.user} value={member.user}>
            {member.email}
          </option>
        ))}
        {filters.actor && !members?.some(({ user }) => user === filters.actor) ? (
          <option value={filters.actor}>{filters.actor}</option>
        ) : null}
      </SelectField>
      <TextField
        label="Action"
        placeholder="machine.update"
        spellCheck={false}
        value={draft.action ?? ''}
        onChange={(event) => set({ action: event.target.value })}
      />
      <TextField
        label="Target's id"
        spellCheck={false}
        value={draft.target ?? ''}
        onChange={(event) => set({ target: event.target.value })}
      />
      <TextField
        label="From"
        type="date"
        value={draft.since ?? ''}
        onChange={(event) => set({ since: event.target.value })}
      />
      <TextField
        label="Until"
        type="date"
        value={draft.until ?? ''}
        onChange={(event) => set({ until: event.target.value })}
      />
      <div className="flex gap-1">
        <Button type="submit" variant="outline">
          Filter
        </Button>
        {used ? (
          <Button variant="ghost" onClick={() => onChange({})}>
            Clear
          </Button>
        ) : null}
      </div>
    </form>
  )
}

function Export({ filters }: { filters: AuditFilters }) {
  const org = useOrg()
  const take = async (format: 'csv' | 'json') => {
    const { data, error } = await api.GET('/api/orgs/{org}/audit/export', {
      params: { path: { org: org.id }, query: { ...auditParameters(filters), format } },
      parseAs: 'blob',
    })
    if (!data) {
      toast.error(sentence(new Error(JSON.stringify(error))))
      return
    }
    save(data, `${org.slug}-audit.${format}`)
  }
  return (
    <Menu
      variant="outline"
      align="end"
      entries={() =>
        (['csv', 'json'] as const).map((format) => ({
          text: `What is filtered, as ${format.toUpperCase()}`,
          run: () => take(format).catch((error) => toast.error(sentence(error))),
        }))
      }
    >
      <Download /> Export
    </Menu>
  )
}

interface Verdict {
  checked: number
  broken?: { seq: number; message: string } | null
  head?: { seq: number; hash: string }
}

function Verify() {
  const org = useOrg()
  const [verdict, setVerdict] = useState<Verdict | null>(null)
  const [sofar, setSofar] = useState(0)
  const form = useSubmit(async () => {
    setVerdict(null)
    let from: number | undefined
    let checked = 0
    // The server looks at a stretch at a time and says where to go on.
    for (;;) {
      const part = await open(
        api.GET('/api/orgs/{org}/audit/verify', {
          params: { path: { org: org.id }, query: { from } },
        }),
      )
      checked += part.checked
      setSofar(checked)
      if (!part.intact || part.next == null) {
        setVerdict({ checked, broken: part.broken, head: part.head })
        return
      }
      from = part.next
    }
  })
  return (
    <>
      <Button variant="outline" disabled={form.busy} onClick={() => form.submit()}>
        <ShieldCheck />{' '}
        {form.busy ? `Checked ${sofar.toLocaleString('en')} rows` : 'Verify the chain'}
      </Button>
      {form.error ? <Failure error={form.error} doing="Verifying" /> : null}
      {verdict ? (
        <Alert tone={verdict.broken ? 'bad' : 'good'} className="w-full">
          {verdict.broken ? (
            <>
              Row {verdict.broken.seq} is not what was written: {verdict.broken.message}
            </>
          ) : (
            <>
              {count(verdict.checked, 'row')} checked, all as they were written. Row{' '}
              {verdict.head?.seq} has the hash{' '}
              <code className="break-all">{verdict.head?.hash}</code>; keep it elsewhere, and a
              later check proves that nothing before it was exchanged.
            </>
          )}
        </Alert>
      ) : null}
    </>
  )
}
