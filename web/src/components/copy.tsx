import { Check, Copy as CopyIcon } from 'lucide-react'
import { useEffect, useState } from 'react'
import { Button } from '@/components/ui/button'
import { toast } from '@/lib/toast'
import { cn } from '@/lib/utils'

const SHOWN = 1_500

function useCopy() {
  const [done, setDone] = useState(false)
  useEffect(() => {
    if (!done) return
    const timer = setTimeout(() => setDone(false), SHOWN)
    return () => clearTimeout(timer)
  }, [done])
  const copy = (text: string) => {
    navigator.clipboard.writeText(text).then(
      () => setDone(true),
      () => toast.error('The browser did not let this page copy; select the text and copy it.'),
    )
  }
  return { done, copy }
}

export function CopyButton({ text, what }: { text: string; what: string }) {
  const { done, copy } = useCopy()
  return (
    <Button
      variant="ghost"
      size="icon-sm"
      aria-label={done ? `${what} copied` : `Copy ${what}`}
      onClick={(event) => {
        event.stopPropagation()
        copy(text)
      }}
    >
      {done ? <Check className="size-3.5 text-good" /> : <CopyIcon className="size-3.5" />}
    </Button>
  )
}

/** A line to be copied: a command, a key. */
export function CopyLine({
  text,
  what,
  wrap = false,
  className,
}: {
  text: string
  what: string
  wrap?: boolean
  className?: string
}) {
  return (
    <div
      className={cn(
        'flex items-start gap-1 rounded-md border bg-muted/60 py-1 pr-1 pl-3',
        className,
      )}
    >
      <code
        tabIndex={wrap ? undefined : 0}
        className={cn(
          'min-w-0 flex-1 py-1 text-xs',
          wrap ? 'break-all' : 'overflow-x-auto whitespace-pre',
        )}
      >
        {text}
      </code>
      <CopyButton text={text} what={what} />
    </div>
  )
}
