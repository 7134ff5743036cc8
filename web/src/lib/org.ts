import { useSuspenseQuery } from '@tanstack/react-query'
import { useParams } from '@tanstack/react-router'
import { may, type Right, type Schemas } from '@/api/client'
import { meQuery } from '@/api/queries'

export type Membership = Schemas['OrgMembership']

/** The org that was open last, by its label. */
const KEY = 'ztna-org'

export const lastOrg = () => localStorage.getItem(KEY)
export const rememberOrg = (slug: string) => localStorage.setItem(KEY, slug)

/** The org of the page, and what the person may do in it. */
export function useOrg(): Membership & { may: (right: Right) => boolean; me: Schemas['Me'] } {
  const { org } = useParams({ from: '/signed-in/o/$org' })
  const { data: me } = useSuspenseQuery(meQuery)
  const membership = me.orgs.find((other) => other.slug === org)
  if (!membership) throw new Error(`you are not a member of ${org}`)
  return { ...membership, me, may: (right) => may(membership.role, right) }
}
