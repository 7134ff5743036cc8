import { type FormEvent, useState } from 'react'
import type { Confirmation } from '@/components/confirm'
import { TextField } from '@/components/field'
import { Failure } from '@/components/page'
import { Button } from '@/components/ui/button'
import {
  Dialog,
  DialogContent,
  DialogDescription,
  DialogFooter,
  DialogHeader,
  DialogTitle,
} from '@/components/ui/dialog'

/** The dialog of `Confirm`, fetched when there is something to ask. */
export default function ConfirmDialog({
  asked,
  onClose,
}: {
  asked: Confirmation
  onClose: () => void
}) {
  const [typed, setTyped] = useState('')
  const [reason, setReason] = useState('')
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState<unknown>(null)
  const submit = async (event: FormEvent) => {
    event.preventDefault()
    setBusy(true)
    setError(null)
    try {
      await asked.run(reason.trim())
      onClose()
    } catch (failure) {
      setError(failure)
      setBusy(false)
    }
  }
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()}>
      <DialogContent>
        <form onSubmit={submit} className="contents">
          <DialogHeader>
            <DialogTitle className="[overflow-wrap:anywhere]">{asked.title}</DialogTitle>
            <DialogDescription asChild>
              <div>{asked.text}</div>
            </DialogDescription>
          </DialogHeader>
          {asked.reason ? (
            <TextField
              label="Reason"
              hint="Optional. People see it, those who use the machine too."
              value={reason}
              maxLength={255}
              onChange={(event) => setReason(event.target.value)}
            />
          ) : null}
          {asked.typed ? (
            <TextField
              label={`Type ${asked.typed} to confirm`}
              value={typed}
              autoComplete="off"
              spellCheck={false}
              onChange={(event) => setTyped(event.target.value)}
            />
          ) : null}
          {error ? <Failure error={error} doing={asked.verb} /> : null}
          <DialogFooter>
            <Button variant="outline" onClick={onClose}>
              Cancel
            </Button>
            <Button
              type="submit"
              variant={asked.destructive ? 'destructive' : 'default'}
              disabled={busy || (asked.typed !== undefined && typed !== asked.typed)}
            >
              {asked.verb}
            </Button>
          </DialogFooter>
        </form>
      </DialogContent>
    </Dialog>
  )
}
