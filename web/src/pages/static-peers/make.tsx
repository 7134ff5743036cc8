import { useQueryClient } from '@tanstack/react-query'
import { Download } from 'lucide-react'
import { type ReactNode, useState } from 'react'
import { api, open, type Schemas } from '@/api/client'
import { refetch } from '@/api/queries'
import { CopyButton } from '@/components/copy'
import { SelectField, SwitchField, TextField } from '@/components/field'
import { Failure } from '@/components/page'
import { Alert } from '@/components/ui/alert'
import { Button } from '@/components/ui/button'
import {
  Dialog,
  DialogContent,
  DialogFooter,
  DialogHeader,
  DialogTitle,
} from '@/components/ui/dialog'
import { nameFault } from '@/lib/machines'
import { useOrg } from '@/lib/org'
import { save } from '@/lib/save'
import { parseTags } from '@/lib/tags'
import { useSubmit } from '@/lib/use-submit'

type Config = Schemas['StaticPeerConfig']
type Gateway = Schemas['Gateway']

/** What both forms ask for, and what is sent of it. */
function useKeys(gateways: readonly Gateway[], first?: string | null) {
  const [gateway, setGateway] = useState(first ?? gateways[0]?.machine ?? '')
  const [preshared, setPreshared] = useState(true)
  const [publicKey, setPublicKey] = useState('')
  const own = publicKey.trim()
  const fields = (
    <>
      <SelectField
        label="Gateway"
        value={gateway}
        onChange={(event) => setGateway(event.target.value)}
      >
        {gateways.map(({ machine, name, endpoint }) => (
          <option key={machine} value={machine}>
            {name}, {endpoint}
          </option>
        ))}
      </SelectField>
      <SwitchField
        label="Preshared key"
        hint="Keeps the last hop safe from quantum computers too. Some devices cannot have one."
        checked={preshared}
        onCheckedChange={setPreshared}
      />
      <TextField
        label="The device's own public key"
        hint="Optional. Without it the server makes the keys, shows them once and does not keep the private one."
        placeholder="44 characters of base64"
        spellCheck={false}
        autoComplete="off"
        value={publicKey}
        onChange={(event) => setPublicKey(event.target.value)}
      />
    </>
  )
  return {
    fields,
    body: { gateway, preshared_key: preshared, ...(own ? { public_key: own } : {}) },
  }
}

/** A new device. */
export function MakePeer({
  gateways,
  onClose,
}: {
  gateways: readonly Gateway[]
  onClose: () => void
}) {
  const org = useOrg()
  const queries = useQueryClient()
  const [name, setName] = useState('')
  const [tags, setTags] = useState('')
  const keys = useKeys(gateways)
  const [made, setMade] = useState<Config | null>(null)
  const fault = name ? nameFault(name) : null
  const form = useSubmit(async () => {
    setMade(
      await open(
        api.POST('/api/orgs/{org}/static-peers', {
          params: { path: { org: org.id } },
          body: { name, tags: parseTags(tags), ...keys.body },
        }),
      ),
    )
    void refetch(queries, org.id, 'static-peers', 'gateways', 'machines', 'audit')
  })
  return (
    <Shown made={made} title="Add a device" onClose={onClose}>
      <form onSubmit={form.submit} className="contents">
        <TextField
          label="Name"
          required
          placeholder="phone-of-ada"
          hint={fault ?? undefined}
          aria-invalid={fault !== null}
          spellCheck={false}
          value={name}
          onChange={(event) => setName(event.target.value)}
        />
        {org.may('manage') ? (
          <TextField
            label="Tags"
            placeholder="tag:phones"
            hint="Optional. A device without tags is yours; one with tags is nobody's."
            spellCheck={false}
            value={tags}
            onChange={(event) => setTags(event.target.value)}
          />
        ) : null}
        {keys.fields}
        {form.error ? <Failure error={form.error} doing="Adding the device" /> : null}
        <DialogFooter>
          <Button variant="outline" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" disabled={form.busy || fault !== null || name === ''}>
            Add it
          </Button>
        </DialogFooter>
      </form>
    </Shown>
  )
}

/** New keys for a device, and maybe another gateway. */
export function NewKeys({
  peer,
  gateways,
  onClose,
}: {
  peer: Schemas['StaticPeer']
  gateways: readonly Gateway[]
  onClose: () => void
}) {
  const org = useOrg()
  const queries = useQueryClient()
  const keys = useKeys(gateways, peer.gateway)
  const [made, setMade] = useState<Config | null>(null)
  const form = useSubmit(async () => {
    setMade(
      await open(
        api.POST('/api/orgs/{org}/static-peers/{machine}/keys', {
          params: { path: { org: org.id, machine: peer.id } },
          body: keys.body,
        }),
      ),
    )
    void refetch(queries, org.id, 'static-peers', 'gateways', 'machines', 'audit')
  })
  return (
    <Shown made={made} title={`New keys for ${peer.name}`} onClose={onClose}>
      <form onSubmit={form.submit} className="contents">
        <Alert tone="warn">
          What the device is configured with now ends at once; it is out until it has the new
          configuration.
        </Alert>
        {keys.fields}
        {form.error ? <Failure error={form.error} doing="Making new keys" /> : null}
        <DialogFooter>
          <Button variant="outline" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" variant="destructive" disabled={form.busy}>
            Make new keys
          </Button>
        </DialogFooter>
      </form>
    </Shown>
  )
}

/** A form, and once it was answered what the device is configured with. */
function Shown({
  made,
  title,
  onClose,
  children,
}: {
  made: Config | null
  title: string
  onClose: () => void
  children: ReactNode
}) {
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()}>
      <DialogContent
        // What is shown once is not lost to a click beside it.
        onInteractOutside={(event) => made && event.preventDefault()}
      >
        <DialogHeader>
          <DialogTitle className="[overflow-wrap:anywhere]">
            {made ? `The configuration of ${made.peer.name}` : title}
          </DialogTitle>
        </DialogHeader>
        {made ? <Configuration made={made} onClose={onClose} /> : children}
      </DialogContent>
    </Dialog>
  )
}

function Configuration({ made, onClose }: { made: Config; onClose: () => void }) {
  return (
    <>
      <Alert tone="warn">{made.notice}</Alert>
      {made.qr_svg ? (
        <img
          alt="The configuration as a QR code, for the WireGuard app"
          src={`data:image/svg+xml;utf8,${encodeURIComponent(made.qr_svg)}`}
          className="mx-auto size-64 max-w-full rounded-md bg-white p-2"
        />
      ) : null}
      <div className="flex items-start gap-1 rounded-md border bg-muted/60 py-1 pr-1 pl-3">
        {/* It scrolls, and so has to be reached by keyboard. */}
        <section
          aria-label="The configuration file"
          tabIndex={0}
          className="max-h-40 min-w-0 flex-1 overflow-auto"
        >
          <pre className="py-1 text-xs">{made.config}</pre>
        </section>
        <CopyButton text={made.config} what="the configuration" />
      </div>
      <DialogFooter>
        <Button
          variant="outline"
          onClick={() =>
            save(new Blob([made.config], { type: 'text/plain' }), fileName(made.peer.name))
          }
        >
          <Download /> Download the file
        </Button>
        <Button onClick={onClose}>The device has it</Button>
      </DialogFooter>
    </>
  )
}

/** Interfaces are named after their file, and Linux takes 15 letters (IFNAMSIZ). */
const LONGEST_INTERFACE = 15

const fileName = (name: string) => `${name.slice(0, LONGEST_INTERFACE)}.conf`
