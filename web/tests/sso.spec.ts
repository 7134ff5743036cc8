import { expect, test } from '@playwright/test'
import { answerTxt, atProvider, CLIENT, startProvider } from './support/provider'
import { platform, signIn } from './support/world'

test('an org signs in at its own provider: set up, a domain proved, people come by it', async ({
  page,
  browser,
  baseURL,
}) => {
  const world = platform()
  const label = `sso-${Date.now()}`
  const domain = `${label}.example`
  const ada = await world.person(`ada@${domain}`)
  const org = await world.org(ada, label)
  const provider = await startProvider(`${baseURL}/sign-in/${org.id}/callback`, {
    grace: { email: `grace@${domain}`, email_verified: true, name: 'Grace' },
    mallory: { email: 'mallory@elsewhere.example', email_verified: true },
  })
  try {
    await signIn(page, ada)
    await page.goto(`/o/${org.slug}/sso`)
    await page.getByLabel('Issuer').fill(provider.issuer)
    await page.getByLabel('Client id').fill(CLIENT.id)
    await page.getByLabel('Client secret').fill(CLIENT.secret)
    await page.getByRole('button', { name: 'Save', exact: true }).click()
    await page.getByLabel('Add a domain').fill(domain)
    await page.getByRole('button', { name: 'Add', exact: true }).click()
    const row = page.getByRole('listitem').filter({ hasText: domain })
    const names = await answerTxt((await row.locator('code').nth(1).textContent()) ?? '')
    await row.getByRole('button', { name: 'Look for the record' }).click()
    await expect(row.getByText(/^proved/)).toBeVisible()
    names.close()

    const theirs = await (await browser.newContext()).newPage()
    await theirs.goto('/login')
    await theirs.getByRole('button', { name: 'Continue with single sign-on' }).click()
    await theirs.getByLabel(/Work e-mail/).fill(`grace@${domain}`)
    await theirs.getByRole('button', { name: 'Continue' }).click()
    await atProvider(theirs, 'grace')
    await expect(theirs.getByRole('heading', { name: 'Your first machine' })).toBeVisible()
    await theirs.goto(`/o/${org.slug}/people`)
    await expect(theirs.getByText(`grace@${domain}`).first()).toBeVisible()

    const stranger = await (await browser.newContext()).newPage()
    await stranger.goto('/login')
    await stranger.getByRole('button', { name: 'Continue with single sign-on' }).click()
    await stranger.getByLabel(/Work e-mail/).fill(org.slug)
    await stranger.getByRole('button', { name: 'Continue' }).click()
    await atProvider(stranger, 'mallory')
    await expect(stranger.getByRole('alert')).toContainText('mallory@elsewhere.example')
  } finally {
    provider.process.kill()
  }
})
