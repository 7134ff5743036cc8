import { expect, it } from 'vitest'
import { gridOf, namesIn, partsOf, targetOf } from './policy'

it('finds names', () => {
  const text =
    '{ "hosts": { "printer": "10.0.0.9" }, "groups": { "group:dev": [] }, "acls": [{ "src": ["autogroup:member"], "dst": ["tag:web:80"] }] }'
  expect(namesIn(text)).toEqual({ tags: ['tag:web'], groups: ['group:dev'], hosts: ['printer'] })
})

it('takes ports off destinations', () => {
  expect(targetOf('tag:web:80,443')).toBe('tag:web')
  expect(targetOf('*:*')).toBe('*')
  expect(targetOf('10.0.0.0/24:1-100')).toBe('10.0.0.0/24')
  expect(targetOf('autogroup:internet')).toBe('autogroup:internet')
})

it('shows rules', () => {
  expect(
    partsOf({ action: 'deny', src: ['a'], dst: ['b:1'], proto: 'udp', srcOS: ['linux'] }),
  ).toEqual({ action: 'deny', src: ['a'], dst: ['b:1'], more: ['udp', 'srcOS: linux'] })
  expect(partsOf({ src: ['a'], dst: ['b'], ip: ['tcp:22'] }).more).toEqual(['tcp:22'])
})

it('makes a grid', () => {
  const grid = gridOf([
    { id: '1', in_force: true, rule: { action: 'accept', src: ['a', 'b'], dst: ['x:1', 'x:2'] } },
    { id: '2', in_force: true, rule: { action: 'deny', src: ['a'], dst: ['x:22'] } },
  ])
  expect(grid.sources).toEqual(['a', 'b'])
  expect(grid.targets).toEqual(['x'])
  expect(grid.cell('a', 'x')).toEqual({ rules: ['1', '2'], accepts: 1, denies: 1 })
  expect(grid.cell('b', 'x')).toEqual({ rules: ['1'], accepts: 1, denies: 0 })
  expect(grid.cell('b', 'y').rules).toEqual([])
})
