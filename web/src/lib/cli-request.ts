/** What `ztna login` puts into the address that it opens, checked as the server checks it. */
export interface CliRequest {
  port: number
  state: string
  challenge: string
}

export function cliRequest(search: {
  port?: string
  state?: string
  challenge?: string
}): CliRequest | null {
  const { port = '', state = '', challenge = '' } = search
  const number = /^\d{1,5}$/.test(port) ? Number(port) : 0
  if (number < 1 || number > 65_535) return null
  if (!/^[A-Za-z0-9._~-]{1,128}$/.test(state)) return null
  // SHA-256 in base64url (RFC 7636 §4.2).
  if (!/^[A-Za-z0-9_-]{43}$/.test(challenge)) return null
  return { port: number, state, challenge }
}
