import { describe, expect, it } from 'vitest'
import { ago, client, count, system } from './format'

const now = Date.parse('2026-06-01T12:00:00Z')
const at = (seconds: number) => new Date(now + seconds * 1000).toISOString()

describe('ago', () => {
  it.each([
    [-1, 'just now'],
    [-59, 'just now'],
    [-60, '1 min. ago'],
    [-3_599, '59 min. ago'],
    [-3_600, '1 hr. ago'],
    [-86_400 * 2, '2 days ago'],
    [30, 'in a moment'],
    [86_400 * 40, 'in 1 mo.'],
  ])('%i seconds', (seconds, text) => {
    expect(ago(at(seconds), now)).toBe(text.replaceAll(' ', '\u00a0'))
  })
  it('knows what never was', () => {
    expect(ago(null, now)).toBe('never')
  })
})

it('counts', () => {
  expect(count(1, 'machine')).toBe('1 machine')
  expect(count(10_000, 'machine')).toBe('10,000 machines')
  expect(count(2, 'policy', 'policies')).toBe('2 policies')
})

it('names systems', () => {
  expect(system('linux-x86_64')).toBe('Linux x86_64')
  expect(system('macos-aarch64')).toBe('macOS aarch64')
  expect(system('plan9')).toBe('plan9')
})

it('names clients', () => {
  const chrome =
    'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36'
  expect(client(chrome)).toBe('Chrome 156 on Linux')
  expect(client(`${chrome} Edg/156.0.1`)).toBe('Edge 156 on Linux')
  expect(client('ztna/0.1.0')).toBe('ztna/0.1.0')
  expect(client('')).toBe('Unknown client')
})
