/** The lines that bring a machine in. */
import type { Schemas } from '@/api/client'

/** Where the server's line has the key. */
const KEY_PLACE = 'YOUR_KEY'

/** Joins a machine by a key. */
export function withKey(line: Schemas['JoinLine'], key: string): string {
  return line.auth_key.replace(KEY_PLACE, () => key)
}
