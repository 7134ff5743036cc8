import type { components } from './schema'

export type ErrorCode = components['schemas']['ErrorCode']

/** A call that was refused, or that could not be made. */
export class ApiError extends Error {
  constructor(
    readonly code: ErrorCode | 'NETWORK',
    message: string,
    readonly status: number,
    /** `X-Request-Id`, by which the server's log knows the call. */
    readonly requestId: string | null = null,
  ) {
    super(message)
    this.name = 'ApiError'
  }
}

/** What a person is told: what happened, as a sentence. */
export function sentence(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  const sentence = text.charAt(0).toUpperCase() + text.slice(1)
  return /[.!?]$/.test(sentence) ? sentence : `${sentence}.`
}

/** What a person can do about it, beyond what the message says itself. */
export function nextStep(error: unknown): string | null {
  if (!(error instanceof ApiError)) return null
  switch (error.code) {
    case 'NETWORK':
      return 'Check the connection; this page tries again by itself.'
    case 'INTERNAL_ERROR':
      return error.requestId
        ? `Give the request id ${error.requestId} to whoever runs this server.`
        : null
    default:
      return null
  }
}

/** Whether the same call may succeed by itself a little later. */
export function isPassing(error: unknown): boolean {
  return (
    error instanceof ApiError &&
    (error.code === 'NETWORK' || error.code === 'UNAVAILABLE' || error.status >= 502)
  )
}
