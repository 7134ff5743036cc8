import { describe, expect, it } from 'vitest'
import { outdatedBy, waitAfter } from './realtime'

const entry = {
  seq: 1,
  at: '',
  actor: { kind: 'user' as const },
  target: {},
  hash: '',
}

it('knows what a message makes old', () => {
  expect(outdatedBy({ type: 'event', body: { channel: 'acl', seq: 1, id: null } })).toEqual([
    'policy',
  ])
  expect(outdatedBy({ type: 'audit', body: { ...entry, action: 'machine.update' } })).toEqual([
    'audit',
  ])
  expect(outdatedBy({ type: 'audit', body: { ...entry, action: 'settings.update' } })).toEqual([
    'audit',
    'settings',
  ])
  expect(outdatedBy({ type: 'resync', body: { channels: ['keys', 'keys'], seq: 1 } })).toEqual([
    'auth-keys',
    'api-keys',
  ])
  expect(outdatedBy({ type: 'presence', body: { machine: 'a', online: true } })).toEqual([])
})

describe('waitAfter', () => {
  it('waits longer with each failure, up to a bound', () => {
    expect(waitAfter(1006, 0, 1)).toBe(1_000)
    expect(waitAfter(1006, 3, 1)).toBe(8_000)
    expect(waitAfter(1006, 30, 1)).toBe(120_000)
    expect(waitAfter(1006, 0, 0)).toBe(500)
  })
  it('does not come back where it may not', () => {
    expect(waitAfter(4003, 0, 1)).toBeNull()
    expect(waitAfter(4029, 0, 1)).toBe(120_000)
  })
})
