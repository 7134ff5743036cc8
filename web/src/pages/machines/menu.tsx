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
import { Menu, type MenuEntry } from '@/components/menu'
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
  const entries = (): MenuEntry[] => [
    {
      text: `Copy ${machine.ipv4}`,
      icon: Copy,
      run: () => navigator.clipboard.writeText(machine.ipv4),
    },
    {
      text: 'Copy the DNS name',
      icon: Copy,
      run: () => navigator.clipboard.writeText(machine.dns_name),
    },
    ...(manage || own
      ? [{ text: 'Edit name and tags', icon: Pencil, run: () => edit(machine) }, 'rule' as const]
      : []),
    ...actions.map((action) => ({
      text: ACTIONS[action].verb,
      icon: ICONS[action],
      destructive: ACTIONS[action].destructive,
      run: () => act(action, [machine]),
    })),
    ...(manage || own
      ? [{ text: 'Delete', icon: Trash2, destructive: true, run: () => act('delete', [machine]) }]
      : []),
  ]
  return (
    <Menu
      variant="ghost"
      size="icon-sm"
      aria-label={`Actions for ${machine.name}`}
      align="end"
      entries={entries}
    >
      <MoreHorizontal />
    </Menu>
  )
}
