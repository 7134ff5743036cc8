// Generates src/api/schema.d.ts from the API's own document, or checks that it still fits:
//   node scripts/openapi.mjs write|check [URL or FILE]
// Without a third argument the document is read from $ZTNA_URL, else from https://localhost:8443.
import { readFile, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import openapiTS, { astToString } from 'openapi-typescript'

const target = new URL('../src/api/schema.d.ts', import.meta.url)
const [mode, source = process.env.ZTNA_URL ?? 'https://localhost:8443'] = process.argv.slice(2)

// A development server proves itself with a certificate of its own.
function fetchDocument(base) {
  return new Promise((resolve, reject) => {
    const url = new URL('/api/openapi.json', base)
    const call = request(url, { rejectUnauthorized: false }, (answer) => {
      if (answer.statusCode !== 200) {
        reject(new Error(`${url} answers ${answer.statusCode}`))
        return
      }
      const parts = []
      answer.on('data', (part) => parts.push(part))
      answer.on('end', () => resolve(Buffer.concat(parts).toString()))
    })
    call.on('error', reject)
    call.end()
  })
}

const text = /^https:/.test(source) ? await fetchDocument(source) : await readFile(source, 'utf8')
const document = JSON.parse(text)
// The document's operation ids repeat across paths; without them every path carries its own types.
for (const operations of Object.values(document.paths)) {
  for (const operation of Object.values(operations)) delete operation.operationId
}
const generated = `// Generated from the API's OpenAPI document by \`npm run generate\`. Do not edit.\n\n${astToString(
  await openapiTS(document, {
    alphabetize: true,
    defaultNonNullable: false,
    emptyObjectsUnknown: true,
  }),
)}`

if (mode === 'write') {
  await writeFile(target, generated)
  console.log('src/api/schema.d.ts is written')
} else if (mode === 'check') {
  const kept = await readFile(target, 'utf8')
  if (kept !== generated) {
    console.error(
      `src/api/schema.d.ts differs from the document at ${source}; run \`npm run generate\` against that server and mend what the compiler finds`,
    )
    process.exit(1)
  }
  console.log('src/api/schema.d.ts fits the API')
} else {
  console.error('usage: node scripts/openapi.mjs write|check [URL or FILE]')
  process.exit(2)
}
