import { expect, it } from 'vitest'
import { requirementsText, versionsOf, versionsText } from './posture'

it('tells what a policy asks for', () => {
  expect(requirementsText({})).toBe('a fresh report')
  expect(
    requirementsText({ firewall: true, disk_encryption: false, min_os_version: { debian: '12' } }),
  ).toBe('a firewall, debian 12 or newer')
})

it('reads versions and writes them', () => {
  expect(versionsOf('Debian 12\n\nmacos = 15.1\nnothing')).toEqual({ debian: '12', macos: '15.1' })
  expect(versionsText({ debian: '12', macos: '15' })).toBe('debian 12\nmacos 15')
})
