import type * as React from 'react'
import { useLayoutEffect, useRef } from 'react'
import { cn } from '@/lib/utils'

/**
 * A table. On a phone its rows become cards, each cell under the name of its column; `grid`: a table whose columns
 * are compared, so it scrolls there.
 */
function Table({
  label,
  grid = false,
  ...props
}: Omit<React.ComponentProps<'table'>, 'className'> & { label: string; grid?: boolean }) {
  const table = useRef<HTMLTableElement>(null)
  // After every drawing: rows come and go.
  useLayoutEffect(() => {
    const heads = [...(table.current?.tHead?.rows[0]?.cells ?? [])].map((head) =>
      head.querySelector('.sr-only') ? '' : (head.textContent ?? ''),
    )
    for (const row of table.current?.tBodies[0]?.rows ?? []) {
      for (const [at, cell] of [...row.cells].entries()) cell.dataset.label = heads[at] ?? ''
    }
  })
  return (
    <section
      className={cn(
        'relative overflow-x-auto rounded-lg border bg-card',
        grid ? 'w-fit max-w-full' : 'w-full',
      )}
      tabIndex={0}
      aria-label={label}
    >
      <table ref={table} className={cn('text-sm', grid ? 'w-auto' : 'stacks w-full')} {...props} />
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
