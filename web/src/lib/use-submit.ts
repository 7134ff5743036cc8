import { type FormEvent, useState } from 'react'

/** A form's sending: whether it is under way, and why it failed. */
export function useSubmit(send: () => Promise<unknown>) {
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState<unknown>(null)
  const submit = (event?: FormEvent) => {
    event?.preventDefault()
    setBusy(true)
    setError(null)
    send()
      .catch(setError)
      .finally(() => setBusy(false))
  }
  return { busy, error, setError, submit }
}
