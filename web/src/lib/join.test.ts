import { expect, it } from 'vitest'
import type { Schemas } from '@/api/client'
import { joinLine, loginLine, pinOf } from './join'

function region(
  host: string,
  port: number,
  certificate: Schemas['CertificatePin'],
): Schemas['OrgRegion'] {
  const node = { name: 'a', host, derp_port: port, certificate }
  return { id: 1, code: 'local', name: 'Here', own: false, nodes: [node] }
}

it('finds the pin of this very server, and of no other', () => {
  const pinned = region('vpn.example', 8443, { sha256: 'ab' })
  expect(pinOf([pinned], 'vpn.example:8443')).toBe('sha256:ab')
  expect(pinOf([pinned], 'vpn.example')).toBeNull()
  expect(pinOf([pinned], 'other.example:8443')).toBeNull()
  expect(pinOf([region('vpn.example', 443, { sha256: 'ab' })], 'vpn.example')).toBe('sha256:ab')
  expect(pinOf([region('vpn.example', 443, 'web_pki')], 'vpn.example')).toBeNull()
})

it('writes lines', () => {
  expect(loginLine('https://a', null)).toBe('ztna login --server https://a && sudo ztna up')
  expect(joinLine('linux', 'https://a', 'sha256:ab', 'KEY')).toBe(
    'sudo ztna up --server https://a --server-pin sha256:ab --auth-key KEY',
  )
  expect(joinLine('windows', 'https://a', null, 'KEY')).toBe(
    'ztna up --server https://a --auth-key KEY',
  )
})
