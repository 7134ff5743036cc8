import { useMutation, useQueryClient } from '@tanstack/react-query'
import { api, open, type Schemas } from '@/api/client'
import { sentence } from '@/api/errors'
import { keyOf, refetch, routesQuery } from '@/api/queries'
import { Badge } from '@/components/ui/badge'
import { Switch } from '@/components/ui/switch'
import { useOrg } from '@/lib/org'
import { EXIT, toggleRoute } from '@/lib/routes'
import { toast } from '@/lib/toast'

type Offer = Schemas['MachineRoutes']

/** The networks that a machine offers, each with the switch that approves it. */
export function RouteSwitches({ offer }: { offer: Offer }) {
  const org = useOrg()
  const queries = useQueryClient()
  const key = routesQuery(org.id).queryKey
  const put = (next: Offer) =>
    queries.setQueryData(key, (all) =>
      all?.map((one) => (one.machine === next.machine ? next : one)),
    )
  const approve = useMutation({
    mutationFn: (approved: string[]) =>
      open(
        api.PUT('/api/orgs/{org}/machines/{machine}/routes', {
          params: { path: { org: org.id, machine: offer.machine } },
          body: { approved },
        }),
      ),
    onMutate: async (approved) => {
      await queries.cancelQueries({ queryKey: keyOf(org.id, 'routes') })
      put({
        ...offer,
        routes: offer.routes.map((one) => ({ ...one, approved: approved.includes(one.prefix) })),
      })
      return offer
    },
    onError: (error, _, before) => {
      if (before) put(before)
      toast.error(sentence(error))
    },
    onSuccess: put,
    onSettled: () => refetch(queries, org.id, 'routes', 'audit'),
  })
  const exits = offer.routes.filter(({ prefix }) => EXIT.includes(prefix))
  const nets = offer.routes.filter(({ prefix }) => !EXIT.includes(prefix))
  const rows = [
    ...nets.map((one) => ({
      label: one.prefix,
      prefixes: [one.prefix],
      approved: one.approved,
      primary: one.primary,
      mono: true,
    })),
    ...(exits.length > 0
      ? [
          {
            label: 'Exit node',
            prefixes: exits.map(({ prefix }) => prefix),
            approved: exits.every(({ approved }) => approved),
            primary: false,
            mono: false,
          },
        ]
      : []),
  ]
  return (
    <ul className="flex flex-col gap-1.5">
      {rows.map((row) => (
        <li key={row.label} className="flex items-center gap-3 text-sm">
          <Switch
            checked={row.approved}
            disabled={!org.may('manage') || approve.isPending}
            aria-label={`Approve ${row.label} of ${offer.name}`}
            onCheckedChange={(on) => approve.mutate(toggleRoute(offer.routes, row.prefixes, on))}
          />
          <span className={row.mono ? 'font-mono text-xs' : undefined}>{row.label}</span>
          {row.approved ? (
            row.primary ? (
              <Badge tone="good" title="Packets for this network go through this machine now">
                in charge
              </Badge>
            ) : null
          ) : (
            <Badge tone="warn">waiting</Badge>
          )}
        </li>
      ))}
    </ul>
  )
}
