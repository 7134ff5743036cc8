/** A real server that serves the dashboard that was built, with a database and a mailbox of its own. */
import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

/** Longest that a start takes, with the making of a database, in milliseconds. */
const PATIENCE = 120_000

export interface Running {
  url: string
  pin: string
  /** Where its letters are written down. */
  mail: string
  stop: () => Promise<void>
}

/** A program of this workspace. */
export function program(name: string): string {
  const target = process.env.CARGO_TARGET_DIR ?? resolve(import.meta.dirname, '../../../target')
  const path = join(process.env.ZTNA_PROGRAMS ?? join(target, 'debug'), name)
  if (!existsSync(path)) {
    throw new Error(
      `there is no ${path}: \`cargo build --workspace --bins\`, or name its folder by ZTNA_PROGRAMS`,
    )
  }
  return path
}

/**
 * A port that nobody has, on TCP, and that the system gives to nobody who asks for any
 * (`net.ipv4.ip_local_port_range` begins at 32,768): it is still free when the server listens there.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 32_768)
    const server = createServer()
    const isFree = await new Promise<boolean>((done) => {
      server.once('error', () => done(false)).listen(port, '127.0.0.1', () => done(true))
    })
    if (!isFree) continue
    await new Promise((done) => server.close(done))
    return port
  }
}

/** Starts one. `address`: where it listens, and `name`: what agents and browsers dial. `given`: its port, else any. */
export async function startServer(
  address: string,
  name: string,
  more: readonly string[] = [],
  given?: number,
): Promise<Running> {
  const dist = resolve(import.meta.dirname, '../../dist')
  if (!existsSync(join(dist, 'index.html'))) throw new Error('nothing is built: `npm run build`')
  const dir = mkdtempSync(join(tmpdir(), 'ztna-web-'))
  const [mail, data] = [join(dir, 'mail'), join(dir, 'data')]
  mkdirSync(mail)
  const port = given ?? (await freePort())
  const server = spawn(
    program('ztna-server'),
    [
      ['--data-dir', data],
      ['--listen', `${address}:${port}`],
      ['--stun-listen', `${address}:${await freePort()}`],
      ['--public-host', name],
      ['--dashboard', dist],
      ['--mail-url', `file://${mail}`],
      ['--mail-from', 'ztna <noreply@example.com>'],
      more,
    ].flat(),
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, DATABASE_URL: undefined } },
  )
  let log = ''
  for (const stream of [server.stdout, server.stderr]) {
    stream.on('data', (part: Buffer) => {
      log = (log + part.toString()).slice(-20_000)
    })
  }
  const ready = join(data, 'server.json')
  const until = Date.now() + PATIENCE
  while (!existsSync(ready)) {
    if (server.exitCode !== null || Date.now() > until) {
      throw new Error(`the server did not start:\n${log.slice(-3_000)}`)
    }
    await new Promise((done) => setTimeout(done, 200))
  }
  const { url, pin } = JSON.parse(readFileSync(ready, 'utf8')) as { url: string; pin: string }
  return {
    url,
    pin,
    mail,
    stop: async () => {
      const ended = new Promise((done) => server.once('exit', done))
      server.kill('SIGTERM')
      await ended
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
