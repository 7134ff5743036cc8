/** A page's filters stand in its address, as plain text: `?q=web&state=online,pending`. */

export type Search = Record<string, string | undefined>

export function parseSearch(text: string): Search {
  return Object.fromEntries(new URLSearchParams(text))
}

export function stringifySearch(search: Record<string, unknown>): string {
  const entries = Object.entries(search).flatMap(([key, value]) =>
    value === undefined || value === null || value === '' ? [] : [[key, String(value)]],
  )
  const text = new URLSearchParams(entries).toString()
  return text ? `?${text}` : ''
}

/** What a page takes from its address; the rest is dropped. */
export function only<K extends string>(...keys: K[]) {
  return (search: Record<string, unknown>): { [P in K]?: string } => {
    const picked: { [P in K]?: string } = {}
    for (const key of keys) {
      const value = search[key]
      if (typeof value === 'string' && value !== '') picked[key] = value
    }
    return picked
  }
}

/** A list within one parameter. */
export const listOf = (text: string | undefined): string[] => text?.split(',').filter(Boolean) ?? []
export const textOf = (list: readonly string[]): string | undefined => list.join(',') || undefined

/** A place on this site to go on to, or the start: an address from elsewhere leads nowhere else. */
export function ownPath(next: string | undefined): string {
  if (!next?.startsWith('/') || /^\/[/\\]/.test(next)) return '/'
  const url = new URL(next, 'https://own.invalid')
  return url.host === 'own.invalid' ? url.pathname + url.search + url.hash : '/'
}
