/** Starts a server of its own for the tests, with a database of its own, and the site before it. */
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { serve } from './site'

const PORTS = { site: 18501, api: 18502, stun: 18503 }
const PATIENCE = 90_000

export const SITE = `https://localhost:${PORTS.site}`

function program(): string {
  const root = resolve(import.meta.dirname, '../../..')
  const target = process.env.CARGO_TARGET_DIR ?? join(root, 'target')
  const path = join(process.env.ZTNA_PROGRAMS ?? join(target, 'debug'), 'ztna-server')
  if (!existsSync(path)) {
    throw new Error(
      `there is no ${path}: \`cargo build --workspace --bins\`, or name its folder by ZTNA_PROGRAMS`,
    )
  }
  return path
}

export default async function setup() {
  const dist = resolve(import.meta.dirname, '../../dist')
  if (!existsSync(join(dist, 'index.html'))) throw new Error('nothing is built: `npm run build`')
  const dir = mkdtempSync(join(tmpdir(), 'ztna-web-'))
  const [cert, key, mail, data] = ['cert.pem', 'key.pem', 'mail', 'data'].map((name) =>
    join(dir, name),
  ) as [string, string, string, string]
  mkdirSync(mail)
  execFileSync(
    'openssl',
    `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout ${key} -out ${cert}`.split(
      ' ',
    ),
    { stdio: 'ignore' },
  )
  const server = spawn(
    program(),
    [
      ['--data-dir', data],
      ['--listen', `127.0.0.1:${PORTS.api}`],
      ['--stun-listen', `127.0.0.1:${PORTS.stun}`],
      ['--public-host', 'localhost'],
      ['--public-url', SITE],
      ['--tls-cert', cert],
      ['--tls-key', key],
      ['--mail-url', `file://${mail}`],
      ['--mail-from', 'ztna <noreply@example.com>'],
    ].flat(),
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, DATABASE_URL: undefined } },
  )
  let log = ''
  for (const stream of [server.stdout, server.stderr]) {
    stream.on('data', (part: Buffer) => {
      log = (log + part.toString()).slice(-20_000)
    })
  }
  const until = Date.now() + PATIENCE
  while (!existsSync(join(data, 'server.json'))) {
    if (server.exitCode !== null || Date.now() > until) {
      throw new Error(`the server did not start:\n${log.slice(-3_000)}`)
    }
    await new Promise((done) => setTimeout(done, 200))
  }
  const site = await serve({
    dist,
    api: `https://localhost:${PORTS.api}`,
    port: PORTS.site,
    cert,
    key,
  })
  process.env.ZTNA_TEST_API = JSON.parse(readFileSync(join(data, 'server.json'), 'utf8')).url
  process.env.ZTNA_TEST_MAIL = mail
  return async () => {
    site.closeAllConnections()
    site.close()
    server.kill('SIGTERM')
    await new Promise((done) => server.once('exit', done))
    rmSync(dir, { recursive: true, force: true })
  }
}
