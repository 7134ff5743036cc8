import type { QueryClient } from '@tanstack/react-query'
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
} from '@tanstack/react-router'
import { meQuery } from '@/api/queries'
import { accessToken } from '@/api/session'
import { Failure, Loading, NotFound } from '@/components/page'
import { lastOrg } from '@/lib/org'
import { only, ownPath, parseSearch, stringifySearch } from '@/lib/search'

interface Context {
  queries: QueryClient
}

const root = createRootRouteWithContext<Context>()({ component: Outlet })

// ── Without a session ─────────────────────────────────────────────────────────

const loginSearch = only('next', 'email')

const login = createRoute({
  getParentRoute: () => root,
  path: '/login',
  validateSearch: loginSearch,
  beforeLoad: async ({ search }) => {
    if (await accessToken().catch(() => null)) throw redirect({ href: ownPath(search.next) })
  },
  component: lazyRouteComponent(() => import('@/pages/auth/login')),
})

const signup = createRoute({
  getParentRoute: () => root,
  path: '/signup',
  validateSearch: only('next', 'email', 'invitation'),
  component: lazyRouteComponent(() => import('@/pages/auth/signup')),
})

const verifyEmail = createRoute({
  getParentRoute: () => root,
  path: '/verify-email',
  validateSearch: only('token'),
  component: lazyRouteComponent(() => import('@/pages/auth/verify-email')),
})

const resetPassword = createRoute({
  getParentRoute: () => root,
  path: '/reset-password',
  validateSearch: only('token'),
  component: lazyRouteComponent(() => import('@/pages/auth/reset-password')),
})

// ── With one ──────────────────────────────────────────────────────────────────

const signedIn = createRoute({
  getParentRoute: () => root,
  id: 'signed-in',
  beforeLoad: async ({ context, location }) => {
    if (!(await accessToken())) {
      const next = location.href === '/' ? undefined : location.href
      throw redirect({ to: '/login', search: { next } })
    }
    return { me: await context.queries.ensureQueryData(meQuery) }
  },
  component: Outlet,
})

const start = createRoute({
  getParentRoute: () => signedIn,
  path: '/',
  beforeLoad: ({ context: { me } }) => {
    const org = me.orgs.find(({ slug }) => slug === lastOrg()) ?? me.orgs[0]
    if (!org) throw redirect({ to: '/new-org' })
    throw redirect({ to: '/o/$org/machines', params: { org: org.slug } })
  },
})

const newOrg = createRoute({
  getParentRoute: () => signedIn,
  path: '/new-org',
  component: lazyRouteComponent(() => import('@/pages/auth/new-org')),
})

const acceptInvitation = createRoute({
  getParentRoute: () => root,
  path: '/accept-invitation',
  validateSearch: only('token'),
  component: lazyRouteComponent(() => import('@/pages/auth/accept-invitation')),
})

const cliLogin = createRoute({
  getParentRoute: () => root,
  path: '/cli-login',
  validateSearch: only('port', 'state', 'challenge'),
  component: lazyRouteComponent(() => import('@/pages/auth/cli-login')),
})

const org = createRoute({
  getParentRoute: () => signedIn,
  path: '/o/$org',
  beforeLoad: ({ context: { me }, params }) => {
    if (!me.orgs.some(({ slug }) => slug === params.org)) throw redirect({ to: '/' })
  },
  component: lazyRouteComponent(() => import('@/components/shell'), 'Shell'),
})

const orgStart = createRoute({
  getParentRoute: () => org,
  path: '/',
  beforeLoad: ({ params }) => {
    throw redirect({ to: '/o/$org/machines', params })
  },
})

const machines = createRoute({
  getParentRoute: () => org,
  path: '/machines',
  validateSearch: only('q', 'state', 'os', 'tag', 'posture', 'sort', 'add'),
  component: lazyRouteComponent(() => import('@/pages/machines/list')),
})

const machine = createRoute({
  getParentRoute: () => org,
  path: '/machines/$machine',
  component: lazyRouteComponent(() => import('@/pages/machines/detail')),
})

const map = createRoute({
  getParentRoute: () => org,
  path: '/map',
  validateSearch: only('by', 'at', 'show'),
  component: lazyRouteComponent(() => import('@/pages/map/map')),
})

const policy = createRoute({
  getParentRoute: () => org,
  path: '/policy',
  validateSearch: only('tab', 'version', 'src', 'dst', 'port', 'protocol'),
  component: lazyRouteComponent(() => import('@/pages/policy/policy')),
})

const people = createRoute({
  getParentRoute: () => org,
  path: '/people',
  component: lazyRouteComponent(() => import('@/pages/access/people')),
})

const authKeys = createRoute({
  getParentRoute: () => org,
  path: '/auth-keys',
  component: lazyRouteComponent(() => import('@/pages/access/auth-keys')),
})

const apiKeys = createRoute({
  getParentRoute: () => org,
  path: '/api-keys',
  component: lazyRouteComponent(() => import('@/pages/access/api-keys')),
})

const routes = createRoute({
  getParentRoute: () => org,
  path: '/routes',
  component: lazyRouteComponent(() => import('@/pages/network/routes')),
})

const staticPeers = createRoute({
  getParentRoute: () => org,
  path: '/static-peers',
  component: lazyRouteComponent(() => import('@/pages/static-peers/static-peers')),
})

const dns = createRoute({
  getParentRoute: () => org,
  path: '/dns',
  component: lazyRouteComponent(() => import('@/pages/network/dns')),
})

const relays = createRoute({
  getParentRoute: () => org,
  path: '/relays',
  component: lazyRouteComponent(() => import('@/pages/network/relays')),
})

const posture = createRoute({
  getParentRoute: () => org,
  path: '/posture',
  component: lazyRouteComponent(() => import('@/pages/security/posture')),
})

const audit = createRoute({
  getParentRoute: () => org,
  path: '/audit',
  validateSearch: only('actor', 'action', 'target', 'since', 'until', 'text'),
  component: lazyRouteComponent(() => import('@/pages/security/audit')),
})

const settings = createRoute({
  getParentRoute: () => org,
  path: '/settings',
  component: lazyRouteComponent(() => import('@/pages/settings/settings')),
})

const sso = createRoute({
  getParentRoute: () => org,
  path: '/sso',
  component: lazyRouteComponent(() => import('@/pages/settings/sso')),
})

const profile = createRoute({
  getParentRoute: () => org,
  path: '/profile',
  component: lazyRouteComponent(() => import('@/pages/profile/profile')),
})

const tree = root.addChildren([
  login,
  signup,
  verifyEmail,
  resetPassword,
  acceptInvitation,
  cliLogin,
  signedIn.addChildren([
    start,
    newOrg,
    org.addChildren([
      orgStart,
      machines,
      machine,
      map,
      policy,
      people,
      authKeys,
      apiKeys,
      routes,
      staticPeers,
      dns,
      relays,
      posture,
      audit,
      settings,
      sso,
      profile,
    ]),
  ]),
])

export function makeRouter(queries: QueryClient) {
  return createRouter({
    routeTree: tree,
    context: { queries },
    parseSearch,
    stringifySearch,
    defaultPreload: 'intent',
    defaultPreloadStaleTime: 0,
    scrollRestoration: true,
    defaultNotFoundComponent: NotFound,
    defaultPendingComponent: () => <Loading />,
    defaultErrorComponent: ({ error, reset }) => (
      <div className="mx-auto max-w-xl p-4">
        <Failure error={error} retry={reset} doing="Showing this page" />
      </div>
    ),
  })
}

declare module '@tanstack/react-router' {
  interface Register {
    router: ReturnType<typeof makeRouter>
  }
}
