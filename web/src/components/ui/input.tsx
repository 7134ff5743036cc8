import type * as React from 'react'
import { cn } from '@/lib/utils'

function Input({ className, ...props }: React.ComponentProps<'input'>) {
  return (
    <input
      data-slot="input"
      className={cn(
        'h-8 w-full min-w-0 rounded-md border border-input/60 bg-card px-2.5 text-sm placeholder:text-muted-foreground disabled:opacity-60 aria-invalid:border-bad',
        className,
      )}
      {...props}
    />
  )
}

export { Input }
