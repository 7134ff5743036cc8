import { expect, it } from 'vitest'
import { auditParameters, targetText } from './audit'

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

it('names targets', () => {
  const machines = new Map([['m', 'web-1']])
  expect(targetText({ id: 'm', name: 'old-name' }, machines)).toBe('old-name')
  expect(targetText({ id: 'm' }, machines)).toBe('web-1')
  expect(targetText({ id: 'm/10.0.0.0/24' }, machines)).toBe('web-1 10.0.0.0/24')
  expect(targetText({ id: '12' }, machines)).toBe('12')
  expect(targetText({}, machines)).toBe('–')
})
