import { expect, type Page, test } from '@playwright/test'
import { atProvider, CLIENT, startProvider } from './support/provider'
import { freePort, startServer } from './support/server'

const GITHUB = { id: 'Iv1.github', secret: CLIENT.secret }

test('a deployment without Google and GitHub offers neither', async ({ page }) => {
  await page.goto('/login')
  // What the server offers is on the page once this is.
  await expect(page.getByRole('link', { name: 'Sign up' })).toBeVisible()
  await expect(page.getByRole('button', { name: 'Continue with single sign-on' })).toBeVisible()
  await expect(page.getByRole('button', { name: /Google|GitHub/ })).toHaveCount(0)
})

test('people come by Google and GitHub: new ones, known ones, and not without a verified address', async ({
  browser,
}) => {
  const port = await freePort()
  const back = (name: string) => [`https://localhost:${port}/sign-in/${name}/callback`]
  const provider = await startProvider(
    [
      { ...CLIENT, redirect_uris: back('google') },
      { ...GITHUB, redirect_uris: back('github'), post: true },
    ],
    {
      alice: { email: 'alice@mail.example', email_verified: true },
      bob: { id: 7, emails: [{ email: 'bob@mail.example', primary: true, verified: true }] },
      mallory: { email: 'alice@mail.example', email_verified: false },
    },
  )
  const server = await startServer(
    '127.0.0.1',
    'localhost',
    [
      ['--google-client-id', CLIENT.id, '--google-client-secret', CLIENT.secret],
      ['--google-issuer', provider.issuer, '--allow-http-issuers', '--allow-private-issuers'],
      ['--github-client-id', GITHUB.id, '--github-client-secret', GITHUB.secret],
      ['--github-url', provider.issuer, '--github-api-url', provider.issuer],
    ].flat(),
    port,
  )
  const by = async (name: string, login: string, path = '/login'): Promise<Page> => {
    const page = await browser.newPage()
    await page.goto(server.url + path)
    await page.getByRole('button', { name: `Continue with ${name}` }).click()
    await atProvider(page, login)
    return page
  }
  try {
    for (const [name, login] of [
      ['Google', 'alice'],
      ['GitHub', 'bob'],
    ] as const) {
      const first = await by(name, login)
      await first.getByLabel('Name').fill(`${login} and friends`)
      await first.getByRole('button', { name: 'Make the organisation' }).click()
      await expect(first.getByRole('heading', { name: 'The first machine' })).toBeVisible()
      // Again, from another browser, and on to the page that was asked for.
      const again = await by(name, login, '/new-org')
      await expect(again.getByRole('heading', { name: 'New organisation' })).toBeVisible()
      await expect(again.getByRole('link', { name: 'Cancel' })).toBeVisible()
    }
    const stranger = await by('Google', 'mallory')
    await expect(stranger.getByRole('alert')).toContainText('has not verified your address')
  } finally {
    provider.process.kill()
    await server.stop()
  }
})

test('where accounts are by invitation, strangers are told so', async ({ browser }) => {
  const server = await startServer('127.0.0.1', 'localhost', ['--sign-up', 'invited'])
  try {
    const page = await browser.newPage()
    await page.goto(`${server.url}/signup`)
    await expect(page.getByText(/by invitation/)).toBeVisible()
    await expect(page.getByLabel('Password')).toHaveCount(0)
    await page.getByRole('link', { name: 'Sign in' }).click()
    await expect(page.getByLabel('Password')).toBeVisible()
    await expect(page.getByRole('link', { name: 'Sign up' })).toHaveCount(0)
  } finally {
    await server.stop()
  }
})
