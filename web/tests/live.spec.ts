import { expect, type Page, test, type WebSocketRoute } from '@playwright/test'
import { platform, seed, signIn } from './support/world'

// While the server pushes, pages ask every two minutes: what shows within this time was pushed, and what shows after
// the feed is cut was asked for.
const SOON = 30_000

const feed = (page: Page, text: string) =>
  expect(page.getByRole('banner').getByRole('status')).toContainText(text, { timeout: SOON })

const row = (page: Page, name: string) =>
  page.getByRole('row').filter({ has: page.getByRole('link', { name, exact: true }) })

test('what one browser changes shows in another, pushed, and polled once the feed is cut', async ({
  page,
  browser,
}) => {
  const { ada, org, machines } = await seed('Live Flow')
  const other = await (await browser.newContext()).newPage()
  let cut = false
  const sockets = new Set<WebSocketRoute>()
  await other.routeWebSocket(/\/api\/realtime/, (socket) => {
    if (cut) {
      void socket.close({ code: 1012 })
      return
    }
    socket.connectToServer()
    sockets.add(socket)
  })
  await signIn(page, ada)
  await signIn(other, ada)
  await feed(page, 'Live')
  await feed(other, 'Live')

  const quarantine = async (name: string) => {
    await page.getByRole('button', { name: `Actions for ${name}` }).click()
    await page.getByRole('menuitem', { name: 'Quarantine' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Quarantine' }).click()
    await expect(row(page, name).getByText('Quarantined')).toBeVisible()
  }
  await quarantine('web-1')
  await expect(row(other, 'web-1').getByText('Quarantined')).toBeVisible({ timeout: SOON })
  // A machine comes by: presence is pushed as such.
  const laptop = machines.get('office-gateway')
  await platform().heartbeat(laptop?.node_key ?? '')
  await expect(row(page, 'newcomer')).toBeVisible()

  cut = true
  for (const socket of sockets) await socket.close({ code: 1012 })
  await feed(other, 'Polling')
  await feed(page, 'Live')
  await quarantine('web-2')
  await expect(row(other, 'web-2').getByText('Quarantined')).toBeVisible({ timeout: SOON })
  await feed(other, 'Polling')

  cut = false
  await feed(other, 'Live')
  await page.goto(`/o/${org.slug}/people`)
  await other.goto(`/o/${org.slug}/people`)
  await page.getByRole('button', { name: 'Invite' }).click()
  await page.getByLabel('E-mail address').fill('new@live.example')
  await page
    .getByRole('button', { name: /^(Invite|Send)/ })
    .last()
    .click()
  await expect(other.getByRole('cell', { name: 'new@live.example', exact: true })).toBeVisible({
    timeout: SOON,
  })

  // Without a server nothing is made up: the page says that what it shows may be old.
  await other.route('**/api/**', (route) => route.abort())
  cut = true
  for (const socket of sockets) await socket.close({ code: 1012 }).catch(() => undefined)
  await other.getByRole('link', { name: 'Machines' }).first().click()
  await feed(other, 'Offline')
})
