import { createInterface } from 'node:readline'
import { expect, type Page, test } from '@playwright/test'
import { type Host, Mesh } from './support/mesh'
import { Platform } from './support/platform'
import { signIn } from './support/world'

// From the sign-up to the first ping with the real agent, and what an administrator does to a network that runs.

const PASSWORD = 'correct horse battery'
const EMAIL = 'ada@agents.example'
/** A port that the policy leaves open on `beta`, or not. */
const ECHO_PORT = 7_070
/** Longest wait for what a change does on the machines, in milliseconds. */
const CHANGE = 60_000

/** Says \`listens\`, and sends back what it gets. */
const ECHO = `
  require('node:net')
    .createServer((socket) => socket.on('error', () => {}).pipe(socket))
    .listen(${ECHO_PORT}, () => console.log('listens'))`
/** Says \`answered\` for every answer over one connection that stays. */
const ASK = (address: string) => `
  const socket = require('node:net').connect(${ECHO_PORT}, '${address}')
  socket.on('connect', () => setInterval(() => socket.write('x'), 100))
  socket.on('data', () => console.log('answered'))
  socket.on('error', () => process.exit(0))`

test.describe.configure({ mode: 'serial' })

let mesh: Mesh
let page: Page
let alpha: Host
let beta: Host
const addresses = new Map<Host, string>()

test.beforeAll(async ({ browser }) => {
  mesh = await Mesh.start()
  page = await (await browser.newContext({ baseURL: mesh.server.url })).newPage()
})

test.afterAll(async () => {
  await page?.close()
  await mesh?.stop()
})

const row = (name: string) =>
  page.getByRole('row').filter({ has: page.getByRole('link', { name, exact: true }) })

/** The line that the page shows for a new machine. */
async function joinLine(): Promise<string> {
  await page.getByRole('button', { name: 'Make an auth key' }).click()
  const line = page.getByText('sudo ztna up --server')
  await expect(line).toBeVisible()
  return (await line.textContent()) ?? ''
}

async function bring(name: string): Promise<Host> {
  const host = await mesh.host(name)
  await host.join(await joinLine())
  // The page says it by itself.
  await expect(page.getByRole('link', { name, exact: true })).toBeVisible({ timeout: CHANGE })
  addresses.set(host, await host.address())
  return host
}

const addressOf = (host: Host) => addresses.get(host) ?? ''

test('from sign-up to the first ping', async () => {
  const world = new Platform(mesh.server.url, mesh.server.mail)
  await page.goto('/signup')
  await page.getByLabel('E-mail address').fill(EMAIL)
  await page.getByLabel('Password').fill(PASSWORD)
  await page.getByRole('button', { name: 'Sign up' }).click()
  await expect(page.getByRole('heading', { name: 'Look into your mail' })).toBeVisible()
  await page.goto(`/verify-email?token=${await world.mailToken(EMAIL)}`)
  await page.getByLabel('Password').fill(PASSWORD)
  await page.getByRole('button', { name: 'Confirm' }).click()
  await page.getByRole('link', { name: 'Sign in' }).click()
  await signIn(page, { email: EMAIL, password: PASSWORD, token: '' })
  await page.getByLabel('Name').fill('Agents')
  await page.getByRole('button', { name: 'Make the organisation' }).click()
  await expect(page.getByRole('heading', { name: 'The first machine' })).toBeVisible()

  alpha = await bring('alpha')
  await page.goto('/o/agents/machines?add=1')
  beta = await bring('beta')
  await alpha.reaches(addressOf(beta))
  await beta.reaches(addressOf(alpha))
  await page.goto('/o/agents/machines')
  for (const name of ['alpha', 'beta']) await expect(row(name).getByText('Online')).toBeVisible()
})

test('an edit of the policy cuts a connection that runs', async () => {
  test.setTimeout(240_000)
  const echo = beta.spawn(process.execPath, '-e', ECHO)
  await new Promise((done) => echo.stdout?.once('data', done))
  const asker = alpha.spawn(process.execPath, '-e', ASK(addressOf(beta)))
  let answers = 0
  if (asker.stdout) createInterface({ input: asker.stdout }).on('line', () => answers++)
  const goesOn = async () => {
    const before = answers
    await page.waitForTimeout(2_000)
    return answers > before
  }
  try {
    await expect.poll(goesOn, { timeout: CHANGE }).toBe(true)
    await page.goto('/o/agents/policy')
    await page.getByRole('textbox', { name: /Policy document/ }).click()
    await page.keyboard.press('Control+a')
    await page.keyboard.insertText(
      `{ "acls": [
        { "action": "accept", "src": ["*"], "dst": ["*:*"] },
        { "action": "deny", "src": ["*"], "dst": ["*:${ECHO_PORT}"] },
      ] }`,
    )
    await expect(page.getByRole('button', { name: 'Save', exact: true })).toBeEnabled()
    await page.keyboard.press('Control+s')
    // Other rules may cut off what runs: the page asks first.
    await page.getByRole('dialog').getByRole('button', { name: /^Save/ }).click()
    const saved = page.getByText(/Version \d+ is in force/)
    await expect(saved.first()).toBeVisible()
    await expect.poll(goesOn, { timeout: CHANGE }).toBe(false)
    // Everything else goes on.
    expect(await alpha.pings(addressOf(beta))).toBe(true)
  } finally {
    asker.kill()
    echo.kill()
  }
})

test('a machine waits for its approval', async () => {
  await page.goto('/o/agents/settings')
  await page.getByRole('switch', { name: 'New machines wait for approval' }).click()
  const save = page.getByRole('button', { name: 'Save', exact: true }).first()
  await save.click()
  const world = new Platform(mesh.server.url, mesh.server.mail)
  const ada = await world.signIn(EMAIL, PASSWORD)
  const me = await world.call<{ orgs: Array<{ id: string }> }>('GET', '/api/auth/me', ada.token)
  const key = await world.authKey(ada, me.orgs[0]?.id ?? '', { preapproved: false })
  const gamma = await mesh.host('gamma')
  const { url, pin } = mesh.server
  // It returns once the machine is in.
  const joining = gamma.join(`sudo ztna up --server ${url} --server-pin ${pin} --auth-key ${key}`)
  await page.goto('/o/agents/machines')
  await expect(row('gamma').getByText('Pending')).toBeVisible({ timeout: CHANGE })
  const at = (await row('gamma').textContent())?.match(/100\.\d+\.\d+\.\d+/)?.[0] ?? ''
  expect(await alpha.pings(at)).toBe(false)
  await row('gamma').getByRole('button', { name: 'Approve' }).click()
  await joining
  await alpha.reaches(at)
  await expect(row('gamma').getByText('Online')).toBeVisible({ timeout: CHANGE })
})

test('quarantine takes a machine out at once, and release brings it back', async () => {
  await page.goto('/o/agents/machines')
  expect(await alpha.pings(addressOf(beta))).toBe(true)
  await page.getByRole('button', { name: 'Actions for beta' }).click()
  await page.getByRole('menuitem', { name: 'Quarantine' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Quarantine' }).click()
  await expect(row('beta').getByText('Quarantined')).toBeVisible()
  await alpha.reaches(addressOf(beta), false)
  await page.getByRole('button', { name: 'Actions for beta' }).click()
  await page.getByRole('menuitem', { name: 'Release' }).click()
  await alpha.reaches(addressOf(beta))
})
