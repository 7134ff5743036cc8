/** The lines that bring a machine in. */
import type { Schemas } from '@/api/client'

type Join = Schemas['JoinInfo']

/** Signs a person in by browser, and joins the machine as theirs. */
export function loginLine({ server, pin }: Join): string {
  return `ztna login --server ${server}${pin ? ` --server-pin ${pin}` : ''} && sudo ztna up`
}

/** Joins a machine by a key. */
export function joinLine(join: Join, system: string, key: string): string | null {
  const line = join.lines.find(({ os }) => os === system)?.line
  return line ? `${line} --auth-key ${key}` : null
}
