import type * as React from 'react'
import { cn } from '@/lib/utils'

function Table({ className, label, ...props }: React.ComponentProps<'table'> & { label: string }) {
  return (
    <section
      className="relative w-full overflow-x-auto rounded-lg [&:has(>table.w-auto)]:w-fit [&:has(>table.w-auto)]:max-w-full border bg-card"
      tabIndex={0}
      aria-label={label}
    >
      <table className={cn('w-full text-sm', className)} {...props} />
    </section>
  )
}

function TableHeader(props: React.ComponentProps<'thead'>) {
  return <thead className="border-b bg-muted/60" {...props} />
}

function TableBody({ className, ...props }: React.ComponentProps<'tbody'>) {
  return <tbody className={cn('[&_tr:last-child]:border-0', className)} {...props} />
}

function TableRow({ className, ...props }: React.ComponentProps<'tr'>) {
  return <tr className={cn('border-b hover:bg-muted/40', className)} {...props} />
}

function TableHead({ className, ...props }: React.ComponentProps<'th'>) {
  return (
    <th
      scope="col"
      className={cn(
        'h-8 px-3 text-left text-xs font-medium whitespace-nowrap text-muted-foreground',
        className,
      )}
      {...props}
    />
  )
}

function TableCell({ className, ...props }: React.ComponentProps<'td'>) {
  return <td className={cn('px-3 py-1.5 align-middle', className)} {...props} />
}

export { Table, TableBody, TableCell, TableHead, TableHeader, TableRow }
