import { useQuery } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { ArrowRight } from 'lucide-react'
import { Fragment, useMemo } from 'react'
import type { Schemas } from '@/api/client'
import { machinesQuery, reachQuery, relaysQuery, tunnelsQuery } from '@/api/queries'
import { Empty, Page, Ready } from '@/components/page'
import { StateBadge, StateDot } from '@/components/state'
import { Badge } from '@/components/ui/badge'
import { Button } from '@/components/ui/button'
import { NativeSelect } from '@/components/ui/native-select'
import { pathOf, type Regions } from '@/lib/connections'
import { count } from '@/lib/format'
import type { Machine } from '@/lib/machines'
import { allowedLinks, type By, countPaths, tunnelLinks } from '@/lib/map'
import { useOrg } from '@/lib/org'
import { neighbours, type Pair } from '@/lib/reach'
import { Drawing, EACH, Legend } from './drawing'

type Tunnel = Schemas['OrgTunnel']

const route = getRouteApi('/signed-in/o/$org/map')

const BY: ReadonlyArray<readonly [By, string]> = [
  ['owner', 'owner or tag'],
  ['tag', 'tag'],
  ['system', 'system'],
  ['region', 'home relay'],
]

/** What is drawn between machines. */
type Show = 'tunnels' | 'allowed'

export default function MapPage() {
  const org = useOrg()
  const search = route.useSearch()
  const navigate = route.useNavigate()
  const machines = useQuery(machinesQuery(org.id))
  const reach = useQuery(reachQuery(org.id))
  const by = BY.find(([name]) => name === search.by)?.[0] ?? 'owner'
  const chosen = machines.data?.find(({ id }) => id === search.at)
  const { data: relays } = useQuery(relaysQuery(org.id))
  const regions = useMemo(
    () => new Map(relays?.regions.map((region) => [region.id, region.name])),
    [relays],
  )
  const tunnels = useQuery(tunnelsQuery(org.id))
  const show: Show = search.show === 'allowed' ? 'allowed' : 'tunnels'
  // A machine that is gone leaves what it told last.
  const told = useMemo(() => {
    const online = new Set(machines.data?.flatMap((one) => (one.online ? [one.id] : [])))
    return tunnels.data?.tunnels.filter(
      ({ machine, peer }) => online.has(machine) && online.has(peer),
    )
  }, [tunnels.data, machines.data])
  // Of the chosen machine, what is allowed shows too.
  const links = useMemo(() => {
    const live = tunnelLinks(told ?? [])
    const known = new Set(live.map(({ a, b }) => (a < b ? `${a} ${b}` : `${b} ${a}`)))
    const pairs = reach.data?.pairs ?? []
    const at = chosen?.id
    const wanted =
      show === 'allowed' ? pairs : pairs.filter(({ src, dst }) => src === at || dst === at)
    const idle = allowedLinks(wanted).filter(
      ({ a, b }) => !known.has(a < b ? `${a} ${b}` : `${b} ${a}`),
    )
    return [...live, ...idle]
  }, [told, reach.data, show, chosen])
  const choose = (id: string | undefined) =>
    void navigate({
      search: (old) => ({ ...old, at: id === search.at ? undefined : id }),
      replace: true,
    })
  return (
    <Page
      wide
      title="Map"
      lead="The tunnels that run now, and how their packets go. Choose a machine to see whom it may reach, and why."
      actions={
        <span className="flex flex-wrap items-center gap-2 text-sm whitespace-nowrap text-muted-foreground">
          <NativeSelect
            aria-label="Shown"
            className="w-44"
            value={show}
            onChange={(event) =>
              void navigate({
                search: (old) => ({
                  ...old,
                  show: event.target.value === 'allowed' ? 'allowed' : undefined,
                }),
                replace: true,
              })
            }
          >
            <option value="tunnels">tunnels</option>
            <option value="allowed">what the policy allows</option>
          </NativeSelect>
          grouped by
          <NativeSelect
            aria-label="Grouped by"
            className="w-36"
            value={by}
            onChange={(event) =>
              void navigate({
                search: (old) => ({ ...old, by: event.target.value }),
                replace: true,
              })
            }
          >
            {BY.map(([value, label]) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </NativeSelect>
        </span>
      }
    >
      <Ready query={machines} rows={12}>
        {(list) =>
          list.length === 0 ? (
            <Empty
              title="The map is empty"
              action={
                <Button asChild>
                  <Link to="/o/$org/machines" params={{ org: org.slug }}>
                    Add the first machine
                  </Link>
                </Button>
              }
            >
              Machines appear here as they come in.
            </Empty>
          ) : (
            <div className="grid items-start gap-4 xl:grid-cols-[minmax(0,1fr)_20rem]">
              <div className="rounded-lg border bg-card">
                <Drawing
                  machines={list}
                  links={links}
                  by={by}
                  regions={regions}
                  chosen={chosen?.id}
                  choose={choose}
                />
                <Legend machines={list} links={links} />
              </div>
              <aside aria-label="Reach" className="flex min-w-0 flex-col gap-3">
                <Ready query={reach} rows={4}>
                  {(pairs) =>
                    chosen ? (
                      <Chosen
                        machine={chosen}
                        machines={list}
                        pairs={pairs.pairs}
                        tunnels={told ?? []}
                        regions={regions}
                        choose={choose}
                      />
                    ) : (
                      <Summary
                        tunnels={told ?? []}
                        partial={tunnels.data?.is_partial ?? false}
                        pairs={pairs}
                        regions={regions}
                        many={list.length > EACH}
                      />
                    )
                  }
                </Ready>
              </aside>
            </div>
          )
        }
      </Ready>
    </Page>
  )
}

/** What the drawing shows, in words. */
function Summary({
  tunnels,
  partial,
  pairs,
  regions,
  many,
}: {
  tunnels: Tunnel[]
  partial: boolean
  pairs: Schemas['Pairs']
  regions: Regions
  many: boolean
}) {
  const { direct, relayed, waiting, by } = countPaths(tunnels, regions)
  const rows: Array<[string, number]> = [
    ['Direct', direct],
    ['By relay', relayed],
    ...by.map(([name, n]): [string, number] => [`  ${name}`, n]),
    ['Without a path now', waiting],
  ]
  return (
    <section className="flex flex-col gap-3 rounded-lg border bg-card p-4 text-sm">
      <h2 className="font-semibold">{count(tunnels.length, 'tunnel')}</h2>
      {tunnels.length === 0 ? (
        <p className="text-muted-foreground">
          No machine has told of a tunnel in the last 15 minutes. One opens with the first packet.
        </p>
      ) : (
        <dl className="grid grid-cols-[minmax(0,1fr)_auto] gap-y-1">
          {rows
            .filter(([, n]) => n > 0)
            .map(([label, n]) => (
              <Fragment key={label}>
                <dt className={label.startsWith(' ') ? 'pl-4 text-muted-foreground' : ''}>
                  {label.trim()}
                </dt>
                <dd className="figures text-right">{n.toLocaleString('en')}</dd>
              </Fragment>
            ))}
        </dl>
      )}
      <p className="text-muted-foreground">
        {count(pairs.count, 'pair')} of machines may open something.
        {pairs.count > pairs.pairs.length
          ? ` The server names the first ${pairs.pairs.length.toLocaleString('en')}, which are drawn.`
          : ''}
        {partial ? ' Tunnels are those of the first 1,000 machines.' : ''}
        {many ? ' With so many machines, the map shows groups.' : ''}
      </p>
    </section>
  )
}

function Chosen({
  machine,
  machines,
  pairs,
  tunnels,
  regions,
  choose,
}: {
  machine: Machine
  machines: Machine[]
  pairs: Pair[]
  tunnels: Tunnel[]
  regions: Regions
  choose: (id: string) => void
}) {
  const org = useOrg()
  const names = useMemo(() => new Map(machines.map((one) => [one.id, one])), [machines])
  const { out, into } = neighbours(pairs, machine.id)
  const paths = useMemo(() => {
    const of = new Map<string, Tunnel>()
    for (const tunnel of tunnels) {
      if (tunnel.machine === machine.id) of.set(tunnel.peer, tunnel)
      if (tunnel.peer === machine.id) of.set(tunnel.machine, tunnel)
    }
    return of
  }, [tunnels, machine.id])
  const shared = { names, paths, regions, choose }
  return (
    <section className="rounded-lg border bg-card">
      <header className="flex items-center justify-between gap-2 border-b px-4 py-2">
        <h2 className="min-w-0 truncate font-semibold">
          <Link
            to="/o/$org/machines/$machine"
            params={{ org: org.slug, machine: machine.id }}
            className="hover:underline"
          >
            {machine.name}
          </Link>
        </h2>
        <StateBadge state={machine.state} />
      </header>
      <div className="flex max-h-[60dvh] flex-col gap-3 overflow-y-auto p-4">
        <Side title="May reach" ids={out} {...shared} from={machine.name} />
        <Side title="May be reached by" ids={into} {...shared} to={machine.name} />
      </div>
    </section>
  )
}

function Side({
  title,
  ids,
  names,
  paths,
  regions,
  choose,
  from,
  to,
}: {
  title: string
  ids: string[]
  names: ReadonlyMap<string, Machine>
  paths: ReadonlyMap<string, Tunnel>
  regions: Regions
  choose: (id: string) => void
  from?: string
  to?: string
}) {
  const org = useOrg()
  return (
    <div>
      <h3 className="mb-1 text-xs text-muted-foreground">
        {title} ({ids.length})
      </h3>
      {ids.length === 0 ? <p className="text-sm">no machine</p> : null}
      <ul className="flex flex-col">
        {ids.map((id) => {
          const peer = names.get(id)
          const path = paths.get(id)
          if (!peer) return null
          return (
            <li key={id} className="flex items-center gap-2 text-sm">
              <StateDot state={peer.state} />
              <button
                type="button"
                className="min-w-0 flex-1 truncate py-0.5 text-left hover:underline"
                onClick={() => choose(id)}
              >
                {peer.name}
              </button>
              {path ? (
                <Badge tone={path.path === 'direct' ? 'good' : 'warn'}>
                  {pathOf(path, regions)}
                  {path.latency_ms == null ? '' : ` ${path.latency_ms}\u00a0ms`}
                </Badge>
              ) : null}
              <Link
                to="/o/$org/policy"
                params={{ org: org.slug }}
                search={{
                  tab: 'ask',
                  src: from ?? peer.name,
                  dst: to ?? peer.name,
                  protocol: 'icmp',
                }}
                className="link flex items-center gap-1 text-xs"
              >
                why <ArrowRight className="size-3" />
                <span className="sr-only">
                  {from ?? peer.name} may reach {to ?? peer.name}
                </span>
              </Link>
            </li>
          )
        })}
      </ul>
    </div>
  )
}
