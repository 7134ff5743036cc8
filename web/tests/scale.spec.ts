import { expect, test } from '@playwright/test'
import type { components } from '../src/api/schema'
import { seed, signIn } from './support/world'

type Machine = components['schemas']['Machine']

const MANY = 10_000

test('ten thousand machines: few are drawn, search and arrow keys reach all', async ({ page }) => {
  const { ada, org } = await seed('Scale Flow')
  await signIn(page, ada)
  // The server's own answer, with its machines repeated under other names: what is tested is the drawing.
  await page.route(`**/api/orgs/${org.id}/machines`, async (route) => {
    const answer = await route.fetch()
    const body = (await answer.json()) as { data: Machine[] }
    const own = body.data
    const data = Array.from({ length: MANY }, (_, n): Machine | undefined => {
      const machine = own[n % own.length]
      return (
        machine && {
          ...machine,
          id: `${machine.id}-${n}`,
          name: `${machine.name.slice(0, 20)}-${n}`,
        }
      )
    })
    await route.fulfill({ response: answer, json: { ...body, data } })
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

  await page.getByRole('searchbox').fill('db-primary-9992')
  await expect(page.getByText('1 of 10,000 machines')).toBeVisible()
  await page.getByRole('searchbox').fill('')
  await expect(page.getByText('10,000 machines')).toBeVisible()
  await table.evaluate((element) => element.scrollTo(0, 0))
  await table.getByRole('link').first().focus()
  for (let step = 0; step < 60; step++) {
    await page.keyboard.press('ArrowDown')
    await page.waitForTimeout(20)
  }
  await expect(page.locator('[data-index="60"] a')).toBeFocused()
})
