import { Dialog, DialogContent, DialogHeader, DialogTitle } from '@/components/ui/dialog'
import AddMachine from './add'

export default function AddMachineDialog({ onClose }: { onClose: () => void }) {
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()}>
      <DialogContent className="max-w-xl">
        <DialogHeader>
          <DialogTitle>Add a machine</DialogTitle>
        </DialogHeader>
        <AddMachine />
      </DialogContent>
    </Dialog>
  )
}
