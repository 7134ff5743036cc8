import { Check } from 'lucide-react'
import type { RefObject } from 'react'
import type { MenuEntry } from '@/components/menu'
import {
  DropdownMenu,
  DropdownMenuCheckboxItem,
  DropdownMenuContent,
  DropdownMenuItem,
  DropdownMenuLabel,
  DropdownMenuSeparator,
  DropdownMenuTrigger,
} from '@/components/ui/dropdown-menu'

/** The list under a button of `Menu`, which stays itself while this is fetched. */
export default function MenuList({
  button,
  open,
  onOpenChange,
  entries,
  align,
  className,
}: {
  button: RefObject<HTMLButtonElement | null>
  open: boolean
  onOpenChange: (open: boolean) => void
  entries: () => MenuEntry[]
  align: 'start' | 'end'
  className?: string
}) {
  return (
    <DropdownMenu open={open} onOpenChange={onOpenChange}>
      <DropdownMenuTrigger asChild>
        <span aria-hidden className="pointer-events-none absolute inset-0" />
      </DropdownMenuTrigger>
      <DropdownMenuContent
        align={align}
        className={className}
        aria-labelledby={undefined}
        aria-label={button.current?.ariaLabel ?? button.current?.textContent ?? undefined}
        onCloseAutoFocus={(event) => {
          event.preventDefault()
          // Unless what was chosen has taken the focus: a dialog, another page.
          if (document.activeElement === document.body) button.current?.focus()
        }}
      >
        {open
          ? entries().map((entry, at) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: the entries of an open menu stay in place
              <Entry key={at} entry={entry} />
            ))
          : null}
      </DropdownMenuContent>
    </DropdownMenu>
  )
}

function Entry({ entry }: { entry: MenuEntry }) {
  if (entry === 'rule') return <DropdownMenuSeparator />
  if ('heading' in entry) return <DropdownMenuLabel>{entry.heading}</DropdownMenuLabel>
  if ('toggle' in entry) {
    return (
      <DropdownMenuCheckboxItem
        checked={entry.checked}
        // Several are switched, one after the other.
        onSelect={(event) => event.preventDefault()}
        onCheckedChange={entry.toggle}
      >
        <span className="flex-1">{entry.text}</span>
        {entry.n === undefined ? null : (
          <span className="figures pl-4 text-xs text-muted-foreground">
            {entry.n.toLocaleString('en')}
          </span>
        )}
      </DropdownMenuCheckboxItem>
    )
  }
  const { text, run, icon: Icon, chosen, destructive, disabled } = entry
  return (
    <DropdownMenuItem
      variant={destructive ? 'destructive' : 'default'}
      disabled={disabled}
      onSelect={() => void run()}
    >
      {Icon ? <Icon /> : null}
      <span className="min-w-0 flex-1">{text}</span>
      {chosen ? <Check aria-label={chosen} /> : null}
    </DropdownMenuItem>
  )
}
