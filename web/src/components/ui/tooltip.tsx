import { Tooltip as TooltipPrimitive } from 'radix-ui'
import type * as React from 'react'

const TooltipProvider = TooltipPrimitive.Provider

/** A short explanation of what it stands around, which has to be focusable. */
function Tooltip({ text, children }: { text: React.ReactNode; children: React.ReactElement }) {
  return (
    <TooltipPrimitive.Root>
      <TooltipPrimitive.Trigger asChild>{children}</TooltipPrimitive.Trigger>
      <TooltipPrimitive.Portal>
        <TooltipPrimitive.Content
          sideOffset={5}
          className="z-50 max-w-72 rounded-md bg-foreground px-2 py-1 text-xs text-background"
        >
          {text}
        </TooltipPrimitive.Content>
      </TooltipPrimitive.Portal>
    </TooltipPrimitive.Root>
  )
}

export { Tooltip, TooltipProvider }
