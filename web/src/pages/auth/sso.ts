/**
 * Sign-in by an org's provider. The server's way there was made for the command line: it takes a port, a
 * state and a challenge, and leads back to `/cli-login` with them. This page sends a state that it
 * remembers, and `/cli-login` knows by it that no command line waits: the session's cookie is all there is.
 */
import { ownPath } from '@/lib/search'

const KEY = 'ztna-sign-in'
const PREFIX = 'dashboard.'

function random(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(32))
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '')
}

/** The address that begins it. `org`: its label, or an e-mail address of one of its domains. */
export function begin(org: string, next: string | undefined): string {
  const state = PREFIX + random()
  sessionStorage.setItem(KEY, JSON.stringify({ state, next }))
  const query = new URLSearchParams({ org, port: '1', state, challenge: random() })
  return `/sign-in/sso?${query}`
}

/** Where to go after it, if `state` is that of a sign-in that this tab began. */
export function finish(state: string | undefined): string | null {
  const kept = sessionStorage.getItem(KEY)
  if (!state?.startsWith(PREFIX) || !kept) return null
  const begun = JSON.parse(kept) as { state: string; next?: string }
  if (begun.state !== state) return null
  return ownPath(begun.next)
}
