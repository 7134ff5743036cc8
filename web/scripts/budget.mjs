// Measures what a browser loads before the first page shows, and fails if it is more than the budget: the entry
// script, the frame around an org's pages and the page that opens first, with all that they import statically,
// compressed as a web server would.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'

const BUDGET_KB = 200
const dist = new URL('../dist/', import.meta.url).pathname
const manifest = JSON.parse(readFileSync(join(dist, '.vite/manifest.json'), 'utf8'))
const size = (file) => gzipSync(readFileSync(join(dist, file)), { level: 9 }).length

function closure(key, seen = new Set()) {
  if (seen.has(key)) return seen
  seen.add(key)
  for (const next of manifest[key].imports ?? []) closure(next, seen)
  return seen
}

const entry = Object.keys(manifest).find((key) => manifest[key].isEntry)
const FIRST = [entry, 'src/components/shell.tsx', 'src/pages/machines/list.tsx']
const first = FIRST.reduce((seen, key) => closure(key, seen), new Set())
const kb = (bytes) => `${(bytes / 1000).toFixed(1)} KB`
const firstBytes = [...first].reduce((sum, key) => sum + size(manifest[key].file), 0)

const signIn = closure('src/pages/auth/login.tsx', closure(entry))
const signInBytes = [...signIn].reduce((sum, key) => sum + size(manifest[key].file), 0)

const rows = Object.entries(manifest)
  .filter(([, chunk]) => chunk.file.endsWith('.js') && chunk.isDynamicEntry)
  .map(([key, chunk]) => {
    const own = [...closure(key)].filter((part) => !first.has(part))
    return [chunk.name, own.reduce((sum, part) => sum + size(manifest[part].file), 0)]
  })
  .sort((a, b) => b[1] - a[1])
for (const [name, bytes] of rows) console.log(`  ${kb(bytes).padStart(10)}  ${name}`)
console.log(`sign-in page: ${kb(signInBytes)}`)
console.log(`first load: ${kb(firstBytes)} of ${BUDGET_KB} KB compressed JavaScript`)
if (firstBytes > BUDGET_KB * 1000) {
  console.error('the first load is over its budget; split what the first page does not need')
  process.exit(1)
}
