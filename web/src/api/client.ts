/** The typed client of the API, and the one place where its envelope is opened. */
import createClient from 'openapi-fetch'
import { ApiError } from './errors'
import type { components, paths } from './schema'
import { accessToken } from './session'

export type Schemas = components['schemas']

async function authorised(request: Request): Promise<Response> {
  const send = async (token: string | null) => {
    const copy = request.clone()
    if (token) copy.headers.set('authorization', `Bearer ${token}`)
    try {
      return await fetch(copy)
    } catch (error) {
      if (request.signal.aborted) throw error
      throw new ApiError('NETWORK', 'the control plane does not answer', 0)
    }
  }
  const answer = await send(await accessToken())
  // The token may have ended on the way, or the server may have new keys.
  return answer.status === 401 ? await send(await accessToken(true)) : answer
}

export const api = createClient<paths>({
  baseUrl: typeof location === 'undefined' ? 'http://localhost' : location.origin,
  fetch: authorised,
})

interface Answer {
  data?: unknown
  error?: unknown
  response: Response
}

interface Envelope {
  data?: unknown
}

type Opened<A> = A extends { data?: infer E }
  ? E extends { data?: infer D }
    ? NonNullable<D>
    : never
  : never

/** What the envelope of an answer holds. */
export async function open<A extends Answer>(call: Promise<A>): Promise<Opened<A>> {
  const { data, error, response } = await call
  const inner = (data as Envelope | undefined)?.data
  if (response.ok && inner != null) return inner as Opened<A>
  const body = (error as { error?: Schemas['ErrorBody'] } | undefined)?.error
  throw new ApiError(
    body?.code ?? 'INTERNAL_ERROR',
    body?.message ?? `the control plane answered ${response.status}`,
    response.status,
    response.headers.get('x-request-id'),
  )
}

/** Whether a role may do something; the server decides, this only hides what it would refuse. */
export type Right = 'belong' | 'read' | 'manage' | 'own'

export function may(role: Schemas['Role'], right: Right): boolean {
  switch (right) {
    case 'belong':
      return true
    case 'read':
      return role !== 'member'
    case 'manage':
      return role === 'owner' || role === 'admin'
    case 'own':
      return role === 'owner'
  }
}
