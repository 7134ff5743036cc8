import { expect, it } from 'vitest'
import { changes } from './changes'

it('shows what differs', () => {
  expect(changes({ name: 'a', tags: [] }, { name: 'b', tags: [] })).toEqual([
    { key: 'name', before: 'a', after: 'b' },
  ])
  expect(changes({ locked: null }, { locked: { by: 'x' } })).toEqual([
    { key: 'locked', before: 'nothing', after: '{"by":"x"}' },
  ])
})

it('shows all that there is of what was made or deleted', () => {
  expect(changes(null, { name: 'a', reason: null })).toEqual([{ key: 'name', after: 'a' }])
  expect(changes({ name: 'a' }, null)).toEqual([{ key: 'name', before: 'a' }])
  expect(changes(null, null)).toEqual([])
})
