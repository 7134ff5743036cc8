import { type QueryClient, useQueryClient } from '@tanstack/react-query'
import { useMemo, useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { sentence } from '@/api/errors'
import { keyOf, machinesQuery, refetch } from '@/api/queries'
import type { Confirmation } from '@/components/confirm'
import { count } from '@/lib/format'
import type { ActionName, Machine } from '@/lib/machines'
import { useOrg } from '@/lib/org'
import { toast } from '@/lib/toast'

/** So many calls of a bulk action are under way at once. */
const AT_ONCE = 4

interface Told {
  verb: string
  done: string
  /** What happens, for one or several machines. Asked before if there is one. */
  warning: string | null
  destructive?: boolean
  reason?: boolean
}

export const ACTIONS: Record<ActionName | 'delete', Told> = {
  approve: { verb: 'Approve', done: 'approved', warning: null },
  deny: {
    verb: 'Deny',
    done: 'denied',
    warning: 'It is deleted before it ever came in. It can be enrolled again.',
    destructive: true,
  },
  quarantine: {
    verb: 'Quarantine',
    done: 'quarantined',
    warning: 'It loses every peer and the relay at once, and stays managed. Release undoes it.',
    destructive: true,
    reason: true,
  },
  release: { verb: 'Release', done: 'released', warning: null },
  lock: {
    verb: 'Lock',
    done: 'locked',
    warning:
      'Its tunnel closes at once, and no sign-in on the machine opens it. An admin can unlock it.',
    destructive: true,
    reason: true,
  },
  unlock: { verb: 'Unlock', done: 'unlocked', warning: null },
  disable: {
    verb: 'Disable',
    done: 'disabled',
    warning: 'The control plane refuses it from now on. Enable undoes it.',
    destructive: true,
    reason: true,
  },
  enable: { verb: 'Enable', done: 'enabled', warning: null },
  wipe: {
    verb: 'Wipe',
    done: 'told to wipe',
    warning:
      'Its agent erases its keys and state, now or when it comes back. It is out of the network at once and cannot come back without enrolling anew. This cannot be undone.',
    destructive: true,
  },
  delete: {
    verb: 'Delete',
    done: 'deleted',
    warning:
      'Its peers forget it and its addresses are free for others. To come back it has to be enrolled anew. This cannot be undone.',
    destructive: true,
  },
}

function body(action: ActionName, machine: Machine, reason: string): Schemas['MachineAction'] {
  switch (action) {
    case 'wipe':
      return { action, confirm: machine.name }
    case 'quarantine':
    case 'lock':
    case 'disable':
      return reason ? { action, reason } : { action }
    default:
      return { action }
  }
}

/** Puts what the server answered into the lists that are on the screen. */
function put(queries: QueryClient, org: string, machine: Machine) {
  queries.setQueryData(machinesQuery(org).queryKey, (list) =>
    list?.map((other) => (other.id === machine.id ? machine : other)),
  )
  queries.setQueryData(keyOf(org, 'machines', machine.id), machine)
}

function take(queries: QueryClient, org: string, machine: Machine) {
  queries.setQueryData(machinesQuery(org).queryKey, (list) =>
    list?.filter((other) => other.id !== machine.id),
  )
}

/** Does something to machines, after asking where it harms. */
export function useMachineActions(onGone?: () => void) {
  const org = useOrg()
  const queries = useQueryClient()
  const [asked, setAsked] = useState<Confirmation | null>(null)

  return useMemo(() => {
    const one = async (action: ActionName | 'delete', machine: Machine, reason: string) => {
      const path = { org: org.id, machine: machine.id }
      if (action === 'delete') {
        await open(api.DELETE('/api/orgs/{org}/machines/{machine}', { params: { path } }))
        take(queries, org.id, machine)
        return
      }
      const answer = await open(
        api.POST('/api/orgs/{org}/machines/{machine}/actions', {
          params: { path },
          body: body(action, machine, reason),
        }),
      )
      if (action === 'deny') take(queries, org.id, machine)
      else put(queries, org.id, answer)
    }

    const all = async (action: ActionName | 'delete', machines: Machine[], reason: string) => {
      const waiting = [...machines]
      const failures: string[] = []
      const worker = async () => {
        for (let machine = waiting.shift(); machine; machine = waiting.shift()) {
          try {
            await one(action, machine, reason)
          } catch (error) {
            failures.push(`${machine.name}: ${sentence(error)}`)
          }
        }
      }
      await Promise.all(Array.from({ length: AT_ONCE }, worker))
      void refetch(queries, org.id, 'machines', 'posture', 'routes', 'audit')
      const done = machines.length - failures.length
      if (failures.length > 0) {
        const more = failures.length > 3 ? `\nand ${failures.length - 3} more` : ''
        throw new Error(
          `${done > 0 ? `${count(done, 'machine')} ${ACTIONS[action].done}; ` : ''}${failures.length} refused. ${failures.slice(0, 3).join('\n')}${more}`,
        )
      }
      const [first] = machines
      toast.success(
        machines.length === 1 && first
          ? `${first.name} is ${ACTIONS[action].done}`
          : `${count(done, 'machine')} ${ACTIONS[action].done}`,
      )
      if (action === 'delete' || action === 'deny') onGone?.()
    }

    const act = (action: ActionName | 'delete', machines: Machine[]) => {
      const told = ACTIONS[action]
      const [first] = machines
      if (!first) return
      const several = machines.length > 1
      if (!told.warning && !several) {
        void all(action, machines, '').catch((error) => toast.error(sentence(error)))
        return
      }
      setAsked({
        title: several
          ? `${told.verb} ${count(machines.length, 'machine')}?`
          : `${told.verb} ${first.name}?`,
        text: (
          <>
            {several ? (
              <p className="mb-1">
                {machines
                  .slice(0, 8)
                  .map(({ name }) => name)
                  .join(', ')}
                {machines.length > 8 ? ` and ${machines.length - 8} more` : ''}.
              </p>
            ) : null}
            {told.warning ? <p>{several ? `Each: ${told.warning}` : told.warning}</p> : null}
          </>
        ),
        verb: told.verb,
        destructive: told.destructive,
        reason: told.reason,
        typed: action === 'wipe' ? (several ? `wipe ${machines.length}` : first.name) : undefined,
        run: (reason) => all(action, machines, reason),
      })
    }
    return { act, asked, close: () => setAsked(null), put: (m: Machine) => put(queries, org.id, m) }
  }, [asked, onGone, org.id, queries])
}
