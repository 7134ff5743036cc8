import type { Schemas } from '@/api/client'

/** What an exit node offers. */
export const EXIT = ['0.0.0.0/0', '::/0']

/** All approved networks of a machine once some are switched on or off. */
export function toggleRoute(
  routes: readonly Schemas['OfferedRoute'][],
  prefixes: readonly string[],
  on: boolean,
): string[] {
  return routes
    .filter(({ prefix, approved }) => (prefixes.includes(prefix) ? on : approved))
    .map(({ prefix }) => prefix)
}
