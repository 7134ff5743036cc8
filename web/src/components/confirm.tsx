import { lazy, type ReactNode, Suspense } from 'react'

const ConfirmDialog = lazy(() => import('@/components/confirm-dialog'))

export interface Confirmation {
  title: string
  /** What will happen, and whether it can be undone. */
  text: ReactNode
  /** What the button says: the verb. */
  verb: string
  destructive?: boolean
  /** Text that has to be typed first. */
  typed?: string
  /** Asks for a reason, which is given to `run`. */
  reason?: boolean
  run: (reason: string) => Promise<unknown>
}

/** Asks before something is done that cannot be undone, or that cuts somebody off. */
export function Confirm({ asked, onClose }: { asked: Confirmation | null; onClose: () => void }) {
  if (!asked) return null
  return (
    <Suspense fallback={null}>
      <ConfirmDialog key={asked.title} asked={asked} onClose={onClose} />
    </Suspense>
  )
}
