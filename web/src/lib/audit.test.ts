import { expect, it } from 'vitest'
import { auditParameters } from './audit'

it('leaves out what is empty', () => {
  expect(auditParameters({})).toEqual({})
  expect(auditParameters({ actor: '', text: 'x' })).toEqual({ text: 'x' })
})

it('takes whole days of the local clock', () => {
  const { since, until } = auditParameters({ since: '2026-03-01', until: '2026-03-01' })
  expect(since).toBe(new Date(2026, 2, 1).toISOString())
  expect(until).toBe(new Date(2026, 2, 2).toISOString())
  expect(auditParameters({ since: 'yesterday' })).toEqual({})
})
