// Leaves every file of the build that shrinks a second and third time, as `x.br` and `x.gz`: whoever serves it has
// nothing to compress, and browsers load less than is compressed in passing.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'

/** Below this, in bytes, the header of an answer weighs more than what is saved. */
const WORTH_IT = 1_000

const dist = new URL('../dist/', import.meta.url).pathname
const files = readdirSync(dist, { recursive: true })
  .map((name) => join(dist, name))
  .filter((path) => /\.(js|css|html|svg)$/.test(path))
for (const path of files) {
  const plain = readFileSync(path)
  if (plain.length < WORTH_IT) continue
  const params = {
    [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
    [constants.BROTLI_PARAM_SIZE_HINT]: plain.length,
  }
  writeFileSync(`${path}.br`, brotliCompressSync(plain, { params }))
  writeFileSync(`${path}.gz`, gzipSync(plain, { level: constants.Z_BEST_COMPRESSION }))
}
