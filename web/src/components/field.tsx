import { type ComponentProps, type ReactNode, useId } from 'react'
import { Input } from '@/components/ui/input'
import { Label } from '@/components/ui/label'
import { NativeSelect } from '@/components/ui/native-select'
import { Switch } from '@/components/ui/switch'
import { Textarea } from '@/components/ui/textarea'
import { cn } from '@/lib/utils'

interface Around {
  label: string
  hint?: ReactNode
  className?: string
}

function Frame({
  id,
  label,
  hint,
  className,
  children,
}: Around & { id: string; children: ReactNode }) {
  return (
    <div className={cn('flex flex-col gap-1.5', className)}>
      <Label htmlFor={id}>{label}</Label>
      {children}
      {hint ? (
        <p id={`${id}-hint`} className="text-xs text-muted-foreground">
          {hint}
        </p>
      ) : null}
    </div>
  )
}

export function TextField({
  label,
  hint,
  className,
  ...props
}: Around & Omit<ComponentProps<'input'>, 'id' | 'className'>) {
  const id = useId()
  return (
    <Frame id={id} label={label} hint={hint} className={className}>
      <Input id={id} aria-describedby={hint ? `${id}-hint` : undefined} {...props} />
    </Frame>
  )
}

export function AreaField({
  label,
  hint,
  className,
  ...props
}: Around & Omit<ComponentProps<'textarea'>, 'id' | 'className'>) {
  const id = useId()
  return (
    <Frame id={id} label={label} hint={hint} className={className}>
      <Textarea id={id} aria-describedby={hint ? `${id}-hint` : undefined} {...props} />
    </Frame>
  )
}

export function SelectField({
  label,
  hint,
  className,
  ...props
}: Around & Omit<ComponentProps<'select'>, 'id' | 'className'>) {
  const id = useId()
  return (
    <Frame id={id} label={label} hint={hint} className={className}>
      <NativeSelect id={id} aria-describedby={hint ? `${id}-hint` : undefined} {...props} />
    </Frame>
  )
}

export function SwitchField({
  label,
  hint,
  className,
  ...props
}: Around & Pick<ComponentProps<typeof Switch>, 'checked' | 'onCheckedChange' | 'disabled'>) {
  const id = useId()
  return (
    <div className={cn('flex items-start justify-between gap-4', className)}>
      <div className="flex min-w-0 flex-col gap-0.5">
        <Label htmlFor={id}>{label}</Label>
        {hint ? (
          <p id={`${id}-hint`} className="text-xs text-muted-foreground">
            {hint}
          </p>
        ) : null}
      </div>
      <Switch id={id} aria-describedby={hint ? `${id}-hint` : undefined} {...props} />
    </div>
  )
}
