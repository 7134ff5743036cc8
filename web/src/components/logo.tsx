import { cn } from '@/lib/utils'

/** The mark: a lattice whose strokes make a z. */
export function Mark({ className }: { className?: string }) {
  return (
    <svg viewBox="0 0 32 32" aria-hidden="true" className={cn('size-6', className)}>
      <path
        d="M6 6h20L6 26h20"
        fill="none"
        stroke="currentColor"
        strokeWidth="2.4"
        strokeLinejoin="round"
        opacity="0.45"
      />
      <g fill="currentColor">
        <circle cx="6" cy="6" r="3.2" />
        <circle cx="16" cy="6" r="2" opacity="0.45" />
        <circle cx="26" cy="6" r="3.2" />
        <circle cx="6" cy="16" r="2" opacity="0.25" />
        <circle cx="16" cy="16" r="3.2" />
        <circle cx="26" cy="16" r="2" opacity="0.25" />
        <circle cx="6" cy="26" r="3.2" />
        <circle cx="16" cy="26" r="2" opacity="0.45" />
        <circle cx="26" cy="26" r="3.2" />
      </g>
    </svg>
  )
}

export function Logo() {
  return (
    <span className="flex items-center gap-2 text-primary">
      <Mark />
      <span className="text-lg font-semibold tracking-tight text-foreground">ztna</span>
    </span>
  )
}
