import { Badge } from '@/components/ui/badge'
import { ago, exact } from '@/lib/format'

/** Whether a key can be used. */
export function KeyState({
  expires,
  revoked,
  used = false,
}: {
  expires: string
  revoked?: string | null
  used?: boolean
}) {
  if (revoked) return <Badge title={exact(revoked)}>revoked {ago(revoked)}</Badge>
  if (used) return <Badge>used up</Badge>
  if (Date.parse(expires) <= Date.now())
    return <Badge title={exact(expires)}>ended {ago(expires)}</Badge>
  return (
    <Badge tone="good" title={exact(expires)}>
      ends {ago(expires)}
    </Badge>
  )
}
