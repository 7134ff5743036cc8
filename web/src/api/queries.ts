/** What is asked of the API, under which key it is kept, and how often it is asked again without a live feed. */
import { type QueryClient, queryOptions } from '@tanstack/react-query'
import { api, open } from './client'
import { every } from './live'
import type { paths } from './schema'

/** How often what changes by itself is asked for when nothing is pushed, in milliseconds. */
export const POLL = 10_000
/** The same for what only people change. */
const SLOW_POLL = 60_000

/** Lists of more machines than this are asked for less often, by as many times as they are longer. */
const LONG = 1_000

export const longer = (ms: number, machines: number | undefined) =>
  ms * Math.max(1, Math.ceil((machines ?? 0) / LONG))

const org = (id: string) => ({ params: { path: { org: id } } })

export const meQuery = queryOptions({
  queryKey: ['me'],
  queryFn: () => open(api.GET('/api/auth/me')),
  staleTime: 60_000,
})

/** How people sign in here. */
export const waysQuery = queryOptions({
  queryKey: ['ways'],
  queryFn: () => open(api.GET('/api/auth/ways')),
  staleTime: Number.POSITIVE_INFINITY,
})

/** What a machine has to know of this deployment. */
export const joinQuery = queryOptions({
  queryKey: ['join'],
  queryFn: () => open(api.GET('/api/join')),
})

export const sessionsQuery = queryOptions({
  queryKey: ['sessions'],
  queryFn: () => open(api.GET('/api/auth/sessions')),
})

/** The kinds of data of an org; the first two parts of each key are `org` and its id. */
export type Kind =
  | 'machines'
  | 'members'
  | 'invitations'
  | 'auth-keys'
  | 'api-keys'
  | 'policy'
  | 'routes'
  | 'gateways'
  | 'static-peers'
  | 'dns'
  | 'relays'
  | 'relay-health'
  | 'posture'
  | 'posture-policies'
  | 'audit'
  | 'settings'
  | 'sso'

export const keyOf = (id: string, kind: Kind, ...rest: readonly unknown[]) =>
  ['org', id, kind, ...rest] as const

export function refetch(client: QueryClient, id: string, ...kinds: Kind[]): Promise<unknown> {
  return Promise.all(kinds.map((kind) => client.invalidateQueries({ queryKey: keyOf(id, kind) })))
}

export const machinesQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'machines'),
    queryFn: ({ signal }) => open(api.GET('/api/orgs/{org}/machines', { ...org(id), signal })),
    refetchInterval: (query) => every(longer(POLL, query.state.data?.length))(),
  })

/** Machines of a page, when there are too many to load them all. */
export const PAGE = 200
/** Up to so many machines are loaded at once, and searched, sorted and counted in the browser. */
export const ALL_AT_ONCE = 1_000

export type MachineSearch = Omit<
  NonNullable<paths['/api/orgs/{org}/machines']['get']['parameters']['query']>,
  'limit' | 'offset'
>

/** A page of what is searched for, and how many machines there are on all pages. */
export const machinePageQuery = (id: string, search: MachineSearch, offset: number) =>
  queryOptions({
    queryKey: keyOf(id, 'machines', 'page', search, offset),
    queryFn: async ({ signal }) => {
      const call = api.GET('/api/orgs/{org}/machines', {
        params: { path: { org: id }, query: { ...search, limit: PAGE, offset } },
        signal,
      })
      const machines = await open(call)
      return { machines, total: Number((await call).response.headers.get('x-total-count')) }
    },
    refetchInterval: every(3 * POLL),
  })

/** How many machines there are, which systems and tags they have, and how many wait. */
export const facetsQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'machines', 'facets'),
    queryFn: () => open(api.GET('/api/orgs/{org}/machine-facets', org(id))),
    refetchInterval: every(POLL),
  })

/** The first machines that a few words fit. */
export const machineWordsQuery = (id: string, words: string, limit: number) =>
  queryOptions({
    queryKey: keyOf(id, 'machines', 'words', words, limit),
    queryFn: ({ signal }) =>
      open(
        api.GET('/api/orgs/{org}/machines', {
          params: { path: { org: id }, query: { search: words, limit } },
          signal,
        }),
      ),
  })

/** All tunnels that the org's machines told of. Nothing tells of a new report. */
export const tunnelsQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'machines', 'tunnels'),
    queryFn: () => open(api.GET('/api/orgs/{org}/connections', org(id))),
    refetchInterval: 3 * POLL,
  })

export const machineQuery = (id: string, machine: string) =>
  queryOptions({
    queryKey: keyOf(id, 'machines', machine),
    queryFn: () =>
      open(
        api.GET('/api/orgs/{org}/machines/{machine}', { params: { path: { org: id, machine } } }),
      ),
    refetchInterval: every(POLL),
  })

/** Its tunnels. Nothing tells of a new report, which comes once a minute at most. */
export const connectionsQuery = (id: string, machine: string) =>
  queryOptions({
    queryKey: keyOf(id, 'machines', machine, 'connections'),
    queryFn: () =>
      open(
        api.GET('/api/orgs/{org}/machines/{machine}/connections', {
          params: { path: { org: id, machine } },
        }),
      ),
    refetchInterval: 3 * POLL,
  })

export const postureQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'posture'),
    queryFn: () => open(api.GET('/api/orgs/{org}/posture/machines', org(id))),
    refetchInterval: every(3 * POLL),
  })

export const machinePostureQuery = (id: string, machine: string) =>
  queryOptions({
    queryKey: keyOf(id, 'posture', machine),
    queryFn: () =>
      open(
        api.GET('/api/orgs/{org}/posture/machines/{machine}', {
          params: { path: { org: id, machine } },
        }),
      ),
    refetchInterval: every(3 * POLL),
  })

export const posturePoliciesQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'posture-policies'),
    queryFn: () => open(api.GET('/api/orgs/{org}/posture/policies', org(id))),
    refetchInterval: every(SLOW_POLL),
  })

export const routesQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'routes'),
    queryFn: () => open(api.GET('/api/orgs/{org}/routes', org(id))),
    refetchInterval: every(POLL),
  })

export const gatewaysQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'gateways'),
    queryFn: () => open(api.GET('/api/orgs/{org}/gateways', org(id))),
    refetchInterval: every(POLL),
  })

export const staticPeersQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'static-peers'),
    queryFn: () => open(api.GET('/api/orgs/{org}/static-peers', org(id))),
    refetchInterval: every(POLL),
  })

export const membersQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'members'),
    queryFn: () => open(api.GET('/api/orgs/{org}/members', org(id))),
    refetchInterval: every(SLOW_POLL),
  })

export const invitationsQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'invitations'),
    queryFn: () => open(api.GET('/api/orgs/{org}/invitations', org(id))),
    refetchInterval: every(SLOW_POLL),
  })

export const authKeysQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'auth-keys'),
    queryFn: () => open(api.GET('/api/orgs/{org}/auth-keys', org(id))),
    refetchInterval: every(SLOW_POLL),
  })

export const apiKeysQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'api-keys'),
    queryFn: () => open(api.GET('/api/orgs/{org}/api-keys', org(id))),
    refetchInterval: every(SLOW_POLL),
  })

export const policyQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'policy'),
    queryFn: () => open(api.GET('/api/orgs/{org}/policy', org(id))),
    refetchInterval: every(SLOW_POLL),
  })

export const policyGroupsQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'policy', 'groups'),
    queryFn: () => open(api.GET('/api/orgs/{org}/policy/groups', org(id))),
    refetchInterval: every(SLOW_POLL),
  })

export const policyVersionsQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'policy', 'versions'),
    queryFn: () => open(api.GET('/api/orgs/{org}/policy/versions', org(id))),
    refetchInterval: every(SLOW_POLL),
  })

export const policyVersionQuery = (id: string, version: number) =>
  queryOptions({
    queryKey: keyOf(id, 'policy', 'version', version),
    queryFn: () =>
      open(
        api.GET('/api/orgs/{org}/policy/versions/{version}', {
          params: { path: { org: id, version } },
        }),
      ),
    staleTime: Number.POSITIVE_INFINITY,
  })

export const dnsQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'dns'),
    queryFn: () => open(api.GET('/api/orgs/{org}/dns', org(id))),
    refetchInterval: every(SLOW_POLL),
  })

export const relaysQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'relays'),
    queryFn: () => open(api.GET('/api/orgs/{org}/relays', org(id))),
    refetchInterval: every(SLOW_POLL),
  })

export const relayHealthQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'relay-health'),
    queryFn: () => open(api.GET('/api/derp-health', { params: { query: { org: id } } })),
    refetchInterval: every(3 * POLL),
  })

export const settingsQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'settings'),
    queryFn: () => open(api.GET('/api/orgs/{org}/settings', org(id))),
    refetchInterval: every(SLOW_POLL),
  })

export const auditSettingsQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'settings', 'audit'),
    queryFn: () => open(api.GET('/api/orgs/{org}/audit/settings', org(id))),
  })

export const ssoQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'sso'),
    queryFn: () => open(api.GET('/api/orgs/{org}/sso', org(id))),
  })

export const ssoDomainsQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'sso', 'domains'),
    queryFn: () => open(api.GET('/api/orgs/{org}/sso/domains', org(id))),
  })

/**
 * Who may open something towards whom, as the rules stand now: what a document without rules would cut. The
 * server names the first thousand pairs and counts all.
 */
export const reachQuery = (id: string) =>
  queryOptions({
    queryKey: keyOf(id, 'policy', 'reach'),
    queryFn: async () => {
      const { impact } = await open(
        api.POST('/api/orgs/{org}/policy/dry-run', { ...org(id), body: { text: '{}' } }),
      )
      return impact?.cuts ?? { count: 0, pairs: [] }
    },
    refetchInterval: every(3 * POLL),
  })

/** Whom a machine may open something towards, who towards it, and by which rules. */
export const machineReachQuery = (id: string, machine: string) =>
  queryOptions({
    queryKey: keyOf(id, 'policy', 'reach', machine),
    queryFn: () =>
      open(
        api.GET('/api/orgs/{org}/machines/{machine}/reach', {
          params: { path: { org: id, machine } },
        }),
      ),
    refetchInterval: every(3 * POLL),
  })

/** The newest rows of the audit log about one thing. */
export const auditOfQuery = (id: string, target: string) =>
  queryOptions({
    queryKey: keyOf(id, 'audit', 'of', target),
    queryFn: () =>
      open(
        api.GET('/api/orgs/{org}/audit', {
          params: { path: { org: id }, query: { target, limit: 15 } },
        }),
      ),
    refetchInterval: every(3 * POLL),
  })
