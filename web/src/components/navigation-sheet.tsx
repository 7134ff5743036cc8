import { Navigation } from '@/components/navigation'
import { Sheet, SheetContent, SheetTitle } from '@/components/ui/sheet'

/** The navigation of a small screen. */
export default function NavigationSheet({ onClose }: { onClose: () => void }) {
  return (
    <Sheet open onOpenChange={(open) => !open && onClose()}>
      <SheetContent className="bg-sidebar">
        <SheetTitle className="sr-only">Navigation</SheetTitle>
        <Navigation onGo={onClose} />
      </SheetContent>
    </Sheet>
  )
}
