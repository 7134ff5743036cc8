import { ChevronDown } from 'lucide-react'
import type * as React from 'react'
import { cn } from '@/lib/utils'

function NativeSelect({ className, ...props }: React.ComponentProps<'select'>) {
  return (
    <span className={cn('relative inline-flex w-full', className)}>
      <select
        data-slot="native-select"
        className="h-8 w-full appearance-none rounded-md border border-input/60 bg-card pr-7 pl-2.5 text-sm disabled:opacity-60"
        {...props}
      />
      <ChevronDown
        aria-hidden
        className="pointer-events-none absolute top-2 right-2 size-4 text-muted-foreground"
      />
    </span>
  )
}

export { NativeSelect }
