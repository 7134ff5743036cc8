import { X } from 'lucide-react'
import { Button } from '@/components/ui/button'
import { type ActionName, actionsFor, type Machine } from '@/lib/machines'
import { useOrg } from '@/lib/org'
import { ACTIONS } from './actions'

const ORDER: ReadonlyArray<ActionName> = [
  'approve',
  'release',
  'unlock',
  'enable',
  'deny',
  'quarantine',
  'lock',
  'disable',
]

/** What can be done to all that are selected; each action counts those that it fits. */
export function BulkBar({
  machines,
  act,
  clear,
}: {
  machines: Machine[]
  act: (action: ActionName | 'delete', machines: Machine[]) => void
  clear: () => void
}) {
  const org = useOrg()
  const rights = { manage: org.may('manage'), email: org.me.email }
  const fitting = (action: ActionName) =>
    machines.filter((machine) => actionsFor(machine, rights).includes(action))
  const deletable = rights.manage
    ? machines
    : machines.filter((machine) => machine.user === rights.email)
  return (
    <section
      aria-label="Selected machines"
      className="sticky bottom-3 z-20 mx-auto flex max-w-full flex-wrap items-center gap-1.5 rounded-xl border bg-popover px-3 py-2 shadow-lg"
    >
      <span className="figures pr-1 text-sm font-medium">{machines.length} selected</span>
      {ORDER.map((action) => {
        const list = fitting(action)
        if (list.length === 0) return null
        return (
          <Button
            key={action}
            size="sm"
            variant={action === 'approve' ? 'default' : 'outline'}
            onClick={() => act(action, list)}
          >
            {ACTIONS[action].verb}
            {list.length < machines.length ? (
              <span className="figures opacity-80">{list.length}</span>
            ) : null}
          </Button>
        )
      })}
      {deletable.length > 0 ? (
        <Button
          size="sm"
          variant="outline"
          className="text-bad"
          onClick={() => act('delete', deletable)}
        >
          Delete
        </Button>
      ) : null}
      <Button size="icon-sm" variant="ghost" aria-label="Clear the selection" onClick={clear}>
        <X />
      </Button>
    </section>
  )
}
