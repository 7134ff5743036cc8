import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Link, Outlet, useLocation, useNavigate } from '@tanstack/react-router'
import {
  Check,
  ChevronsUpDown,
  LogOut,
  Menu,
  Monitor,
  Moon,
  Plus,
  Search,
  Sun,
  UserRound,
} from 'lucide-react'
import { lazy, Suspense, useCallback, useEffect, useRef, useState } from 'react'
import { type Feed, useFeed } from '@/api/live'
import { machinesQuery } from '@/api/queries'
import { listen } from '@/api/realtime'
import { signOut } from '@/api/session'
import { Logo } from '@/components/logo'
import { NAV } from '@/components/nav'
import { Button } from '@/components/ui/button'
import {
  DropdownMenu,
  DropdownMenuContent,
  DropdownMenuItem,
  DropdownMenuLabel,
  DropdownMenuSeparator,
  DropdownMenuTrigger,
} from '@/components/ui/dropdown-menu'
import { Sheet, SheetContent, SheetTitle } from '@/components/ui/sheet'
import { rememberOrg, useOrg } from '@/lib/org'
import { setTheme, useTheme } from '@/lib/theme'
import { cn } from '@/lib/utils'

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
      <Sheet open={menu} onOpenChange={setMenu}>
        <SheetContent className="bg-sidebar">
          <SheetTitle className="sr-only">Navigation</SheetTitle>
          <Navigation onGo={closeMenu} />
        </SheetContent>
      </Sheet>
      <div className="flex min-w-0 flex-1 flex-col">
        <header className="sticky top-0 z-30 flex h-12 items-center gap-1.5 border-b bg-background/95 px-2 backdrop-blur sm:px-4">
          <Button
            variant="ghost"
            size="icon"
            className="lg:hidden"
            aria-label="Open the navigation"
            onClick={() => setMenu(true)}
          >
            <Menu />
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

function Navigation({ onGo }: { onGo?: () => void }) {
  const org = useOrg()
  const pending = usePending(org.id)
  return (
    <>
      <div className="flex h-12 shrink-0 items-center px-4">
        <Link
          to="/o/$org/machines"
          params={{ org: org.slug }}
          onClick={onGo}
          aria-label="ztna, start"
        >
          <Logo />
        </Link>
      </div>
      <nav aria-label="Pages" className="flex-1 overflow-y-auto px-2 pb-4">
        {NAV.map((group) => {
          const entries = group.entries.filter((entry) => org.may(entry.right))
          if (entries.length === 0) return null
          return (
            <div key={group.label ?? 'top'} className="mb-3">
              {group.label ? (
                <p className="px-2 pt-1 pb-1 text-xs text-muted-foreground">{group.label}</p>
              ) : null}
              <ul className="flex flex-col gap-px">
                {entries.map((entry) => (
                  <li key={entry.to}>
                    <Link
                      to={entry.to}
                      params={{ org: org.slug }}
                      onClick={onGo}
                      className="flex h-8 items-center gap-2.5 rounded-md px-2 text-sm text-foreground/85 hover:bg-accent/70 aria-[current=page]:bg-accent aria-[current=page]:font-medium aria-[current=page]:text-foreground [&[aria-current=page]_svg]:text-primary"
                    >
                      <entry.icon aria-hidden className="size-4 text-muted-foreground" />
                      <span className="flex-1">{entry.label}</span>
                      {entry.to === '/o/$org/machines' && pending > 0 ? (
                        <span
                          title={`${pending} waiting for approval`}
                          className="figures rounded-full bg-warn-soft px-1.5 text-xs font-medium text-warn"
                        >
                          {pending}
                        </span>
                      ) : null}
                    </Link>
                  </li>
                ))}
              </ul>
            </div>
          )
        })}
      </nav>
    </>
  )
}

function usePending(id: string): number {
  const { data } = useQuery({
    ...machinesQuery(id),
    select: (machines) => machines.filter((machine) => machine.state === 'pending').length,
  })
  return data ?? 0
}

function OrgSwitcher() {
  const org = useOrg()
  const navigate = useNavigate()
  return (
    <DropdownMenu>
      <DropdownMenuTrigger asChild>
        <Button variant="ghost" className="min-w-0 max-w-64 shrink px-2 font-semibold">
          <span className="sr-only">Organisation: </span>
          <span className="truncate">{org.name}</span>
          <ChevronsUpDown className="size-3.5 text-muted-foreground" />
        </Button>
      </DropdownMenuTrigger>
      <DropdownMenuContent align="start" className="max-w-72">
        <DropdownMenuLabel>Organisations</DropdownMenuLabel>
        {org.me.orgs.map((other) => (
          <DropdownMenuItem
            key={other.id}
            onSelect={() => navigate({ to: '/o/$org/machines', params: { org: other.slug } })}
          >
            <span className="min-w-0 flex-1">
              <span className="block truncate">{other.name}</span>
              <span className="block text-xs text-muted-foreground">
                {other.slug} · {other.role}
              </span>
            </span>
            {other.id === org.id ? <Check aria-label="open now" /> : null}
          </DropdownMenuItem>
        ))}
        <DropdownMenuSeparator />
        <DropdownMenuItem onSelect={() => navigate({ to: '/new-org' })}>
          <Plus /> New organisation
        </DropdownMenuItem>
      </DropdownMenuContent>
    </DropdownMenu>
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
  return (
    <DropdownMenu>
      <DropdownMenuTrigger asChild>
        <Button variant="ghost" size="icon" aria-label={`Account of ${org.me.email}`}>
          <UserRound />
        </Button>
      </DropdownMenuTrigger>
      <DropdownMenuContent align="end" className="w-60">
        <DropdownMenuLabel className="[overflow-wrap:anywhere]">
          {org.me.email}
          <span className="block font-normal">
            {org.role} of {org.name}
          </span>
        </DropdownMenuLabel>
        <DropdownMenuItem
          onSelect={() => navigate({ to: '/o/$org/profile', params: { org: org.slug } })}
        >
          <UserRound /> Profile and sessions
        </DropdownMenuItem>
        <DropdownMenuSeparator />
        <DropdownMenuLabel>Appearance</DropdownMenuLabel>
        {THEMES.map(([choice, label, Icon]) => (
          <DropdownMenuItem key={choice} onSelect={() => setTheme(choice)}>
            <Icon /> <span className="flex-1">{label}</span>
            {current === choice ? <Check aria-label="chosen" /> : null}
          </DropdownMenuItem>
        ))}
        <DropdownMenuSeparator />
        <DropdownMenuItem onSelect={() => void signOut().catch(() => undefined)}>
          <LogOut /> Sign out
        </DropdownMenuItem>
      </DropdownMenuContent>
    </DropdownMenu>
  )
}
