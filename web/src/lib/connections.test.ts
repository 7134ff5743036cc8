import { expect, it } from 'vitest'
import { age, type Connection, keysOf, pathOf, whyOf } from './connections'

const tunnel = (more: Partial<Connection> = {}): Connection => ({
  name: 'db',
  peer: 'x',
  path: 'direct',
  post_quantum: true,
  epoch: 3,
  ...more,
})

it('names paths', () => {
  const regions = new Map([[7, 'Bengaluru']])
  expect(pathOf(tunnel(), regions)).toBe('direct')
  expect(pathOf(tunnel({ path: 'relay', region: 7 }), regions)).toBe('by relay Bengaluru')
  expect(pathOf(tunnel({ path: 'relay', region: 8 }), regions)).toBe('by relay 8')
  expect(pathOf(tunnel({ path: 'relay' }), regions)).toBe('relayed')
  expect(pathOf(tunnel({ path: 'none' }), regions)).toBe('no path now')
})

it('counts ages on from when they were told', () => {
  const told = '2026-01-01T00:00:00Z'
  const now = Date.parse('2026-01-01T00:01:00Z')
  expect(age(30, told, now)).toBe('90\u00a0s')
  expect(age(300, told, now)).toBe('6\u00a0min')
  expect(age(9_000, told, now)).toBe('2\u00a0h')
  expect(age(null, told, now)).toBe('–')
  // Clocks differ.
  expect(age(0, told, now - 120_000)).toBe('0\u00a0s')
})

it('calls nothing post-quantum that is not', () => {
  expect(keysOf(tunnel())).toBe('post-quantum, epoch 3')
  expect(keysOf(tunnel({ post_quantum: false }))).toBe('not yet post-quantum')
  expect(keysOf(tunnel({ epoch: 0 }))).toBe('not yet post-quantum')
})

it('says why once', () => {
  expect(whyOf(tunnel({ why: 'by relay: none of 3 candidates answers' }))).toBe(
    'none of 3 candidates answers',
  )
  expect(whyOf(tunnel({ why: 'idle: nothing is probed' }))).toBe('idle: nothing is probed')
  expect(whyOf(tunnel())).toBe('')
})
