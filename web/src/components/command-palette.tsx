import { keepPreviousData, useQuery } from '@tanstack/react-query'
import { useNavigate } from '@tanstack/react-router'
import {
  Building2,
  LogOut,
  type LucideIcon,
  Monitor,
  Moon,
  Plus,
  Sun,
  UserRound,
} from 'lucide-react'
import { useState } from 'react'
import { machineWordsQuery } from '@/api/queries'
import { signOut } from '@/api/session'
import { NAV } from '@/components/nav'
import { StateDot } from '@/components/state'
import {
  Command,
  CommandEmpty,
  CommandGroup,
  CommandInput,
  CommandItem,
  CommandList,
} from '@/components/ui/command'
import { Dialog, DialogContent, DialogTitle } from '@/components/ui/dialog'
import { matches } from '@/lib/machines'
import { useOrg } from '@/lib/org'
import { setTheme } from '@/lib/theme'
import { useDebounced } from '@/lib/use-debounced'

/** Of many machines so many are offered; more letters narrow them down. */
const OFFERED = 8
/** The server is asked so long after the last letter, in milliseconds. */
const PAUSE = 150

interface Offer {
  label: string
  /** What else people call it. */
  words: string
  icon: LucideIcon
  run: () => unknown
}

/** Every page, machine and command by a few letters. */
export default function CommandPalette({ onClose }: { onClose: () => void }) {
  const org = useOrg()
  const navigate = useNavigate()
  const [text, setText] = useState('')
  const words = useDebounced(text.trim(), PAUSE)
  const { data } = useQuery({
    ...machineWordsQuery(org.id, words, OFFERED),
    enabled: words !== '',
    placeholderData: keepPreviousData,
  })
  // What came for other letters fits these, or is not offered.
  const found = text.trim() === '' ? [] : (data ?? []).filter((one) => matches(one, text))
  const pages = NAV.flatMap((group) => group.entries)
    .filter((entry) => org.may(entry.right))
    .map(
      ({ label, words, icon, to }): Offer => ({
        label,
        words,
        icon,
        run: () => navigate({ to, params: { org: org.slug } }),
      }),
    )
  pages.push({
    label: 'Profile',
    words: 'account password totp second factor sessions',
    icon: UserRound,
    run: () => navigate({ to: '/o/$org/profile', params: { org: org.slug } }),
  })
  const commands: Offer[] = [
    ...(org.may('manage')
      ? [
          {
            label: 'Add a machine',
            words: 'enrol install join',
            icon: Plus,
            run: () =>
              navigate({
                to: '/o/$org/machines',
                params: { org: org.slug },
                search: { add: '1' },
              }),
          },
        ]
      : []),
    ...org.me.orgs
      .filter((other) => other.id !== org.id)
      .map((other) => ({
        label: `Switch to ${other.name}`,
        words: `organisation ${other.slug}`,
        icon: Building2,
        run: () => navigate({ to: '/o/$org/machines', params: { org: other.slug } }),
      })),
    { label: 'Light appearance', words: 'theme', icon: Sun, run: () => setTheme('light') },
    { label: 'Dark appearance', words: 'theme', icon: Moon, run: () => setTheme('dark') },
    {
      label: 'Appearance as the system',
      words: 'theme',
      icon: Monitor,
      run: () => setTheme('system'),
    },
    { label: 'Sign out', words: 'log out leave', icon: LogOut, run: () => signOut() },
  ]
  const typed = text.toLowerCase().split(/\s+/)
  const fits = ({ label, words }: Offer) =>
    typed.every((word) => `${label} ${words}`.toLowerCase().includes(word))
  const choose = (run: () => unknown) => () => {
    onClose()
    void run()
  }
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()}>
      <DialogContent className="top-[12dvh] max-w-xl translate-y-0 gap-0 p-0 [&>button]:hidden">
        <DialogTitle className="sr-only">Search and commands</DialogTitle>
        {/* It would filter what is filtered, and name entries to screen readers that it has taken away. */}
        <Command label="Search and commands" loop shouldFilter={false}>
          <CommandInput
            placeholder="Go to a page, a machine, or do something"
            value={text}
            onValueChange={setText}
          />
          <CommandList label="Results">
            <CommandEmpty>Nothing matches. Try a machine's name, address or owner.</CommandEmpty>
            {found.length > 0 ? (
              <CommandGroup heading="Machines">
                {found.map((machine) => (
                  <CommandItem
                    key={machine.id}
                    value={`machine ${machine.id}`}
                    onSelect={choose(() =>
                      navigate({
                        to: '/o/$org/machines/$machine',
                        params: { org: org.slug, machine: machine.id },
                      }),
                    )}
                  >
                    <StateDot state={machine.state} />
                    <span className="min-w-0 flex-1 truncate">{machine.name}</span>
                    <span className="font-mono text-xs text-muted-foreground">{machine.ipv4}</span>
                  </CommandItem>
                ))}
              </CommandGroup>
            ) : null}
            {[
              ['Pages', pages.filter(fits)] as const,
              ['Commands', commands.filter(fits)] as const,
            ].map(([heading, offers]) =>
              offers.length > 0 ? (
                <CommandGroup key={heading} heading={heading}>
                  {offers.map(({ label, icon: Icon, run }) => (
                    <CommandItem key={label} value={`${heading} ${label}`} onSelect={choose(run)}>
                      <Icon /> {label}
                    </CommandItem>
                  ))}
                </CommandGroup>
              ) : null,
            )}
          </CommandList>
        </Command>
      </DialogContent>
    </Dialog>
  )
}
