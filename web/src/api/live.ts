/** How the pages keep up: what the header says, and how often queries ask again. */
import { useSyncExternalStore } from 'react'

export type Feed =
  /** The server pushes changes. */
  | 'live'
  /** The pages ask every few seconds. */
  | 'polling'
  /** The server does not answer. */
  | 'offline'

let reached = true
let pushed = false
const listeners = new Set<() => void>()

function feed(): Feed {
  if (pushed) return 'live'
  return reached ? 'polling' : 'offline'
}

/** Whether it has changed anything. */
function change(set: () => void): boolean {
  const before = feed()
  set()
  if (feed() === before) return false
  for (const listener of listeners) listener()
  return true
}

/** Whether the last call reached the server. */
export function setReached(on: boolean) {
  change(() => {
    reached = on
  })
}

/** Whether the server pushes changes. Answers whether that is new. */
export function setPushed(on: boolean): boolean {
  return change(() => {
    pushed = on
  })
}

export function useFeed(): Feed {
  return useSyncExternalStore((listener) => {
    listeners.add(listener)
    return () => listeners.delete(listener)
  }, feed)
}

/** With a live feed, queries ask so rarely, in case something was missed. */
const SAFETY = 120_000

/** A query's interval: `ms` without a live feed. */
export function every(ms: number): () => number {
  return () => (pushed ? SAFETY : ms)
}
