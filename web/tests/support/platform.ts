/**
 * Talks to a real server as people and agents do, for the tests' own use: accounts, orgs, machines. Only the
 * tunnel of such a machine is missing; what the control plane knows of it is real.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { request as httpsRequest } from 'node:https'
import { join } from 'node:path'
import type { components } from '../../src/api/schema'

type Schemas = components['schemas']

/** Bytes of an ML-KEM-768 encapsulation key. */
const KEM_KEY = 1184

export interface Person {
  email: string
  password: string
  token: string
}

export class Platform {
  /** Limits are by address, and the loopback network has many: each of these is a client of its own. */
  private readonly from =
    `127.${[1, 2, 3].map(() => 1 + Math.floor(Math.random() * 253)).join('.')}`

  constructor(
    readonly url: string,
    readonly mailDir: string,
  ) {}

  async call<T>(method: string, path: string, token: string | null, body?: unknown): Promise<T> {
    const text = body === undefined ? undefined : JSON.stringify(body)
    const answer = await new Promise<string>((resolve, reject) => {
      const call = httpsRequest(
        new URL(path, this.url),
        {
          method,
          rejectUnauthorized: false,
          localAddress: this.from,
          headers: {
            ...(text === undefined
              ? {}
              : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
            ...(token ? { authorization: `Bearer ${token}` } : {}),
          },
        },
        (response) => {
          const parts: Buffer[] = []
          response.on('data', (part: Buffer) => parts.push(part))
          response.on('end', () => resolve(Buffer.concat(parts).toString()))
        },
      )
      call.on('error', reject)
      call.end(text)
    })
    const envelope = JSON.parse(answer) as {
      success: boolean
      data: T
      error: Schemas['ErrorBody'] | null
    }
    if (!envelope.success) {
      throw new Error(`${method} ${path}: ${envelope.error?.code} ${envelope.error?.message}`)
    }
    return envelope.data
  }

  /** The token of the newest letter of a kind to an address, once it is there. */
  async mailToken(email: string, kind: 'mail' | 'invite' = 'mail'): Promise<string> {
    for (let tries = 0; tries < 100; tries++) {
      const tokens = readdirSync(this.mailDir)
        // Those that are being written begin with a dot.
        .filter((name) => !name.startsWith('.'))
        .sort()
        .reverse()
        .map((name) => readFileSync(join(this.mailDir, name), 'utf8'))
        .filter((text) => text.includes(email))
        // Quoted-printable: soft line ends, and `=3D` for the equals sign.
        .map((text) => text.replace(/=\r?\n/g, '').replace(/=3D/g, '='))
        .map((text) => new RegExp(`ztna-${kind}-[A-Za-z0-9_-]{43}`).exec(text)?.[0])
      const token = tokens.find((one) => one !== undefined)
      if (token) return token
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    throw new Error(`no letter to ${email} in ${this.mailDir}`)
  }

  async person(email: string, password = 'correct horse battery'): Promise<Person> {
    await this.call('POST', '/api/auth/signup', null, { email, password })
    const token = await this.mailToken(email)
    await this.call('POST', '/api/auth/verify-email', null, { token, password })
    return await this.signIn(email, password)
  }

  async signIn(email: string, password = 'correct horse battery'): Promise<Person> {
    const session = await this.call<Schemas['Session']>('POST', '/api/auth/login', null, {
      email,
      password,
    })
    return { email, password, token: session.access_token }
  }

  org(person: Person, name: string): Promise<Schemas['OrgMembership']> {
    return this.call('POST', '/api/orgs', person.token, { name })
  }

  async authKey(
    person: Person,
    org: string,
    more: Partial<Schemas['CreateAuthKeyRequest']> = {},
  ): Promise<string> {
    const made = await this.call<Schemas['CreatedAuthKey']>(
      'POST',
      `/api/orgs/${org}/auth-keys`,
      person.token,
      { reusable: true, ...more },
    )
    return made.key
  }

  /** Enrols a machine by an auth key, or by a person's token and org. */
  enrol(
    bearer: string,
    name: string,
    more: { org?: string; os?: string } = {},
  ): Promise<Schemas['Registered']> {
    const { publicKey } = generateKeyPairSync('x25519')
    const wg = publicKey.export({ type: 'spki', format: 'der' }).subarray(-32)
    return this.call('POST', '/api/register-machine', bearer, {
      name,
      os: more.os ?? 'linux-x86_64',
      agent_version: '0.1.0',
      wg_key: wg.toString('base64'),
      kem_key: randomBytes(KEM_KEY).toString('base64'),
      org: more.org,
    })
  }

  heartbeat(
    nodeKey: string,
    posture?: Schemas['PostureReport'],
  ): Promise<Schemas['HeartbeatAnswer']> {
    return this.call('POST', '/api/machine-heartbeat', nodeKey, {
      agent_version: '0.1.0',
      report: { endpoints: [] },
      posture,
    })
  }
}
