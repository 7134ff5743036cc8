import {
  Ban,
  Check,
  Copy,
  Eraser,
  Lock,
  LockOpen,
  type LucideIcon,
  MoreHorizontal,
  Pencil,
  Power,
  ShieldAlert,
  ShieldCheck,
  Trash2,
  X,
} from 'lucide-react'
import { Button } from '@/components/ui/button'
import {
  DropdownMenu,
  DropdownMenuContent,
  DropdownMenuItem,
  DropdownMenuSeparator,
  DropdownMenuTrigger,
} from '@/components/ui/dropdown-menu'
import { type ActionName, actionsFor, type Machine } from '@/lib/machines'
import { useOrg } from '@/lib/org'
import { ACTIONS } from './actions'

const ICONS: Record<ActionName, LucideIcon> = {
  approve: Check,
  deny: X,
  quarantine: ShieldAlert,
  release: ShieldCheck,
  lock: Lock,
  unlock: LockOpen,
  disable: Ban,
  enable: Power,
  wipe: Eraser,
}

/** All that can be done to one machine. */
export function MachineMenu({
  machine,
  act,
  edit,
}: {
  machine: Machine
  act: (action: ActionName | 'delete', machines: Machine[]) => void
  edit: (machine: Machine) => void
}) {
  const org = useOrg()
  const manage = org.may('manage')
  const own = machine.user === org.me.email
  const actions = actionsFor(machine, { manage, email: org.me.email })
  return (
    <DropdownMenu>
      <DropdownMenuTrigger asChild>
        <Button variant="ghost" size="icon-sm" aria-label={`Actions for ${machine.name}`}>
          <MoreHorizontal />
        </Button>
      </DropdownMenuTrigger>
      <DropdownMenuContent align="end">
        <DropdownMenuItem onSelect={() => void navigator.clipboard.writeText(machine.ipv4)}>
          <Copy /> Copy {machine.ipv4}
        </DropdownMenuItem>
        <DropdownMenuItem onSelect={() => void navigator.clipboard.writeText(machine.dns_name)}>
          <Copy /> Copy the DNS name
        </DropdownMenuItem>
        {manage || own ? (
          <>
            <DropdownMenuItem onSelect={() => edit(machine)}>
              <Pencil /> Edit name and tags
            </DropdownMenuItem>
            <DropdownMenuSeparator />
          </>
        ) : null}
        {actions.map((action) => {
          const Icon = ICONS[action]
          const harms = ACTIONS[action].destructive
          return (
            <DropdownMenuItem
              key={action}
              variant={harms ? 'destructive' : 'default'}
              onSelect={() => act(action, [machine])}
            >
              <Icon /> {ACTIONS[action].verb}
            </DropdownMenuItem>
          )
        })}
        {manage || own ? (
          <DropdownMenuItem variant="destructive" onSelect={() => act('delete', [machine])}>
            <Trash2 /> Delete
          </DropdownMenuItem>
        ) : null}
      </DropdownMenuContent>
    </DropdownMenu>
  )
}
