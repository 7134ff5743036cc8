/** Times and numbers as people read them. `now` is given, so that the tests need no clock. */

const UNITS: ReadonlyArray<readonly [Intl.RelativeTimeFormatUnit, number]> = [
  ['year', 365 * 86_400],
  ['month', 30 * 86_400],
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
]

const relative = new Intl.RelativeTimeFormat('en', { numeric: 'always', style: 'short' })

/** As in `3 min. ago` or `in 2 days`. */
export function ago(at: string | null | undefined, now: number = Date.now()): string {
  if (!at) return 'never'
  const seconds = Math.round((Date.parse(at) - now) / 1000)
  if (Number.isNaN(seconds)) return at
  for (const [unit, size] of UNITS) {
    if (Math.abs(seconds) >= size) {
      // One word, as far as lines are broken.
      return relative.format(Math.trunc(seconds / size), unit).replaceAll(' ', '\u00a0')
    }
  }
  return seconds <= 0 ? 'just\u00a0now' : 'in\u00a0a\u00a0moment'
}

const moment = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' })

/** The full local time, for titles. */
export function exact(at: string | null | undefined): string {
  if (!at) return 'never'
  const time = Date.parse(at)
  return Number.isNaN(time) ? at : moment.format(time)
}

/** As in `1 machine` and `3 machines`. */
export function count(n: number, one: string, many = `${one}s`): string {
  return `${n.toLocaleString('en')} ${n === 1 ? one : many}`
}

/** `linux-x86_64` as people say it. */
export function system(os: string): string {
  const [name = os, architecture] = os.split('-')
  const names: Record<string, string> = {
    linux: 'Linux',
    macos: 'macOS',
    windows: 'Windows',
    wireguard: 'WireGuard',
  }
  return architecture ? `${names[name] ?? name} ${architecture}` : (names[name] ?? name)
}

/** A browser's or a program's `User-Agent`, short. */
export function client(agent: string): string {
  if (!agent) return 'Unknown client'
  const system =
    /Windows|Mac OS X|Android|iPhone|iPad|Linux/.exec(agent)?.[0]?.replace('Mac OS X', 'macOS') ??
    ''
  const browser = /(Edg|OPR)\/(\d+)/.exec(agent) ?? /(Firefox|Chrome|Safari)\/(\d+)/.exec(agent)
  const names: Record<string, string> = { Edg: 'Edge', OPR: 'Opera' }
  if (!browser?.[1]) return agent.length > 48 ? `${agent.slice(0, 47)}…` : agent
  const name = names[browser[1]] ?? browser[1]
  return `${name} ${browser[2]}${system ? ` on ${system}` : ''}`
}
