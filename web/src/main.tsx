import './styles.css'
import {
  MutationCache,
  onlineManager,
  QueryCache,
  QueryClient,
  QueryClientProvider,
} from '@tanstack/react-query'
import { RouterProvider } from '@tanstack/react-router'
import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { ApiError, isPassing } from '@/api/errors'
import { setReached } from '@/api/live'
import { meQuery } from '@/api/queries'
import { onSignedOut } from '@/api/session'
import { Toasts } from '@/components/toasts'
import { watchTheme } from '@/lib/theme'
import { makeRouter } from './router'

const RETRIES = 2

function reached(error: unknown) {
  if (error instanceof ApiError && error.code === 'NETWORK') setReached(false)
}

const queries = new QueryClient({
  queryCache: new QueryCache({ onError: reached, onSuccess: () => setReached(true) }),
  mutationCache: new MutationCache({ onError: reached }),
  defaultOptions: {
    queries: {
      retry: (failures, error) => isPassing(error) && failures < RETRIES,
      staleTime: 5_000,
    },
  },
})

const router = makeRouter(queries)

onSignedOut(() => {
  if (queries.getQueryData(meQuery.queryKey) === undefined) return
  void router
    .navigate({ to: '/login', search: { next: router.state.location.href } })
    .finally(() => queries.clear())
})

watchTheme()

// A browser without a network asks nothing, so nothing fails that would tell.
onlineManager.subscribe(setReached)

// A page of an older build looks for parts that are gone: the new build has others. Once, lest it goes in circles.
const RELOADED = 'ztna-reloaded'
addEventListener('vite:preloadError', (event) => {
  if (Date.now() - Number(sessionStorage.getItem(RELOADED)) < 60_000) return
  sessionStorage.setItem(RELOADED, String(Date.now()))
  event.preventDefault()
  location.reload()
})

function App() {
  return (
    <QueryClientProvider client={queries}>
      <RouterProvider router={router} />
      <Toasts />
    </QueryClientProvider>
  )
}

const root = document.getElementById('root')
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  )
}
