import { lazy, Suspense, useEffect } from 'react'
import { useTheme } from '@/lib/theme'
import { drawNotes, useWaitingNotes } from '@/lib/toast'

const Drawn = lazy(async () => {
  const { toast, Toaster } = await import('sonner')
  return {
    default: function Drawn() {
      // The toaster's own effect runs before: it listens by now.
      useEffect(() => drawNotes(({ kind, text }) => toast[kind](text)), [])
      return <Toaster theme={useTheme()} position="bottom-right" closeButton />
    },
  }
})

export function Toasts() {
  return useWaitingNotes() ? (
    <Suspense fallback={null}>
      <Drawn />
    </Suspense>
  ) : null
}
