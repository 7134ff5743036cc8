/** Tunnels of a machine, as it last told of them. */
import type { Schemas } from '@/api/client'

export type Connection = Schemas['NamedConnection']

/** Regions by their number, as people call them. */
export type Regions = ReadonlyMap<number, string>

export function pathOf(connection: Pick<Connection, 'path' | 'region'>, regions: Regions): string {
  switch (connection.path) {
    case 'direct':
      return 'direct'
    case 'relay': {
      const { region } = connection
      if (region == null) return 'relayed'
      return `by relay ${regions.get(region) ?? region}`
    }
    default:
      return 'no path now'
  }
}

/** As in `12 s`, `3 min`, `2 h`: how long ago something was that was `seconds` old when the machine told. */
export function age(seconds: number | null | undefined, told: string, now: number): string {
  if (seconds == null) return '–'
  const total = Math.max(0, Math.round(seconds + (now - Date.parse(told)) / 1000))
  if (total < 120) return `${total}\u00a0s`
  if (total < 7_200) return `${Math.floor(total / 60)}\u00a0min`
  return `${Math.floor(total / 3_600)}\u00a0h`
}

/** What the tunnel's keys are worth. */
export function keysOf(connection: Connection): string {
  if (!connection.post_quantum || connection.epoch === 0) return 'not yet post-quantum'
  return `post-quantum, epoch ${connection.epoch.toLocaleString('en')}`
}

/** Why packets go that way: the machine's sentence, without the way itself, which stands beside it. */
export function whyOf({ why = '' }: Pick<Connection, 'why'>): string {
  return why.replace(/^(direct|by relay|none): /, '')
}
