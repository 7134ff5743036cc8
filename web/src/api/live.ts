/** How the pages keep up: what the header says, and how often queries ask again. */
import { useSyncExternalStore } from 'react'

export type Feed =
  /** The server pushes changes. */
  | 'live'
  /** The pages ask every few seconds. */
  | 'polling'
  /** The server does not answer. */
  | 'offline'

let feed: Feed = 'polling'
const listeners = new Set<() => void>()

export function setFeed(next: Feed) {
  if (next === feed) return
  feed = next
  for (const listener of listeners) listener()
}

export function useFeed(): Feed {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    () => feed,
  )
}

/** With a live feed, queries ask so rarely, in case something was missed. */
const SAFETY = 120_000

/** A query's interval: `ms` without a live feed. */
export function every(ms: number): () => number {
  return () => (feed === 'live' ? SAFETY : ms)
}
