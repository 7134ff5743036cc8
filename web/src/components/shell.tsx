import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Link, Outlet, useLocation, useNavigate } from '@tanstack/react-router'
import {
  ChevronsUpDown,
  LogOut,
  Menu as MenuIcon,
  Monitor,
  Moon,
  Plus,
  Search,
  Sun,
  UserRound,
} from 'lucide-react'
import { lazy, Suspense, useCallback, useEffect, useRef, useState } from 'react'
import { type Feed, useFeed } from '@/api/live'
import { settingsQuery } from '@/api/queries'
import { listen } from '@/api/realtime'
import { signOut } from '@/api/session'
import { Menu, type MenuEntry } from '@/components/menu'
import { Navigation } from '@/components/navigation'
import { Button } from '@/components/ui/button'
import { rememberOrg, useOrg } from '@/lib/org'
import { setTheme, useTheme } from '@/lib/theme'
import { cn } from '@/lib/utils'

const NavigationSheet = lazy(() => import('@/components/navigation-sheet'))
const loadPalette = () => import('@/components/command-palette')
const CommandPalette = lazy(loadPalette)
/** The palette is fetched so long after the page shows, in milliseconds: then no key is lost when it opens. */
const PALETTE_AHEAD = 2_000

/** What stands around the pages of an org. */
export function Shell() {
  const org = useOrg()
  const [menu, setMenu] = useState(false)
  const [palette, setPalette] = useState(false)
  const queries = useQueryClient()
  useEffect(() => rememberOrg(org.slug), [org.slug])
  useEffect(() => listen(queries, org.id), [queries, org.id])
  useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() !== 'k' || !(event.metaKey || event.ctrlKey)) return
      event.preventDefault()
      setPalette((open) => !open)
    }
    addEventListener('keydown', listen)
    return () => removeEventListener('keydown', listen)
  }, [])
  // A new page is read from its beginning, by screen readers too.
  const main = useRef<HTMLElement>(null)
  const pathname = useLocation({ select: (location) => location.pathname })
  const shown = useRef(pathname)
  useEffect(() => {
    if (shown.current === pathname) return
    shown.current = pathname
    main.current?.focus({ preventScroll: true })
  }, [pathname])
  useEffect(() => {
    const timer = setTimeout(() => void loadPalette().catch(() => undefined), PALETTE_AHEAD)
    return () => clearTimeout(timer)
  }, [])
  const closeMenu = useCallback(() => setMenu(false), [])
  return (
    <div className="flex min-h-dvh">
      <a
        href="#main"
        className="sr-only z-50 rounded-md bg-primary px-3 py-2 text-primary-foreground focus:not-sr-only focus:fixed focus:top-2 focus:left-2"
      >
        Skip to the content
      </a>
      <aside
        aria-label="Navigation"
        className="sticky top-0 hidden h-dvh w-52 shrink-0 flex-col border-r bg-sidebar lg:flex"
      >
        <Navigation />
      </aside>
      {menu ? (
        <Suspense fallback={null}>
          <NavigationSheet onClose={closeMenu} />
        </Suspense>
      ) : null}
      <div className="flex min-w-0 flex-1 flex-col">
        <header className="sticky top-0 z-30 flex h-12 items-center gap-1.5 border-b bg-background/95 px-2 backdrop-blur sm:px-4">
          <Button
            variant="ghost"
            size="icon"
            className="lg:hidden"
            aria-label="Open the navigation"
            onClick={() => setMenu(true)}
          >
            <MenuIcon />
          </Button>
          <OrgSwitcher />
          <div className="flex-1" />
          <FeedNote />
          <Button
            variant="outline"
            className="gap-2 text-muted-foreground max-sm:size-8 max-sm:px-0"
            aria-label="Search and commands"
            aria-keyshortcuts="Control+K"
            onClick={() => setPalette(true)}
          >
            <Search />
            <span className="hidden sm:inline">Search</span>
            <kbd className="hidden rounded-sm border bg-muted px-1 text-xs sm:inline">Ctrl K</kbd>
          </Button>
          <Account />
        </header>
        <LockdownNote />
        <main ref={main} id="main" tabIndex={-1} className="flex-1 p-3 outline-none sm:p-5">
          <Outlet />
        </main>
      </div>
      {palette ? (
        <Suspense fallback={null}>
          <CommandPalette onClose={() => setPalette(false)} />
        </Suspense>
      ) : null}
    </div>
  )
}

function OrgSwitcher() {
  const org = useOrg()
  const navigate = useNavigate()
  const entries = (): MenuEntry[] => [
    { heading: 'Organisations' },
    ...org.me.orgs.map((other) => ({
      text: (
        <>
          <span className="block truncate">{other.name}</span>
          <span className="block text-xs text-muted-foreground">
            {other.slug} · {other.role}
          </span>
        </>
      ),
      chosen: other.id === org.id ? 'open now' : undefined,
      run: () => navigate({ to: '/o/$org/machines', params: { org: other.slug } }),
    })),
    'rule',
    { text: 'New organisation', icon: Plus, run: () => navigate({ to: '/new-org' }) },
  ]
  return (
    <Menu
      variant="ghost"
      className="min-w-0 max-w-64 shrink px-2 font-semibold"
      entries={entries}
      listClass="max-w-72"
    >
      <span className="sr-only">Organisation: </span>
      <span className="truncate">{org.name}</span>
      <ChevronsUpDown className="size-3.5 text-muted-foreground" />
    </Menu>
  )
}

/** Says on every page that nothing passes, and why. */
function LockdownNote() {
  const org = useOrg()
  const { data } = useQuery(settingsQuery(org.id))
  if (!data?.lockdown) return null
  return (
    <p role="alert" className="bg-bad-soft px-3 py-2 text-sm text-bad sm:px-5">
      The organisation is locked down: nothing passes between its machines, whatever the policy
      says.{' '}
      <Link to="/o/$org/settings" params={{ org: org.slug }} className="underline">
        Settings
      </Link>
    </p>
  )
}

const FEEDS: Record<Feed, { text: string; dot: string; hint: string }> = {
  live: { text: 'Live', dot: 'bg-good', hint: 'The server pushes changes to this page.' },
  polling: {
    text: 'Polling',
    dot: 'bg-info',
    hint: 'This page asks the server for changes every few seconds.',
  },
  offline: {
    text: 'Offline',
    dot: 'bg-bad',
    hint: 'The server does not answer; what you see may be old. The page keeps trying.',
  },
}

function FeedNote() {
  const feed = useFeed()
  const { text, dot, hint } = FEEDS[feed]
  return (
    <p title={hint} className="flex h-7 items-center gap-1.5 px-1.5 text-xs text-muted-foreground">
      <span aria-hidden className={cn('size-2 rounded-full', dot)} />
      <span role="status">
        <span className="max-sm:sr-only">{text}</span>
        <span className="sr-only">. {hint}</span>
      </span>
    </p>
  )
}

const THEMES = [
  ['light', 'Light', Sun],
  ['dark', 'Dark', Moon],
  ['system', 'As the system', Monitor],
] as const

function Account() {
  const org = useOrg()
  const navigate = useNavigate()
  const current = useTheme()
  const entries = (): MenuEntry[] => [
    {
      heading: (
        <span className="[overflow-wrap:anywhere]">
          {org.me.email}
          <span className="block font-normal">
            {org.role} of {org.name}
          </span>
        </span>
      ),
    },
    {
      text: 'Profile and sessions',
      icon: UserRound,
      run: () => navigate({ to: '/o/$org/profile', params: { org: org.slug } }),
    },
    'rule',
    { heading: 'Appearance' },
    ...THEMES.map(([choice, text, icon]) => ({
      text,
      icon,
      chosen: current === choice ? 'chosen' : undefined,
      run: () => setTheme(choice),
    })),
    'rule',
    { text: 'Sign out', icon: LogOut, run: () => signOut().catch(() => undefined) },
  ]
  return (
    <Menu
      variant="ghost"
      size="icon"
      aria-label={`Account of ${org.me.email}`}
      entries={entries}
      align="end"
      listClass="w-60"
    >
      <UserRound />
    </Menu>
  )
}
