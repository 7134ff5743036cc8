import { mkdirSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, type Locator, type Page, test } from '@playwright/test'
import { expectAccessible, seed, signIn } from './support/world'

// Every page, light and dark, wide and on a small phone: axe finds nothing, nothing is wider than the screen,
// no error is logged. The pictures are for people to look at.

const pictures = resolve(import.meta.dirname, '../screenshots')

let made: Awaited<ReturnType<typeof seed>>

test.beforeAll(async () => {
  mkdirSync(pictures, { recursive: true })
  made = await seed('Northwind Laboratories')
})

async function look(page: Page, name: string, path: string, ready: Locator) {
  for (const [theme, width, height] of [
    ['light', 1360, 850],
    ['dark', 1360, 850],
    ['light', 360, 740],
  ] as const) {
    await page.setViewportSize({ width, height })
    await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' })
    await page.goto(path)
    await expect(ready).toBeVisible()
    await page.waitForTimeout(250)
    const where = `${name}-${width < 600 ? 'phone' : theme}`
    await page.screenshot({ path: `${pictures}/${where}.png` })
    const overflow = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    )
    expect.soft(overflow, `${where} is wider than the screen`).toBe(0)
    await expectAccessible(page, where)
  }
}

function watch(page: Page): string[] {
  const errors: string[] = []
  page.on('pageerror', (error) => errors.push(String(error)))
  page.on('console', (message) => {
    // A call that is refused on purpose is an error of the browser's log too, and so is a feed that is not there.
    const expected = /status of 40[134]|^WebSocket connection to/.test(message.text())
    if (message.type() === 'error' && !expected) {
      errors.push(message.text())
    }
  })
  return errors
}

const anonymous: Array<[string, string, string]> = [
  ['login', '/login', 'Sign in'],
  ['signup', '/signup', 'Sign up'],
  ['reset', '/reset-password', 'Forgotten password'],
  ['verify', '/verify-email?token=x', 'Confirm your address'],
  ['invited', '/accept-invitation?token=x', 'You are invited'],
  ['nowhere', '/nowhere', ''],
]

for (const [name, path, title] of anonymous) {
  test(`page ${name}`, async ({ page }) => {
    const errors = watch(page)
    const ready = title
      ? page.getByRole('heading', { name: title })
      : page.getByText('There is no such page')
    await look(page, name, path, ready)
    expect(errors).toEqual([])
  })
}

const pages: Array<[string, string, string]> = [
  ['machines', 'machines', 'newcomer'],
  ['map', 'map', 'Legend'],
  ['policy', 'policy', 'tagOwners'],
  ['rules', 'policy?tab=rules', 'Who to whom'],
  [
    'ask',
    'policy?tab=ask&src=web-1&dst=db-primary&protocol=tcp&port=22',
    'web-1 may not reach db-primary',
  ],
  ['versions', 'policy?tab=versions', 'in force'],
  ['people', 'people', 'grace@'],
  ['auth-keys', 'auth-keys', 'Web servers'],
  ['api-keys', 'api-keys', 'Terraform'],
  ['routes', 'routes', 'Exit node'],
  ['dns', 'dns', 'Split DNS'],
  ['relays', 'relays', 'This server'],
  ['posture', 'posture', 'Healthy servers'],
  ['audit', 'audit', 'machine.create'],
  ['settings', 'settings', 'New machines wait for approval'],
  ['sso', 'sso', 'Provider'],
  ['profile', 'profile', 'this one'],
]

test('pages of an org', async ({ page }) => {
  test.setTimeout(300_000)
  const errors = watch(page)
  await signIn(page, made.ada)
  for (const [name, path, text] of pages) {
    const ready =
      name === 'map'
        ? page.getByRole('group', { name: /Map of/ })
        : page.locator('main').getByText(text).first()
    await look(page, name, `/o/${made.org.slug}/${path}`, ready)
  }
  const gateway = made.machines.get('office-gateway')
  const path = `/o/${made.org.slug}/machines/${gateway?.machine_id}`
  await look(page, 'machine', path, page.getByText('192.168.7.0/24'))
  expect(errors).toEqual([])
})
