/**
 * The live feed: one WebSocket to `/api/realtime` for the org that is open. An event says what has changed; the
 * queries that show it ask again. A server without the feed, or one that refuses it, is polled instead.
 */
import type { QueryClient } from '@tanstack/react-query'
import type { Schemas } from './client'
import { setPushed } from './live'
import { type Kind, keyOf, longer, machinesQuery, meQuery, refetch } from './queries'
import { accessToken } from './session'

const CHANNELS = [
  'machines',
  'presence',
  'members',
  'audit',
  'keys',
  'posture',
  'dns',
  'acl',
  'routes',
  'relays',
] as const
export type Channel = (typeof CHANNELS)[number]

type Message =
  | { type: 'subscribed'; body: { channels: Channel[]; refused: Channel[]; seq: number } }
  | { type: 'event'; body: { channel: Channel; seq: number; id: string | null } }
  | { type: 'audit'; body: Schemas['AuditEntry'] }
  | { type: 'presence'; body: { machine: string; online: boolean } }
  | { type: 'resync'; body: { channels: Channel[]; seq: number } }
  | { type: 'token_taken'; body: { until: string } }
  | { type: 'error'; body: Schemas['ErrorBody'] }

const KINDS: Record<Channel, readonly Kind[]> = {
  // One that comes in has used a key.
  machines: ['machines', 'posture', 'gateways', 'static-peers', 'auth-keys'],
  presence: ['machines', 'gateways', 'static-peers'],
  members: ['members', 'invitations', 'policy'],
  audit: ['audit'],
  keys: ['auth-keys', 'api-keys'],
  posture: ['posture', 'posture-policies', 'machines'],
  dns: ['dns'],
  acl: ['policy'],
  routes: ['routes', 'policy'],
  relays: ['relays', 'relay-health'],
}

/** What a message makes old. */
export function outdatedBy(message: Message): Kind[] {
  switch (message.type) {
    case 'event':
      return [...KINDS[message.body.channel]]
    case 'audit':
      // These have no channel of their own.
      if (/^(org|settings)/.test(message.body.action)) return ['audit', 'settings']
      return message.body.action.startsWith('sso') ? ['audit', 'sso'] : ['audit']
    case 'resync':
      return [...new Set(message.body.channels.flatMap((channel) => KINDS[channel]))]
    default:
      return []
  }
}

/** Close codes of the server after which there is no use in coming back soon. */
const NOT_ALLOWED = 4003
const TOO_MANY = 4029

const FIRST_WAIT = 1_000
const LONGEST_WAIT = 120_000

/** How long to wait before the next attempt, in milliseconds; `null`: none. `chance` is between 0 and 1. */
export function waitAfter(code: number, failures: number, chance: number): number | null {
  if (code === NOT_ALLOWED) return null
  if (code === TOO_MANY) return LONGEST_WAIT
  const wait = Math.min(FIRST_WAIT * 2 ** failures, LONGEST_WAIT)
  // Not all pages at once after a server comes back.
  return wait * (0.5 + chance / 2)
}

/** Pages that lose the feed together ask within this time, not all at once. */
const SPREAD = 3_000
/** Events come in bursts; queries ask once for all of them. */
const GATHER = 400
/** How often the access token is looked at. */
const TOKEN_CHECK = 20_000

/** Listens until the returned function is called. */
export function listen(queries: QueryClient, org: string): () => void {
  let ended = false
  let socket: WebSocket | null = null
  let failures = 0
  let since: number | undefined
  let again: ReturnType<typeof setTimeout> | undefined
  let gathering: ReturnType<typeof setTimeout> | undefined
  let fallback: ReturnType<typeof setTimeout> | undefined
  const old = new Set<Kind>()

  const gather = (kinds: readonly Kind[]) => {
    for (const kind of kinds) old.add(kind)
    // A long list is not all on the screen, unless a page asked for all of it.
    const known = queries.getQueryData(machinesQuery(org).queryKey)?.length
    gathering ??= setTimeout(
      () => {
        gathering = undefined
        const kinds = [...old]
        old.clear()
        void refetch(queries, org, ...kinds)
        if (kinds.includes('members'))
          void queries.invalidateQueries({ queryKey: meQuery.queryKey })
      },
      longer(GATHER, known),
    )
  }

  const present = (machine: string, online: boolean) => {
    type Machine = Schemas['Machine']
    const put = (one: Machine): Machine => ({
      ...one,
      online,
      state:
        one.state === 'online' || one.state === 'offline'
          ? online
            ? 'online'
            : 'offline'
          : one.state,
      last_seen: new Date().toISOString(),
    })
    queries.setQueryData(machinesQuery(org).queryKey, (list) =>
      list?.map((one) => (one.id === machine ? put(one) : one)),
    )
    queries.setQueriesData<{ machines: Machine[]; total: number }>(
      { queryKey: keyOf(org, 'machines', 'page') },
      (page) =>
        page && {
          ...page,
          machines: page.machines.map((one) => (one.id === machine ? put(one) : one)),
        },
    )
    queries.setQueryData<Machine>(keyOf(org, 'machines', machine), (one) => (one ? put(one) : one))
  }

  const hear = (message: Message) => {
    if (message.type === 'subscribed') {
      failures = 0
      setPushed(true)
      since = message.body.seq
    } else if (message.type === 'presence') {
      present(message.body.machine, message.body.online)
      gather(KINDS.presence.filter((kind) => kind !== 'machines'))
    } else {
      if ('body' in message && 'seq' in message.body) since = message.body.seq
      gather(outdatedBy(message))
    }
  }

  const connect = async () => {
    const token = await accessToken().catch(() => null)
    if (ended) return
    if (!token) {
      again = setTimeout(connect, LONGEST_WAIT)
      return
    }
    const url = new URL('/api/realtime', location.href)
    url.protocol = url.protocol.replace('http', 'ws')
    url.searchParams.set('org', org)
    const made = new WebSocket(url, ['ztna.realtime', `access_token.${token}`])
    socket = made
    let told = token
    const check = setInterval(() => {
      void accessToken()
        .then((fresh) => {
          if (!fresh || fresh === told || made.readyState !== WebSocket.OPEN) return
          told = fresh
          made.send(JSON.stringify({ type: 'token', token: fresh }))
        })
        .catch(() => undefined)
    }, TOKEN_CHECK)
    made.onopen = () => {
      made.send(JSON.stringify({ type: 'subscribe', channels: CHANNELS, since }))
      // What changed before somebody listened is read by the ordinary calls.
      if (since === undefined) void queries.invalidateQueries({ queryKey: ['org', org] })
    }
    made.onmessage = (event) => hear(JSON.parse(String(event.data)) as Message)
    made.onclose = (event) => {
      clearInterval(check)
      if (ended) return
      if (setPushed(false)) {
        // Queries that wait for minutes learn by asking once that they have to ask often.
        fallback = setTimeout(
          () => void queries.invalidateQueries({ queryKey: ['org', org] }),
          Math.random() * SPREAD,
        )
      }
      const wait = waitAfter(event.code, failures, Math.random())
      failures += 1
      if (wait !== null) again = setTimeout(connect, wait)
    }
  }

  void connect()
  return () => {
    ended = true
    clearTimeout(again)
    clearTimeout(gathering)
    clearTimeout(fallback)
    socket?.close()
    setPushed(false)
  }
}
