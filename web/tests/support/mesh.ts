/** A network of this machine's own, with a server on it and hosts in namespaces that run the real agent. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { program, type Running, startServer } from './server'

const run = promisify(execFile)
/** For benchmarking (RFC 2544), so nobody's network. */
const NET = '198.18.76'
const SERVER = `${NET}.1`

async function until(what: string, test: () => Promise<boolean> | boolean, limit = 60_000) {
  for (const end = Date.now() + limit; ; await new Promise((done) => setTimeout(done, 200))) {
    if (await test()) return
    if (Date.now() > end) throw new Error(`not within ${limit / 1000} s: ${what}`)
  }
}

/** A host with an agent. */
export class Host {
  private daemon: ChildProcess | undefined

  constructor(
    readonly name: string,
    private readonly space: string,
    private readonly dir: string,
  ) {}

  /** A program on this host, and what it needs to be started. */
  private inside(...command: string[]): string[] {
    return ['netns', 'exec', this.space, ...command]
  }

  async exec(...command: string[]): Promise<string> {
    return (await run('ip', this.inside(...command), { timeout: 60_000 })).stdout
  }

  async ztna(...words: string[]): Promise<string> {
    return await this.exec(program('ztna'), '--socket', join(this.dir, 'ztna.sock'), ...words)
  }

  async start() {
    const socket = join(this.dir, 'ztna.sock')
    const flags = [
      ['--socket', socket, 'daemon'],
      ['--state-dir', join(this.dir, 'state')],
      // Names are not what is tested here, and the file of this machine is not theirs.
      ['--resolv-conf', join(this.dir, 'resolv.conf')],
    ].flat()
    const log = createWriteStream(join(this.dir, 'log'))
    this.daemon = spawn('ip', this.inside(program('ztna'), ...flags), {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.daemon.stdout?.pipe(log)
    this.daemon.stderr?.pipe(log)
    await until(`${this.name}'s agent starts`, () => existsSync(socket))
  }

  /** Runs the line that the dashboard shows, as root that one is already. */
  async join(line: string) {
    const words = line.trim().split(/\s+/)
    if (words.shift() !== 'sudo' || words.shift() !== 'ztna')
      throw new Error(`no join line: ${line}`)
    await this.ztna(...words, '--hostname', this.name)
  }

  async address(): Promise<string> {
    return (await this.ztna('ip', '-4')).trim()
  }

  async pings(address: string): Promise<boolean> {
    return await this.exec('ping', '-n', '-c', '1', '-W', '1', address).then(
      () => true,
      () => false,
    )
  }

  /** Waits until a ping is answered, or until none is. */
  async reaches(address: string, wanted = true) {
    const what = `${this.name} ${wanted ? 'reaches' : 'no longer reaches'} ${address}`
    await until(what, async () => (await this.pings(address)) === wanted)
  }

  /** A program that runs until it is stopped. */
  spawn(...command: string[]): ChildProcess {
    return spawn('ip', this.inside(...command), { stdio: ['ignore', 'pipe', 'inherit'] })
  }

  stop() {
    this.daemon?.kill('SIGTERM')
  }
}

/** What there is until it is stopped. */
export class Mesh {
  private readonly hosts: Host[] = []

  private constructor(
    private readonly bridge: string,
    private readonly dir: string,
    readonly server: Running,
  ) {}

  static async start(): Promise<Mesh> {
    const bridge = `zw${process.pid}`
    await run('ip', ['link', 'add', bridge, 'type', 'bridge'])
    await run('ip', ['address', 'add', `${SERVER}/24`, 'dev', bridge])
    await run('ip', ['link', 'set', bridge, 'up'])
    const dir = mkdtempSync(join(tmpdir(), 'ztna-mesh-'))
    try {
      return new Mesh(bridge, dir, await startServer(SERVER, SERVER))
    } catch (error) {
      // What is left would take the next one's packets.
      await run('ip', ['link', 'del', bridge])
      throw error
    }
  }

  async host(name: string): Promise<Host> {
    const space = `${this.bridge}-${name}`
    const wire = `${this.bridge}.${this.hosts.length}`
    const dir = join(this.dir, name)
    mkdirSync(dir)
    const host = new Host(name, space, dir)
    this.hosts.push(host)
    await run('ip', ['netns', 'add', space])
    await run('ip', ['link', 'add', wire, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', space])
    await run('ip', ['link', 'set', wire, 'master', this.bridge, 'up'])
    const address = `${NET}.${10 + this.hosts.length}/24`
    for (const words of [
      'link set lo up',
      'link set eth0 up',
      `address add ${address} dev eth0`,
      `route add default via ${SERVER}`,
    ]) {
      await run('ip', ['-n', space, ...words.split(' ')])
    }
    await host.start()
    return host
  }

  async stop() {
    for (const host of this.hosts) {
      host.stop()
      await run('ip', ['netns', 'delete', `${this.bridge}-${host.name}`])
    }
    await this.server.stop()
    await run('ip', ['link', 'delete', this.bridge])
    rmSync(this.dir, { recursive: true, force: true })
  }
}
