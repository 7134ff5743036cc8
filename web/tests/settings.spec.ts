import { expect, test } from '@playwright/test'
import { expectAccessible, platform, seed, signIn } from './support/world'

test('a lockdown: who switches it on, what everybody sees, and how it ends', async ({
  page,
  browser,
}) => {
  const world = platform()
  const { ada, org } = await seed('Lockdown Flow')
  const grace = await world.person(`grace-lock-${Date.now()}@flows.example`)
  await world.call('POST', `/api/orgs/${org.id}/invitations`, ada.token, {
    email: grace.email,
    role: 'member',
  })
  const token = await world.mailToken(grace.email, 'invite')
  await world.call('POST', '/api/accept-invitation', grace.token, { token })
  const member = await (await browser.newContext()).newPage()
  await signIn(member, grace)
  await signIn(page, ada)
  const banner = { hasText: 'The organisation is locked down' }
  await expect(page.getByRole('alert').filter(banner)).toHaveCount(0)

  await page.goto(`/o/${org.slug}/settings`)
  await page.getByRole('button', { name: 'Lock down' }).click()
  const dialog = page.getByRole('dialog')
  const sure = dialog.getByRole('button', { name: 'Lock down' })
  // One word stands between a slip and an outage.
  await expect(sure).toBeDisabled()
  await dialog.getByRole('textbox').fill(org.slug)
  await sure.click()
  await expect(page.getByRole('alert').filter(banner)).toBeVisible()
  await expect(page.getByText('in force')).toBeVisible()
  await page.screenshot({ path: 'screenshots/lockdown-light.png' })
  await expectAccessible(page, 'lockdown')

  // Everybody sees it, on every page; and who asks why nothing passes is told.
  await member.reload()
  await expect(member.getByRole('alert').filter(banner)).toBeVisible()
  await expect(member.getByRole('button', { name: 'Lift the lockdown' })).toHaveCount(0)
  await page.goto(`/o/${org.slug}/policy?tab=ask&src=web-1&dst=db-primary&protocol=tcp&port=5432`)
  await expect(page.getByText('web-1 may not reach db-primary')).toBeVisible()
  await page.getByRole('alert').filter(banner).getByRole('link', { name: 'Settings' }).click()

  await page.getByRole('button', { name: 'Lift the lockdown' }).click()
  await expect(page.getByRole('alert').filter(banner)).toHaveCount(0)
  await page.goto(`/o/${org.slug}/policy?tab=ask&src=web-1&dst=db-primary&protocol=tcp&port=5432`)
  await expect(page.getByText('web-1 may reach db-primary')).toBeVisible()
  await member.reload()
  await expect(member.getByRole('heading', { level: 1 })).toBeVisible()
  await expect(member.getByRole('alert').filter(banner)).toHaveCount(0)
})

test('the network: addresses before the first machine, static peers only where they may be', async ({
  page,
}) => {
  const world = platform()
  const ada = await world.person(`network-${Date.now()}@flows.example`)
  const org = await world.org(ada, 'Network Flow')
  await signIn(page, ada)
  await page.goto(`/o/${org.slug}/settings`)
  const network = page.getByLabel('IPv4 addresses of machines')
  const save = page.getByRole('button', { name: 'Save the network' })
  await network.fill('8.8.8.0/24')
  await save.click()
  await expect(page.getByText('is not for machines')).toBeVisible()
  await network.fill('10.77.0.0/16')
  await page.getByLabel('Post-quantum keys').selectOption('preferred')
  await save.click()
  await expect(page.getByText('Settings are saved')).toBeVisible()

  const key = await world.authKey(ada, org.id)
  const gate = await world.enrol(key, 'gate')
  expect(gate.ipv4).toMatch(/^10\.77\./)
  await page.reload()
  await expect(network).toHaveValue('10.77.0.0/16')
  await expect(network).toBeDisabled()

  await world.call('PUT', `/api/orgs/${org.id}/machines/${gate.machine_id}/gateway`, ada.token, {
    endpoint: 'gate.example.org:51820',
  })
  await world.call('POST', `/api/orgs/${org.id}/static-peers`, ada.token, {
    name: 'phone',
    gateway: gate.machine_id,
  })
  await page.getByLabel('Post-quantum keys').selectOption('required')
  await save.click()
  await expect(page.getByText(/1 static peers have no post-quantum keys/)).toBeVisible()
})
