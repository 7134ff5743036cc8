import { CircleAlert, CircleCheck, Info, TriangleAlert } from 'lucide-react'
import type * as React from 'react'
import { cn } from '@/lib/utils'

const tones = {
  bad: { className: 'bg-bad-soft text-bad', Icon: CircleAlert },
  warn: { className: 'bg-warn-soft text-warn', Icon: TriangleAlert },
  good: { className: 'bg-good-soft text-good', Icon: CircleCheck },
  info: { className: 'bg-info-soft text-info', Icon: Info },
}

function Alert({
  className,
  tone = 'bad',
  children,
  ...props
}: React.ComponentProps<'div'> & { tone?: keyof typeof tones }) {
  const { Icon, className: colours } = tones[tone]
  return (
    <div
      role={tone === 'bad' ? 'alert' : 'status'}
      className={cn('flex gap-2 rounded-md px-3 py-2 text-sm', colours, className)}
      {...props}
    >
      <Icon aria-hidden className="mt-0.5 size-4 shrink-0" />
      <div className="min-w-0 flex-1 [overflow-wrap:anywhere]">{children}</div>
    </div>
  )
}

export { Alert }
