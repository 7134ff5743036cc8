import { expect, test } from '@playwright/test'

test('a deployment without Google and GitHub offers neither', async ({ page }) => {
  await page.goto('/login')
  // What the server offers is on the page once this is.
  await page.waitForResponse('**/api/auth/ways').catch(() => undefined)
  await expect(page.getByRole('button', { name: 'Continue with single sign-on' })).toBeVisible()
  await expect(page.getByRole('button', { name: /Google|GitHub/ })).toHaveCount(0)
})
