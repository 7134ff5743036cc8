import { expect, it } from 'vitest'
import { cliRequest } from './cli-request'

const challenge = 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'

it('takes what the command line sends', () => {
  expect(cliRequest({ port: '43210', state: 'a-b_c.~1', challenge })).toEqual({
    port: 43210,
    state: 'a-b_c.~1',
    challenge,
  })
})

it.each([
  ['0', 's', challenge],
  ['65536', 's', challenge],
  ['80@evil.example', 's', challenge],
  ['', 's', challenge],
  ['1', '', challenge],
  ['1', 'a&b', challenge],
  ['1', 'a\r\nb', challenge],
  ['1', 's'.repeat(129), challenge],
  ['1', 's', ''],
  ['1', 's', 'short'],
])('refuses %s %s %s', (port, state, code) => {
  expect(cliRequest({ port, state, challenge: code })).toBeNull()
})
