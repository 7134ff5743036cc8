import type { Schemas } from '@/api/client'
import { Badge, type Tone } from '@/components/ui/badge'
import { cn } from '@/lib/utils'

export type MachineState = Schemas['MachineState']

export const STATES: Record<MachineState, { label: string; tone: Tone; dot: string; why: string }> =
  {
    online: {
      label: 'Online',
      tone: 'good',
      dot: 'bg-good',
      why: 'Connected to the control plane.',
    },
    offline: {
      label: 'Offline',
      tone: 'plain',
      dot: 'border border-muted-foreground',
      why: 'Not heard of for more than three minutes.',
    },
    pending: {
      label: 'Pending',
      tone: 'warn',
      dot: 'bg-warn',
      why: 'Waits until an owner or admin approves it.',
    },
    quarantined: {
      label: 'Quarantined',
      tone: 'bad',
      dot: 'bg-bad',
      why: 'Has no peers and no relay; it is still managed.',
    },
    locked: {
      label: 'Locked',
      tone: 'bad',
      dot: 'bg-bad',
      why: 'Its tunnel is closed, and no sign-in opens it.',
    },
    disabled: {
      label: 'Disabled',
      tone: 'bad',
      dot: 'bg-bad',
      why: 'The control plane refuses it.',
    },
    expired: {
      label: 'Expired',
      tone: 'warn',
      dot: 'bg-warn',
      why: 'Its sign-in has ended: `ztna up` on the machine signs in again.',
    },
  }

export function StateDot({ state }: { state: MachineState }) {
  return (
    <span
      role="img"
      aria-label={STATES[state].label}
      title={STATES[state].label}
      className={cn('inline-block size-2 shrink-0 rounded-full', STATES[state].dot)}
    />
  )
}

export function StateBadge({ state }: { state: MachineState }) {
  return (
    <Badge tone={STATES[state].tone} title={STATES[state].why}>
      {STATES[state].label}
    </Badge>
  )
}
