/** A long list of machines, page by page as it is looked at. */
import { useQueries } from '@tanstack/react-query'
import { useCallback, useMemo, useRef, useState } from 'react'
import { api, open } from '@/api/client'
import { ALL_AT_ONCE, type MachineSearch, machinePageQuery, PAGE } from '@/api/queries'
import type { Column, Machine } from '@/lib/machines'
import { useOrg } from '@/lib/org'
import type { Rows } from './table'

type Sort = NonNullable<MachineSearch['sort']>

/** What the server calls a column, and whether it counts the other way round. */
const SORTS: Record<Column, readonly [Sort, boolean]> = {
  name: ['name', false],
  state: ['state', false],
  owner: ['user', false],
  address: ['address', false],
  os: ['os', false],
  version: ['version', false],
  tags: ['tags', false],
  path: ['path', false],
  pq: ['post_quantum', false],
  posture: ['posture', false],
  // Here, the first are those that were seen last.
  seen: ['last_seen', true],
  expiry: ['key_expires_at', false],
}

/** The order in which a column puts them, in the server's words. */
export function orderOf(
  column: Column,
  descending: boolean,
): Pick<MachineSearch, 'sort' | 'descending'> {
  const [sort, reversed] = SORTS[column]
  return { sort, descending: descending !== reversed }
}

/** The rows of a search, of which those on the screen are asked for. */
export function usePages(search: MachineSearch) {
  const org = useOrg()
  const [[first, last], setPages] = useState<readonly [number, number]>([0, 0])
  const onRange = useCallback((from: number, to: number) => {
    const [first, last] = [Math.floor(from / PAGE), Math.floor(to / PAGE)]
    setPages((old) => (old[0] === first && old[1] === last ? old : [first, last]))
  }, [])
  const shown = useQueries({
    queries: Array.from({ length: last - first + 1 }, (_, n) =>
      machinePageQuery(org.id, search, (first + n) * PAGE),
    ),
    combine: (results) => ({
      pages: results.map(({ data }) => data),
      error: results.find(({ error }) => error)?.error ?? null,
    }),
  })
  // Until the first page of another search is here, the list stays as long as it was.
  const total = useRef(0)
  total.current = shown.pages.find((page) => page)?.total ?? total.current
  const count = total.current
  const { pages, error } = shown
  const rows = useMemo(
    (): Rows => ({
      count,
      at: (index) => pages[Math.floor(index / PAGE) - first]?.machines[index % PAGE],
      areAll: (selected) => count > 0 && selected.size >= count,
      everything: async () => {
        const all: Machine[] = []
        for (let offset = 0; offset < count; offset += ALL_AT_ONCE) {
          const query = { ...search, limit: ALL_AT_ONCE, offset }
          const call = api.GET('/api/orgs/{org}/machines', {
            params: { path: { org: org.id }, query },
          })
          all.push(...(await open(call)))
        }
        return all
      },
      onRange,
    }),
    [count, pages, first, search, org.id, onRange],
  )
  const known = useMemo(
    () =>
      new Map(pages.flatMap((page) => page?.machines.map((one) => [one.id, one] as const) ?? [])),
    [pages],
  )
  return { rows, page: { error, known } }
}
