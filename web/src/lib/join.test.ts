import { expect, it } from 'vitest'
import { withKey } from './join'

it('puts the key where it belongs', () => {
  const line = {
    os: 'linux',
    installs: true,
    login: '',
    auth_key: 'curl https://a/install.sh | sudo ZTNA_AUTH_KEY=YOUR_KEY sh -s -- --server https://a',
  }
  expect(withKey(line, 'ztna-auth-x')).toBe(
    'curl https://a/install.sh | sudo ZTNA_AUTH_KEY=ztna-auth-x sh -s -- --server https://a',
  )
})
