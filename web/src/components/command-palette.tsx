import { useQuery } from '@tanstack/react-query'
import { useNavigate } from '@tanstack/react-router'
import { Building2, LogOut, Monitor, Moon, Plus, Sun, UserRound } from 'lucide-react'
import { useMemo, useState } from 'react'
import { machinesQuery } from '@/api/queries'
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

/** Of many machines so many are offered; more letters narrow them down. */
const OFFERED = 8

/** Every page, machine and command by a few letters. */
export default function CommandPalette({ onClose }: { onClose: () => void }) {
  const org = useOrg()
  const navigate = useNavigate()
  const [text, setText] = useState('')
  const { data: machines } = useQuery(machinesQuery(org.id))
  const found = useMemo(
    () =>
      text.trim().length === 0
        ? []
        : (machines ?? []).filter((machine) => matches(machine, text)).slice(0, OFFERED),
    [machines, text],
  )
  const then = (run: () => unknown) => () => {
    onClose()
    void run()
  }
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()}>
      <DialogContent className="top-[12dvh] max-w-xl translate-y-0 gap-0 p-0 [&>button]:hidden">
        <DialogTitle className="sr-only">Search and commands</DialogTitle>
        <Command label="Search and commands" loop>
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
                    // Those of the machine, not what is typed: they are read once.
                    keywords={[machine.name, machine.ipv4, machine.user ?? '', ...machine.tags]}
                    onSelect={then(() =>
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
            <CommandGroup heading="Pages">
              {NAV.flatMap((group) => group.entries)
                .filter((entry) => org.may(entry.right))
                .map((entry) => (
                  <CommandItem
                    key={entry.to}
                    value={`page ${entry.label}`}
                    keywords={[entry.words]}
                    onSelect={then(() => navigate({ to: entry.to, params: { org: org.slug } }))}
                  >
                    <entry.icon /> {entry.label}
                  </CommandItem>
                ))}
              <CommandItem
                value="page Profile"
                keywords={['account password totp second factor sessions']}
                onSelect={then(() =>
                  navigate({ to: '/o/$org/profile', params: { org: org.slug } }),
                )}
              >
                <UserRound /> Profile
              </CommandItem>
            </CommandGroup>
            <CommandGroup heading="Commands">
              {org.may('manage') ? (
                <CommandItem
                  value="Add a machine"
                  keywords={['enrol install join']}
                  onSelect={then(() =>
                    navigate({
                      to: '/o/$org/machines',
                      params: { org: org.slug },
                      search: { add: '1' },
                    }),
                  )}
                >
                  <Plus /> Add a machine
                </CommandItem>
              ) : null}
              {org.me.orgs
                .filter((other) => other.id !== org.id)
                .map((other) => (
                  <CommandItem
                    key={other.id}
                    value={`org ${other.slug} ${other.name}`}
                    keywords={['switch organisation']}
                    onSelect={then(() =>
                      navigate({ to: '/o/$org/machines', params: { org: other.slug } }),
                    )}
                  >
                    <Building2 /> Switch to {other.name}
                  </CommandItem>
                ))}
              <CommandItem
                value="Light appearance"
                keywords={['theme']}
                onSelect={then(() => setTheme('light'))}
              >
                <Sun /> Light appearance
              </CommandItem>
              <CommandItem
                value="Dark appearance"
                keywords={['theme']}
                onSelect={then(() => setTheme('dark'))}
              >
                <Moon /> Dark appearance
              </CommandItem>
              <CommandItem
                value="System appearance"
                keywords={['theme']}
                onSelect={then(() => setTheme('system'))}
              >
                <Monitor /> Appearance as the system
              </CommandItem>
              <CommandItem value="Sign out" onSelect={then(() => signOut())}>
                <LogOut /> Sign out
              </CommandItem>
            </CommandGroup>
          </CommandList>
        </Command>
      </DialogContent>
    </Dialog>
  )
}
