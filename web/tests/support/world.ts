import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { expect, type Page } from '@playwright/test'
import type { components } from '../../src/api/schema'
import { type Person, Platform } from './platform'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

export function platform(): Platform {
  const { ZTNA_TEST_URL: url, ZTNA_TEST_MAIL: mail } = process.env
  if (!url || !mail) throw new Error('the set-up did not run')
  return new Platform(url, mail)
}

/** Signs in by the page, as people do. */
export async function signIn(page: Page, person: Person) {
  await page.goto('/login')
  await page.getByLabel('E-mail address').fill(person.email)
  await page.getByLabel('Password').fill(person.password)
  await page.getByRole('button', { name: 'Sign in', exact: true }).click()
  await page.waitForURL((url) => url.pathname !== '/login')
}

interface Finding {
  id: string
  impact: string
  nodes: Array<{ html: string; failureSummary: string }>
}

/** Has axe look at the page, by all its rules or these, and expects it to find nothing. */
export async function expectAccessible(page: Page, where: string, rules?: string[]) {
  // The content security policy keeps scripts of others out; the protocol of the debugger does not ask it.
  await page.evaluate(axe)
  const findings = await page.evaluate(async (runOnly) => {
    const { axe } = window as unknown as {
      axe: { run: (options: object) => Promise<{ violations: Finding[] }> }
    }
    const { violations } = await axe.run({ resultTypes: ['violations'], runOnly })
    return violations
  }, rules)
  const told = findings.map(
    ({ id, impact, nodes }) =>
      `${id} (${impact}): ${nodes.map((node) => `${node.html}\n  ${node.failureSummary}`).join('\n')}`,
  )
  expect.soft(told, where).toEqual([])
}

/** An org with something on every page. */
export async function seed(name: string): Promise<{
  ada: Person
  org: components['schemas']['OrgMembership']
  machines: Map<string, components['schemas']['Registered']>
}> {
  const world = platform()
  // A test that is tried again makes accounts of its own.
  const label = `${name.toLowerCase().split(' ')[0]}-${randomBytes(3).toString('hex')}`
  const ada = await world.person(`ada@${label}.example`)
  const org = await world.org(ada, name)
  const policy = await world.call<{ version: number; text: string }>(
    'GET',
    `/api/orgs/${org.id}/policy`,
    ada.token,
  )
  await world.call('PUT', `/api/orgs/${org.id}/policy`, ada.token, {
    version: policy.version,
    text: `// Who may reach what.
{
  "groups": { "group:dev": ["${ada.email}"] },
  "tagOwners": { "tag:web": ["group:dev"], "tag:db": ["group:dev"] },
  "acls": [
    // Developers reach everything.
    { "id": "dev", "action": "accept", "src": ["group:dev"], "dst": ["*:*"] },
    { "id": "web-to-db", "action": "accept", "src": ["tag:web"], "dst": ["tag:db:5432"] },
    { "id": "no-ssh-to-db", "action": "deny", "src": ["tag:web"], "dst": ["tag:db:22"] },
  ],
  "tests": [ { "src": "tag:web", "accept": ["tag:db:5432"], "deny": ["tag:db:22"] } ],
}
`,
  })
  const web = await world.authKey(ada, org.id, {
    description: 'Web servers',
    tags: ['tag:web'],
    expires_in: 86_400,
  })
  const db = await world.authKey(ada, org.id, { description: 'Databases', tags: ['tag:db'] })
  const plain = await world.authKey(ada, org.id, { description: 'Build runners', ephemeral: true })
  const wanted: Array<[string, string, string]> = [
    ['web-1', web, 'linux-x86_64'],
    ['web-2', web, 'linux-aarch64'],
    ['db-primary', db, 'linux-x86_64'],
    ['db-replica', db, 'linux-x86_64'],
    ['build-runner-01', plain, 'windows-x86_64'],
    ['a-very-long-machine-name-that-somebody-once-chose-for-a-printer', plain, 'linux-x86_64'],
    ['office-gateway', ada.token, 'linux-x86_64'],
    ['laptop-ada', ada.token, 'macos-aarch64'],
  ]
  const machines = new Map<string, components['schemas']['Registered']>()
  for (const [machine, bearer, os] of wanted) {
    machines.set(machine, await world.enrol(bearer, machine, { os, org: org.id }))
  }
  await world.call('POST', `/api/orgs/${org.id}/posture/policies`, ada.token, {
    name: 'Healthy servers',
    enabled: true,
    on_failure: 'warn',
    grace_minutes: 0,
    requires: { firewall: true, disk_encryption: true, min_os_version: { debian: '12' } },
  })
  for (const [index, machine] of [...machines.values()].slice(0, 5).entries()) {
    await world.heartbeat(machine.node_key, {
      agent_version: '0.1.0',
      os_name: 'Debian GNU/Linux 12 (bookworm)',
      distro: 'debian',
      distro_version: '12',
      firewall: { state: index % 2 ? 'no' : 'yes', detail: 'nftables drops what nobody asked for' },
      disk_encryption: { state: index > 2 ? 'unknown' : 'yes', detail: '/ is on dm-crypt' },
    })
  }
  const [source, target, other] = ['web-1', 'db-primary', 'db-replica'].map((name) =>
    machines.get(name),
  )
  if (source && target && other) {
    await world.call('PUT', '/api/machine-connections', source.node_key, {
      count: 2,
      connections: [
        {
          peer: target.machine_id,
          path: 'direct',
          latency_ms: 3,
          post_quantum: true,
          epoch: 41,
          epoch_age_seconds: 64,
          handshake_age_seconds: 12,
          why: 'direct: 192.0.2.7:41641 answered 0.4 s ago; of 3 candidates 1 more answer, and none is better',
        },
        {
          peer: other.machine_id,
          path: 'relay',
          region: 1,
          latency_ms: 38,
          post_quantum: true,
          epoch: 2,
          epoch_age_seconds: 20,
          handshake_age_seconds: 20,
          why: 'by relay: none of 4 candidates answers; they are tried again in 12 s',
        },
      ],
    })
  }
  const gateway = machines.get('office-gateway')
  if (gateway) {
    await world.call('PUT', '/api/machine-routes', gateway.node_key, {
      routes: ['10.0.0.0/24', '192.168.7.0/24', '0.0.0.0/0', '::/0'],
    })
    await world.call(
      'PUT',
      `/api/orgs/${org.id}/machines/${gateway.machine_id}/gateway`,
      ada.token,
      { endpoint: 'office.example.org:51820' },
    )
    await world.call('PATCH', `/api/orgs/${org.id}/settings`, ada.token, { pq: 'preferred' })
    await world.call('POST', `/api/orgs/${org.id}/static-peers`, ada.token, {
      name: 'phone-of-ada',
      gateway: gateway.machine_id,
      preshared_key: true,
    })
  }
  await world.call('PATCH', `/api/orgs/${org.id}/settings`, ada.token, { machine_approval: true })
  await world.enrol(plain, 'newcomer')
  await world.call('POST', `/api/orgs/${org.id}/invitations`, ada.token, {
    email: `grace@${label}.example`,
    role: 'admin',
  })
  await world.call('POST', `/api/orgs/${org.id}/api-keys`, ada.token, {
    description: 'Terraform',
    expires_in_days: 90,
    scopes: ['machines:write', 'policy:read'],
  })
  await world.call('PUT', `/api/orgs/${org.id}/dns`, ada.token, {
    nameservers: ['9.9.9.9'],
    search: ['corp.example'],
    records: [{ name: 'printer.corp.example', address: '10.0.0.9' }],
    split: { 'corp.example': ['10.0.0.53'] },
  })
  return { ada, org, machines }
}
