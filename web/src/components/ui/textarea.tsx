import type * as React from 'react'
import { cn } from '@/lib/utils'

function Textarea({ className, ...props }: React.ComponentProps<'textarea'>) {
  return (
    <textarea
      data-slot="textarea"
      className={cn(
        'field-sizing-content min-h-16 w-full rounded-md border border-input/60 bg-card px-2.5 py-1.5 text-sm placeholder:text-muted-foreground aria-invalid:border-bad',
        className,
      )}
      {...props}
    />
  )
}

export { Textarea }
