/**
 * The person's session. The access token lives in this module's memory and nowhere else; what survives a
 * reload is the refresh token's cookie, which scripts cannot read.
 *
 * A refresh token that is used twice ends the session, so only one tab refreshes at a time (Web Locks): the
 * next one sends the cookie that the first one was given.
 */
import { ApiError } from './errors'
import type { components } from './schema'

type Session = components['schemas']['Session']

/** Seconds before its end at which an access token is replaced. */
const AHEAD_SECONDS = 60
const LOCK = 'ztna-refresh'

interface Held {
  token: string
  /** When it is to be replaced, in milliseconds since the epoch. */
  until: number
}

let held: Held | null = null
let refreshing: Promise<string | null> | null = null
let listeners: Array<() => void> = []
const tabs = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel('ztna-session')

tabs?.addEventListener('message', (event) => {
  if (event.data === 'signed-out') drop()
})

function drop() {
  held = null
  for (const listener of listeners) listener()
}

/** Calls `listener` when the session ends, here or in another tab. */
export function onSignedOut(listener: () => void): () => void {
  listeners.push(listener)
  return () => {
    listeners = listeners.filter((other) => other !== listener)
  }
}

function keep(session: Session): string {
  held = {
    token: session.access_token,
    until: Date.now() + Math.max(session.expires_in - AHEAD_SECONDS, 5) * 1000,
  }
  return held.token
}

interface Envelope<T> {
  success: boolean
  data?: T | null
  error?: components['schemas']['ErrorBody'] | null
}

async function post<T>(path: string, body: unknown, token?: string): Promise<T> {
  let answer: Response
  try {
    answer = await fetch(path, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(token ? { authorization: `Bearer ${token}` } : {}),
      },
      body: JSON.stringify(body),
    })
  } catch {
    throw new ApiError('NETWORK', 'the control plane does not answer', 0)
  }
  const envelope = (await answer.json().catch(() => null)) as Envelope<T> | null
  if (envelope?.success && envelope.data != null) return envelope.data
  throw new ApiError(
    envelope?.error?.code ?? 'INTERNAL_ERROR',
    envelope?.error?.message ?? `the control plane answered ${answer.status}`,
    answer.status,
    answer.headers.get('x-request-id'),
  )
}

async function refresh(): Promise<string | null> {
  const ask = async () => {
    try {
      return keep(await post<Session>('/api/auth/refresh', {}))
    } catch (error) {
      if (error instanceof ApiError && (error.status === 401 || error.status === 403)) {
        drop()
        return null
      }
      throw error
    }
  }
  return navigator.locks ? await navigator.locks.request(LOCK, ask) : await ask()
}

/** An access token that still holds, or `null` for somebody who is not signed in. */
export async function accessToken(force = false): Promise<string | null> {
  if (!force && held && Date.now() < held.until) return held.token
  refreshing ??= refresh().finally(() => {
    refreshing = null
  })
  return await refreshing
}

/** Signs in. */
export async function signIn(email: string, password: string, code?: string): Promise<void> {
  keep(await post<Session>('/api/auth/login', { email, password, totp_code: code || undefined }))
}

/** Signs out here and in every other tab. */
export async function signOut(): Promise<void> {
  try {
    await post('/api/auth/logout', {})
  } finally {
    tabs?.postMessage('signed-out')
    drop()
  }
}
