import { expect, test } from '@playwright/test'
import type { components } from '../src/api/schema'
import { platform, seed, signIn } from './support/world'

type Machine = components['schemas']['Machine']

const MANY = 10_000

test('ten thousand machines: few are loaded and drawn, search and arrow keys reach all', async ({
  page,
}) => {
  const { ada, org } = await seed('Scale Flow')
  await signIn(page, ada)
  // The server's own machines, repeated under other names, in pages as the server makes them: what is tested is the page.
  const own = await platform().call<Machine[]>('GET', `/api/orgs/${org.id}/machines`, ada.token)
  const all = Array.from({ length: MANY }, (_, n): Machine | undefined => {
    const machine = own[n % own.length]
    return machine && { ...machine, id: `${machine.id}-${n}`, name: `m-${`${n}`.padStart(5, '0')}` }
  })
  const asked: string[] = []
  await page.route(`**/api/orgs/${org.id}/machine-facets`, async (route) => {
    const answer = await route.fetch()
    const body = (await answer.json()) as { data: { count: number } }
    await route.fulfill({
      response: answer,
      json: { ...body, data: { ...body.data, count: MANY } },
    })
  })
  await page.route(`**/api/orgs/${org.id}/machines?*`, async (route) => {
    const { searchParams } = new URL(route.request().url())
    asked.push(searchParams.toString())
    const words = searchParams.get('search') ?? ''
    const found = all.filter((machine) => machine?.name.includes(words))
    const offset = Number(searchParams.get('offset') ?? 0)
    const limit = Number(searchParams.get('limit') ?? MANY)
    await route.fulfill({
      headers: { 'x-total-count': String(found.length) },
      json: { success: true, data: found.slice(offset, offset + limit), error: null },
    })
  })
  await page.goto(`/o/${org.slug}/machines`)
  // The repeating takes its time, not the page.
  await expect(page.getByText('10,000 machines')).toBeVisible({ timeout: 30_000 })
  const table = page.getByRole('table', { name: 'Machines' })
  await expect(table).toHaveAttribute('aria-rowcount', String(MANY + 1))

  // A minute of somebody's life: from the top to the bottom, a screen at a time.
  const frames = await table.evaluate(async (element) => {
    const times: number[] = []
    let last = performance.now()
    for (let at = 0; at < 120; at++) {
      element.scrollTop += element.clientHeight
      await new Promise((done) => requestAnimationFrame(done))
      const now = performance.now()
      times.push(now - last)
      last = now
    }
    return times.sort((a, b) => a - b)
  })
  const at = (share: number) => frames[Math.floor(frames.length * share)]?.toFixed(1)
  console.log(`  scrolling 10,000 rows: median ${at(0.5)} ms a frame, 95 % within ${at(0.95)} ms`)
  expect(await page.getByRole('row').count()).toBeLessThan(80)

  expect(asked.length, 'pages that nobody stopped at are not all asked for').toBeLessThan(60)
  expect(asked.every((query) => query.includes('limit=200'))).toBe(true)

  await page.getByRole('searchbox').fill('m-09992')
  await expect(page.getByText('1 of 10,000 machines')).toBeVisible()
  await expect(page.getByRole('link', { name: 'm-09992' })).toBeVisible()
  await page.getByRole('searchbox').fill('')
  await expect(page.getByText('10,000 machines', { exact: true })).toBeVisible()
  await table.evaluate((element) => element.scrollTo(0, 0))
  await table.getByRole('link', { name: 'm-00000' }).focus()
  for (let step = 0; step < 60; step++) {
    await page.keyboard.press('ArrowDown')
    await page.waitForTimeout(20)
  }
  await expect(page.locator('[data-index="60"] a')).toBeFocused()
  // A bulk action reaches what was never on the screen.
  await page.getByLabel('Select all that are listed').click()
  await expect(page.getByText('10000 selected')).toBeVisible()
})
