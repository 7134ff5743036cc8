import { existsSync } from 'node:fs'
import { defineConfig } from '@playwright/test'

// Debian's Chromium; nothing is downloaded.
const chromium = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser'].find(
  (path) => path && existsSync(path),
)

export default defineConfig({
  testDir: 'tests',
  // Their hosts are network namespaces, which need root.
  testIgnore: process.getuid?.() === 0 ? [] : 'agents.spec.ts',
  globalSetup: './tests/support/setup.ts',
  // One server and one database; limits on sign-ins are by address.
  workers: 1,
  // Long enough for a machine that does something else, too.
  timeout: 180_000,
  reporter: [['list']],
  expect: { timeout: 10_000 },
  use: {
    actionTimeout: 20_000,
    baseURL: process.env.ZTNA_TEST_URL,
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
