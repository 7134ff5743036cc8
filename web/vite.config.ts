import { fileURLToPath } from 'node:url'
import tailwind from '@tailwindcss/vite'
import react from '@vitejs/plugin-react'
import { defineConfig } from 'vitest/config'

// `npm run dev` serves the pages and hands everything else to a running server. The `Host` header
// stays: the API takes changes only from pages of its own origin.
const api = { target: process.env.ZTNA_URL ?? 'https://localhost:8443', secure: false, ws: true }

export default defineConfig({
  plugins: [react(), tailwind()],
  resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } },
  server: { proxy: { '/api': api, '/sign-in': api, '/health': api } },
  build: { manifest: true, target: 'es2023', chunkSizeWarningLimit: 600 },
  test: { include: ['src/**/*.test.{ts,tsx}'] },
})
