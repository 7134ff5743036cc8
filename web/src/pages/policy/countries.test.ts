import { expect, it } from 'vitest'
import { countries } from './countries'

it('knows countries by code and name', () => {
  const all = new Map(countries())
  expect(all.get('DE')).toBe('Germany')
  expect(all.get('XK')).toBe('Kosovo')
  expect(all.get('TW')).toBe('Taiwan')
  for (const none of ['EU', 'ZZ', 'DD', 'SU', 'YU', 'UK', 'XA', 'AA']) {
    expect(all.has(none), none).toBe(false)
  }
  // ISO 3166-1 has 249, and Kosovo is none of them.
  expect(all.size).toBe(250)
})
