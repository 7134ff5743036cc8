/** Who may open something towards whom. */
import type { Schemas } from '@/api/client'

export type Pair = Schemas['Pair']

export function neighbours(
  pairs: readonly Pair[],
  machine: string,
): { out: string[]; into: string[] } {
  return {
    out: pairs.filter(({ src }) => src === machine).map(({ dst }) => dst),
    into: pairs.filter(({ dst }) => dst === machine).map(({ src }) => src),
  }
}
