import { useQueryClient } from '@tanstack/react-query'
import { useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { refetch } from '@/api/queries'
import { SwitchField, TextField } from '@/components/field'
import { Failure } from '@/components/page'
import { Button } from '@/components/ui/button'
import {
  Dialog,
  DialogContent,
  DialogFooter,
  DialogHeader,
  DialogTitle,
} from '@/components/ui/dialog'
import { type Machine, nameFault } from '@/lib/machines'
import { useOrg } from '@/lib/org'
import { parseTags } from '@/lib/tags'
import { toast } from '@/lib/toast'
import { useSubmit } from '@/lib/use-submit'

/** Name, tags and sign-in of a machine. */
export default function EditMachine({
  machine,
  onDone,
  onClose,
}: {
  machine: Machine
  onDone: (machine: Machine) => void
  onClose: () => void
}) {
  const org = useOrg()
  const queries = useQueryClient()
  const [name, setName] = useState(machine.name)
  const [tags, setTags] = useState(machine.tags.join(' '))
  const [expiry, setExpiry] = useState(machine.key_expiry)
  const fault = nameFault(name)
  const form = useSubmit(async () => {
    const wanted = parseTags(tags)
    const change: Schemas['UpdateMachineRequest'] = {}
    if (name !== machine.name) change.name = name
    if (wanted.join() !== machine.tags.join()) change.tags = wanted
    if (expiry !== machine.key_expiry) change.key_expiry = expiry
    if (Object.keys(change).length > 0) {
      const answer = await open(
        api.PATCH('/api/orgs/{org}/machines/{machine}', {
          params: { path: { org: org.id, machine: machine.id } },
          body: change,
        }),
      )
      onDone(answer)
      // Whom it reaches hangs on its tags.
      void refetch(queries, org.id, 'policy')
      toast.success(`${answer.name} is saved`)
    }
    onClose()
  })
  const tagged = parseTags(tags).length > 0
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()}>
      <DialogContent>
        <form onSubmit={form.submit} className="contents">
          <DialogHeader>
            <DialogTitle className="[overflow-wrap:anywhere]">Edit {machine.name}</DialogTitle>
          </DialogHeader>
          <TextField
            label="Name"
            value={name}
            hint={fault ?? `Peers reach it as ${name} at once.`}
            aria-invalid={fault !== null}
            spellCheck={false}
            onChange={(event) => setName(event.target.value)}
          />
          <TextField
            label="Tags"
            value={tags}
            placeholder="tag:web tag:db"
            hint="Names of the policy's tagOwners. A machine with tags belongs to nobody, and its sign-in does not end; taking all tags off does not give it back to its owner."
            spellCheck={false}
            onChange={(event) => setTags(event.target.value)}
          />
          {org.may('manage') && !tagged ? (
            <SwitchField
              label="Sign-in ends by time"
              hint="Off: the machine stays signed in until somebody removes it."
              checked={expiry}
              onCheckedChange={setExpiry}
            />
          ) : null}
          {form.error ? <Failure error={form.error} doing="Saving" /> : null}
          <DialogFooter>
            <Button variant="outline" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" disabled={form.busy || fault !== null}>
              Save
            </Button>
          </DialogFooter>
        </form>
      </DialogContent>
    </Dialog>
  )
}
