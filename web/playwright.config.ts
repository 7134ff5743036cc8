import { existsSync } from 'node:fs'
import { defineConfig } from '@playwright/test'
import { SITE } from './tests/support/setup'

// Debian's Chromium; nothing is downloaded.
const chromium = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser'].find(
  (path) => path && existsSync(path),
)

export default defineConfig({
  testDir: 'tests',
  globalSetup: './tests/support/setup.ts',
  // One server and one database; limits on sign-ins are by address.
  workers: 1,
  timeout: 60_000,
  reporter: [['list']],
  use: {
    baseURL: SITE,
    ignoreHTTPSErrors: true,
    viewport: { width: 1360, height: 850 },
    trace: 'retain-on-failure',
    permissions: ['clipboard-read', 'clipboard-write'],
    launchOptions: {
      executablePath: chromium,
      // As root, in containers, Chromium has no sandbox.
      args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
    },
  },
})
