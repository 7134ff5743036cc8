import { useQuery } from '@tanstack/react-query'
import { getRouteApi } from '@tanstack/react-router'
import { lazy, Suspense } from 'react'
import { policyQuery } from '@/api/queries'
import { Loading, Page, Ready } from '@/components/page'
import { Tabs, TabsContent, TabsList, TabsTrigger } from '@/components/ui/tabs'
import { useOrg } from '@/lib/org'
import { Ask } from './ask'
import { Rules } from './rules'
import { Versions } from './versions'

const route = getRouteApi('/signed-in/o/$org/policy')
const Workbench = lazy(() => import('./workbench'))

export default function Policy() {
  const org = useOrg()
  const search = route.useSearch()
  const navigate = route.useNavigate()
  const query = useQuery(policyQuery(org.id))
  return (
    <Page
      wide
      title="Policy"
      lead="Who may reach what. Nothing is allowed that no rule allows, an explicit deny beats every accept, and the order of rules means nothing."
    >
      <Tabs
        value={search.tab ?? 'document'}
        onValueChange={(tab) =>
          void navigate({ search: { tab: tab === 'document' ? undefined : tab } })
        }
      >
        <TabsList aria-label="Policy">
          <TabsTrigger value="document">Document</TabsTrigger>
          <TabsTrigger value="rules">Rules</TabsTrigger>
          <TabsTrigger value="ask">Can A reach B?</TabsTrigger>
          <TabsTrigger value="versions">Versions</TabsTrigger>
        </TabsList>
        <TabsContent value="document">
          <Ready query={query} rows={14}>
            {(policy) => (
              <Suspense fallback={<Loading rows={14} />}>
                <Workbench policy={policy} />
              </Suspense>
            )}
          </Ready>
        </TabsContent>
        <TabsContent value="rules">
          <Rules />
        </TabsContent>
        <TabsContent value="ask">
          <Ask />
        </TabsContent>
        <TabsContent value="versions">
          <Versions />
        </TabsContent>
      </Tabs>
    </Page>
  )
}
