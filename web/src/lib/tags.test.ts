import { expect, it } from 'vitest'
import { parseTags } from './tags'

it('takes tags as people type them', () => {
  expect(parseTags(' web, tag:db  web ')).toEqual(['tag:web', 'tag:db'])
  expect(parseTags('')).toEqual([])
})
