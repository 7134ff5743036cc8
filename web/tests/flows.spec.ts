import { spawnSync } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, type Page, test } from '@playwright/test'
import { expectAccessible, platform, seed, signIn } from './support/world'

/** RFC 6238, six digits, 30 seconds. */
function totp(secret: string, step: number): string {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'
  const bits = [...secret].map((c) => letters.indexOf(c).toString(2).padStart(5, '0')).join('')
  const bytes = bits.match(/.{8}/g)?.map((byte) => Number.parseInt(byte, 2)) ?? []
  const counter = Buffer.alloc(8)
  counter.writeBigUInt64BE(BigInt(step))
  const digest = createHmac('sha1', Buffer.from(bytes)).update(counter).digest()
  const at = (digest[19] ?? 0) & 15
  return String((digest.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, '0')
}

const row = (page: Page, name: string) =>
  page.getByRole('row').filter({ has: page.getByRole('link', { name, exact: true }) })

test('the client was generated from the API that is there', () => {
  const script = resolve(import.meta.dirname, '../scripts/openapi.mjs')
  const { stdout, stderr, status } = spawnSync(process.execPath, [script, 'check', platform().url])
  expect(status, `${stdout}${stderr}`).toBe(0)
})

test('from sign-up to the first machine', async ({ page }) => {
  const world = platform()
  const email = `new-${Date.now()}@flows.example`
  const password = 'correct horse battery'
  await page.goto('/signup')
  await page.getByLabel('E-mail address').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign up' }).click()
  await expect(page.getByRole('heading', { name: 'Look into your mail' })).toBeVisible()

  await page.goto(`/verify-email?token=${await world.mailToken(email)}`)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Confirm' }).click()
  await page.getByRole('link', { name: 'Sign in' }).click()
  await page.getByLabel('E-mail address').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in', exact: true }).click()

  await page.getByLabel('Name').fill('First Flow')
  await page.getByRole('button', { name: 'Make the organisation' }).click()
  await expect(page.getByRole('heading', { name: 'The first machine' })).toBeVisible()
  await expectAccessible(page, 'first run')
  await page.screenshot({ path: 'screenshots/first-run-light.png' })

  await page.getByRole('button', { name: 'Make an auth key' }).click()
  const line = page.getByText('sudo ztna up --server')
  await expect(line).toBeVisible()
  const key = /ztna-auth-[\w-]{43}/.exec((await line.textContent()) ?? '')?.[0]
  if (!key) throw new Error('the line holds no key')
  await page.screenshot({ path: 'screenshots/first-run-key-light.png' })

  // The page says it by itself: nothing is reloaded.
  const machine = await world.enrol(key, 'first')
  await world.heartbeat(machine.node_key)
  await expect(page.getByRole('link', { name: 'first', exact: true })).toBeVisible({
    timeout: 25_000,
  })
  // Nothing of the session is where scripts of others could find it.
  const kept = await page.evaluate(() => JSON.stringify([localStorage, sessionStorage]))
  expect(kept).not.toContain('eyJ')
})

test('a session lives through a reload, and ends in all tabs', async ({ page, context }) => {
  const { ada, org } = await seed('Session Flow')
  await signIn(page, ada)
  await page.reload()
  await expect(page.getByRole('heading', { name: 'Machines' })).toBeVisible()
  const other = await context.newPage()
  await other.goto(`/o/${org.slug}/people`)
  await expect(other.getByRole('heading', { name: 'People' })).toBeVisible()
  await page.getByRole('button', { name: /Account of/ }).click()
  await page.getByRole('menuitem', { name: 'Sign out' }).click()
  await expect(page.getByRole('heading', { name: 'Sign in' })).toBeVisible()
  await expect(other.getByRole('heading', { name: 'Sign in' })).toBeVisible()
})

test('a second factor is set up, and asked for', async ({ page }) => {
  const world = platform()
  const ada = await world.person(`mfa-${Date.now()}@flows.example`)
  const org = await world.org(ada, 'Factor Flow')
  await signIn(page, ada)
  await page.goto(`/o/${org.slug}/profile`)
  await page.getByRole('button', { name: 'Set it up' }).click()
  await page.getByLabel('Your password').fill(ada.password)
  await page.getByRole('button', { name: 'Continue' }).click()
  await expect(page.getByRole('img', { name: 'The secret as a QR code' })).toBeVisible()
  await page.screenshot({ path: 'screenshots/totp-light.png' })
  await expectAccessible(page, 'set-up of the second factor')
  const secret = (await page.locator('[role=dialog] code').textContent()) ?? ''
  const step = Math.floor(Date.now() / 30_000)
  await page.getByLabel('Code', { exact: true }).fill(totp(secret, step))
  await page.getByRole('button', { name: 'Switch it on' }).click()
  const codes = page.getByRole('list', { name: 'Backup codes' }).getByRole('listitem')
  await expect(codes).toHaveCount(10)
  const backup = (await codes.first().textContent()) ?? ''
  await page.getByRole('button', { name: 'I have kept them' }).click()
  await page.getByRole('button', { name: /Account of/ }).click()
  await page.getByRole('menuitem', { name: 'Sign out' }).click()
  await page.getByLabel('E-mail address').fill(ada.email)
  await page.getByLabel('Password').fill(ada.password)
  await page.getByRole('button', { name: 'Sign in', exact: true }).click()
  await page.getByLabel('Code', { exact: true }).fill(backup)
  await page.getByRole('button', { name: 'Sign in', exact: true }).click()
  await expect(page.getByRole('heading', { name: 'Profile' })).toBeVisible()
})

test('machines: search, approval, quarantine, bulk, deletion', async ({ page }) => {
  const { ada, org } = await seed('Machine Flow')
  await signIn(page, ada)
  await expect(row(page, 'newcomer').getByText('Pending')).toBeVisible()
  await row(page, 'newcomer').getByRole('button', { name: 'Approve' }).click()
  await expect(row(page, 'newcomer').getByText('Pending')).toBeHidden()

  await page.keyboard.press('/')
  await page.keyboard.type('tag:web')
  await expect(page.getByText('2 of 10 machines')).toBeVisible()
  await expect(page).toHaveURL(/q=tag%3Aweb/)
  await page.reload()
  await expect(page.getByText('2 of 10 machines')).toBeVisible()

  await page.getByLabel('Select all that are listed').click()
  await page.getByRole('button', { name: 'Quarantine' }).click()
  await page.getByLabel('Reason').fill('a drill')
  await page.getByRole('dialog').getByRole('button', { name: 'Quarantine' }).click()
  await expect(row(page, 'web-1').getByText('Quarantined')).toBeVisible()
  await expect(row(page, 'web-2').getByText('Quarantined')).toBeVisible()

  await row(page, 'web-1').getByRole('link').click()
  await expect(page.getByText('Reason: a drill')).toBeVisible()
  await page.getByRole('button', { name: 'Actions for web-1' }).click()
  await page.getByRole('menuitem', { name: 'Release' }).click()
  await expect(page.getByText('Reason: a drill')).toBeHidden()

  await page.getByRole('button', { name: 'Actions for web-1' }).click()
  await page.getByRole('menuitem', { name: 'Wipe' }).click()
  const wipe = page.getByRole('dialog').getByRole('button', { name: 'Wipe' })
  await expect(wipe).toBeDisabled()
  await page.getByLabel('Type web-1 to confirm').fill('web-1')
  await wipe.click()
  await expect(page.getByText('the machine has not answered yet')).toBeVisible()

  await page.goto(`/o/${org.slug}/machines?q=web-2`)
  await page.getByRole('button', { name: 'Actions for web-2' }).click()
  await page.getByRole('menuitem', { name: 'Delete' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click()
  await expect(page.getByText('No machine matches')).toBeVisible()
})

test('policy: faults in place, preview, save, roll back', async ({ page }) => {
  const { ada, org } = await seed('Policy Flow')
  await signIn(page, ada)
  await page.goto(`/o/${org.slug}/policy`)
  const editor = page.getByRole('textbox', { name: /Policy document/ })
  await editor.click()
  const write = async (text: string) => {
    await page.keyboard.press('Control+a')
    await page.keyboard.insertText(text)
  }
  await write('{ "acls": [ { "action": "perhaps", "src": ["*"], "dst": ["*:*"] } ] }')
  await expect(page.getByText(/1 fault/)).toBeVisible()
  await expect(page.getByRole('button', { name: 'Save', exact: true })).toBeDisabled()
  await page.screenshot({ path: 'screenshots/policy-fault-light.png' })
  await write('{ "acls": [], }')
  await expect(page.getByText('Would lose access')).toBeVisible()
  await page.screenshot({ path: 'screenshots/policy-preview-light.png' })
  await expectAccessible(page, 'policy with a preview')
  await page.keyboard.press('Control+s')
  await page.getByRole('button', { name: 'Save and cut off' }).click()
  await expect(page.getByText('Version 3 is in force')).toBeVisible()

  await page.getByRole('tab', { name: 'Can A reach B?' }).click()
  await page.getByLabel('May this machine').fill('laptop-ada')
  await page.getByLabel('reach this one').fill('db-primary')
  await page.getByRole('button', { name: 'Ask' }).click()
  await expect(page.getByText('laptop-ada may not reach db-primary')).toBeVisible()

  await page.getByRole('tab', { name: 'Versions' }).click()
  await page.getByRole('button', { name: /Version 2/ }).click()
  await page.getByRole('button', { name: 'Go back to it' }).click()
  await page.getByRole('button', { name: 'Go back', exact: true }).click()
  await expect(page.getByText('Version 4 is in force')).toBeVisible()
})

test('a route is approved', async ({ page }) => {
  const { ada, org } = await seed('Route Flow')
  await signIn(page, ada)
  await page.goto(`/o/${org.slug}/routes`)
  const net = page.getByRole('switch', { name: 'Approve 10.0.0.0/24 of office-gateway' })
  await net.click()
  await expect(net).toBeChecked()
  await page.reload()
  await expect(net).toBeChecked()
})

test('a phone joins: its configuration is shown once, and ends with new keys', async ({ page }) => {
  const { ada, org } = await seed('Phone Flow')
  await signIn(page, ada)
  await page.goto(`/o/${org.slug}/static-peers`)
  await page.getByRole('button', { name: 'Add a device' }).click()
  await page.getByLabel('Name').fill('printer')
  await page.getByRole('button', { name: 'Add it' }).click()
  const file = page.getByRole('region', { name: 'The configuration file' })
  await expect(file).toContainText('PrivateKey = ')
  await expect(file).toContainText('PresharedKey = ')
  await expect(file).toContainText('Endpoint = office.example.org:51820')
  // The policy of the page lets the picture through: it has a size only once it is drawn.
  const code = page.getByRole('img', { name: /QR code/ })
  await expect
    .poll(() => code.evaluate((image: HTMLImageElement) => image.naturalWidth))
    .not.toBe(0)
  await expectAccessible(page, 'configuration of a static peer')
  await page.screenshot({ path: 'screenshots/static-peer-light.png' })
  const saving = page.waitForEvent('download')
  await page.getByRole('button', { name: 'Download the file' }).click()
  const saved = await saving
  expect(saved.suggestedFilename()).toBe('printer.conf')
  expect(readFileSync(await saved.path(), 'utf8')).toBe(await file.textContent())
  const before = /PrivateKey = (\S+)/.exec((await file.textContent()) ?? '')?.[1]
  await page.getByRole('button', { name: 'The device has it' }).click()
  await expect(page.getByText('PrivateKey')).toBeHidden()

  const printer = row(page, 'printer')
  await printer.getByRole('button', { name: 'Actions for printer' }).click()
  await page.getByRole('menuitem', { name: /New keys/ }).click()
  await page.getByRole('button', { name: 'Make new keys' }).click()
  await expect(file).toContainText('PrivateKey = ')
  expect(/PrivateKey = (\S+)/.exec((await file.textContent()) ?? '')?.[1]).not.toBe(before)
  await page.getByRole('button', { name: 'The device has it' }).click()

  await printer.getByRole('button', { name: 'Actions for printer' }).click()
  await page.getByRole('menuitem', { name: 'Delete' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click()
  await expect(printer).toBeHidden()

  await page.getByRole('button', { name: 'Make a machine a gateway' }).click()
  await page.getByLabel('Machine', { exact: true }).selectOption({ label: 'db-primary' })
  await page.getByLabel('Devices reach it at').fill('db.example.org:51821')
  await page.getByRole('button', { name: 'Save' }).click()
  await expect(row(page, 'db-primary').getByText('db.example.org:51821')).toBeVisible()
})

test('an auth key has a bound', async ({ page }) => {
  const { ada, org } = await seed('Key Flow')
  await signIn(page, ada)
  await page.goto(`/o/${org.slug}/auth-keys`)
  await page.getByRole('button', { name: 'Make an auth key' }).click()
  await page.getByLabel('Description').fill('Two runners')
  await page.getByRole('switch', { name: 'Reusable' }).click()
  await page.getByLabel('Machines at most').fill('2')
  await page.getByRole('button', { name: 'Make the key' }).click()
  const key = (await page.getByRole('dialog').locator('code').textContent()) ?? ''
  await page.getByRole('button', { name: 'Done' }).click()
  const made = page.getByRole('row').filter({ hasText: 'Two runners' })
  await expect(made.getByText('0 of 2')).toBeVisible()
  const world = platform()
  await world.enrol(key, 'runner-1')
  await world.enrol(key, 'runner-2')
  await expect(made.getByText('2 of 2')).toBeVisible({ timeout: 25_000 })
  await expect(made.getByText('used up')).toBeVisible()
  await expect(world.enrol(key, 'runner-3')).rejects.toThrow()
})

test('a member sees no admin action, and forged calls are refused', async ({ page }) => {
  const { ada, org } = await seed('Member Flow')
  const world = platform()
  const email = `mia-${Date.now()}@flows.example`
  await world.call('POST', `/api/orgs/${org.id}/invitations`, ada.token, { email, role: 'member' })
  const invitation = await world.mailToken(email, 'invite')
  const mia = await platform().person(email)
  await page.goto(`/accept-invitation?token=${invitation}`)
  await page.getByRole('link', { name: 'I have an account' }).click()
  await page.getByLabel('E-mail address').fill(email)
  await page.getByLabel('Password').fill(mia.password)
  await page.getByRole('button', { name: 'Sign in', exact: true }).click()
  await page.getByRole('button', { name: 'Accept the invitation' }).click()
  await expect(page.getByRole('heading', { name: 'Your first machine' })).toBeVisible()
  const navigation = page.getByRole('navigation', { name: 'Pages' })
  await expect(navigation.getByRole('link', { name: 'Machines' })).toBeVisible()
  for (const hidden of ['Policy', 'Map', 'Auth keys', 'API keys', 'Routes', 'Audit log']) {
    await expect(navigation.getByRole('link', { name: hidden })).toBeHidden()
  }
  await page.goto(`/o/${org.slug}/people`)
  await expect(page.getByText(ada.email)).toBeVisible()
  await expect(page.getByRole('button', { name: 'Invite' })).toBeHidden()
  await expect(page.getByRole('button', { name: `Actions for ${ada.email}` })).toBeHidden()
  await page.goto(`/o/${org.slug}/policy`)
  await expect(page.getByText(/does not allow this/)).toBeVisible()
  const forged = platform().call('POST', `/api/orgs/${org.id}/auth-keys`, mia.token, {})
  await expect(forged).rejects.toThrow('FORBIDDEN')
})

test('everything by keyboard', async ({ page }) => {
  const { ada, org } = await seed('Keyboard Flow')
  await signIn(page, ada)
  await expect(row(page, 'web-1')).toBeVisible()
  await page.keyboard.press('Control+k')
  await expect(page.getByRole('combobox', { name: 'Search and commands' })).toBeFocused()
  await page.keyboard.type('db-prim')
  await expect(page.getByRole('option', { name: /db-primary/ })).toBeVisible()
  await page.screenshot({ path: 'screenshots/palette-light.png' })
  await expectAccessible(page, 'command palette')
  await page.keyboard.press('Enter')
  await expect(page.getByRole('heading', { name: 'db-primary' })).toBeVisible()
  await page.keyboard.press('Control+k')
  await expect(page.getByRole('combobox', { name: 'Search and commands' })).toBeFocused()
  await page.keyboard.type('audit')
  await page.keyboard.press('Enter')
  await expect(page).toHaveURL(new RegExp(`/o/${org.slug}/audit`))
  await page.keyboard.press('Control+k')
  await expect(page.getByRole('combobox', { name: 'Search and commands' })).toBeFocused()
  await page.keyboard.type('dark')
  await page.keyboard.press('Enter')
  await expect(page.locator('html')).toHaveClass(/dark/)
})

test('the audit log is filtered and verified', async ({ page }) => {
  const { ada, org } = await seed('Audit Flow')
  await signIn(page, ada)
  await page.goto(`/o/${org.slug}/audit`)
  await page.getByLabel('Action').fill('auth_key.create')
  await page.getByRole('button', { name: 'Filter' }).click()
  await expect(page).toHaveURL(/action=auth_key.create/)
  await page.getByRole('button', { name: 'Verify the chain' }).click()
  await expect(page.getByText(/rows checked, all as they were written/)).toBeVisible()
})

test('the command line signs in here', async ({ page }) => {
  const world = platform()
  const ada = await world.person(`cli-${Date.now()}@flows.example`)
  await world.org(ada, 'Cli Flow')
  const challenge = 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
  await page.goto(`/cli-login?port=18599&state=1e5&challenge=${challenge}`)
  await page.getByLabel('E-mail address').fill(ada.email)
  await page.getByLabel('Password').fill(ada.password)
  await page.getByRole('button', { name: 'Sign in', exact: true }).click()
  // Nobody listens there; that the browser goes there with the state unchanged is what counts.
  const back = page.waitForRequest((request) => request.url().startsWith('http://127.0.0.1:18599/'))
  await page.getByRole('button', { name: 'Connect' }).click()
  const url = new URL((await back).url())
  expect(url.pathname).toBe('/callback')
  expect(url.searchParams.get('state')).toBe('1e5')
  const session = await world.call<{ access_token: string }>('POST', '/api/auth', null, {
    action: 'cli_exchange',
    code: url.searchParams.get('code'),
    // RFC 7636, appendix B.
    verifier: 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk',
  })
  expect(session.access_token).not.toBe('')
})
