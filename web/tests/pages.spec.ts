import { mkdirSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, type Locator, type Page, test } from '@playwright/test'
import { expectAccessible, seed, signIn } from './support/world'

// Every page, light and dark, wide and on a small phone: axe finds nothing, nothing is wider than the screen,
// no error is logged. The pictures are for people to look at.

const pictures = resolve(import.meta.dirname, '../screenshots')

test.beforeAll(() => mkdirSync(pictures, { recursive: true }))

async function look(page: Page, name: string, path: string, ready: Locator, click?: string) {
  await page.setViewportSize(WIDE)
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' })
  await page.goto(path)
  if (click) await page.getByRole('button', { name: click, exact: true }).first().click()
  await seen(page, `${name}-light`, ready)
  // The same page goes dark, and narrow, as a person's does.
  await page.emulateMedia({ colorScheme: 'dark', reducedMotion: 'reduce' })
  await seen(page, `${name}-dark`, ready, ['color-contrast'])
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' })
  await page.setViewportSize(PHONE)
  await seen(page, `${name}-phone`, ready)
}

const WIDE = { width: 1360, height: 850 }
const PHONE = { width: 360, height: 740 }

async function seen(page: Page, where: string, ready: Locator, rules?: string[]) {
  await expect(ready).toBeVisible()
  await settled(page)
  await page.screenshot({ path: `${pictures}/${where}.png` })
  const overflow = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  )
  expect.soft(overflow, `${where} is wider than the screen`).toBe(0)
  for (const dialog of await page.getByRole('dialog').all()) {
    const hidden = await dialog.evaluate((one) => one.scrollWidth - one.clientWidth)
    expect.soft(hidden, `${where} has a dialog that is wider than it shows`).toBe(0)
  }
  await expectAccessible(page, where, rules)
}

/** Waits until nothing loads and nothing moves. */
async function settled(page: Page) {
  await expect(page.getByRole('status').filter({ hasText: 'Loading' })).toHaveCount(0)
  await page.evaluate(async () => {
    await document.fonts.ready
    const ending = document
      .getAnimations()
      .filter((one) => one.effect?.getComputedTiming().iterations !== Number.POSITIVE_INFINITY)
    await Promise.all(ending.map((one) => one.finished.catch(() => undefined)))
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))
  })
}

function watch(page: Page): string[] {
  const errors: string[] = []
  page.on('pageerror', (error) => errors.push(String(error)))
  page.on('console', (message) => {
    // A call that is refused on purpose is an error of the browser's log too, and so is a feed that is not there.
    const expected = /status of 40[0134]|^WebSocket connection to/.test(message.text())
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
  ['people', 'people', 'group:dev'],
  ['auth-keys', 'auth-keys', 'Web servers'],
  ['api-keys', 'api-keys', 'Terraform'],
  ['routes', 'routes', 'Exit node'],
  ['static-peers', 'static-peers', 'phone-of-ada'],
  ['dns', 'dns', 'Split DNS'],
  ['relays', 'relays', 'This server'],
  ['posture', 'posture', 'Healthy servers'],
  ['audit', 'audit', 'machine.create'],
  ['settings', 'settings', 'New machines wait for approval'],
  ['sso', 'sso', 'Provider'],
  ['profile', 'profile', 'this one'],
]

// What a page's button opens.
const dialogs: Array<[string, string, string, string]> = [
  ['add-machine', 'machines', 'Add a machine', '--server-pin'],
  ['invite', 'people', 'Invite', 'Role'],
  ['auth-key', 'auth-keys', 'Make an auth key', 'Tags'],
  ['api-key', 'api-keys', 'Make an API key', 'Description'],
  ['own-region', 'relays', 'Add an own region', 'Name'],
  ['posture-policy', 'posture', 'Add a policy', 'Name'],
]

test.describe('page of an org:', () => {
  let made: Awaited<ReturnType<typeof seed>>
  let page: Page
  let errors: string[]

  test.beforeAll(async ({ browser }) => {
    made = await seed('Northwind Laboratories')
    page = await browser.newPage()
    errors = watch(page)
    await signIn(page, made.ada)
  })
  test.afterAll(() => page.close())
  test.beforeEach(() => errors.splice(0))

  const lookAt = async (name: string, path: string, ready: Locator, click?: string) => {
    await look(page, name, `/o/${made.org.slug}/${path}`, ready, click)
    expect(errors).toEqual([])
  }
  const machine = (name: string) => `machines/${made.machines.get(name)?.machine_id}`

  test('machine', async () => {
    await lookAt('machine', machine('web-1'), page.getByText('post-quantum, epoch 41'))
  })
  test('map of a machine', async () => {
    const path = machine('web-1').replace('machines/', 'map?at=')
    await lookAt('map-chosen', path, page.getByText('tunnel by relay'))
  })
  for (const [name, path, text] of pages) {
    test(name, async () => {
      const map = page.getByRole('group', { name: /Map of/ })
      await lookAt(name, path, name === 'map' ? map : page.locator('main').getByText(text).first())
    })
  }
  for (const [name, path, button, text] of dialogs) {
    test(`dialog ${name}`, async () => {
      const dialog = page.getByRole('dialog')
      await lookAt(`dialog-${name}`, path, dialog.getByText(text).first(), button)
    })
  }
  test('gateway', async () => {
    await lookAt('gateway', machine('office-gateway'), page.getByText('192.168.7.0/24'))
  })
})
