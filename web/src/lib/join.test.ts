import { expect, it } from 'vitest'
import { joinLine, loginLine } from './join'

const join = {
  server: 'https://a',
  pin: 'sha256:ab',
  version: '0.1.0',
  lines: [{ os: 'linux', line: 'sudo ztna up --server https://a --server-pin sha256:ab' }],
}

it('writes lines', () => {
  expect(loginLine(join)).toBe(
    'ztna login --server https://a --server-pin sha256:ab && sudo ztna up',
  )
  expect(loginLine({ ...join, pin: null })).toBe('ztna login --server https://a && sudo ztna up')
  expect(joinLine(join, 'linux', 'KEY')).toBe(
    'sudo ztna up --server https://a --server-pin sha256:ab --auth-key KEY',
  )
  expect(joinLine(join, 'plan9', 'KEY')).toBeNull()
})
