/** Short notes at the edge of the page. What draws them is loaded with the first one. */
import { useSyncExternalStore } from 'react'

export interface Note {
  kind: 'success' | 'error'
  text: string
}

let waiting: Note[] = []
let draw: ((note: Note) => void) | null = null
const listeners = new Set<() => void>()

function tell(note: Note) {
  if (draw) {
    draw(note)
    return
  }
  waiting = [...waiting, note]
  for (const listener of listeners) listener()
}

export const toast = {
  success: (text: string) => tell({ kind: 'success', text }),
  error: (text: string) => tell({ kind: 'error', text }),
}

/** Whether a note waits to be drawn. */
export function useWaitingNotes(): boolean {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    () => waiting.length > 0,
  )
}

/** Takes over the drawing, of those that wait too. */
export function drawNotes(by: (note: Note) => void) {
  draw = by
  for (const note of waiting) by(note)
}
