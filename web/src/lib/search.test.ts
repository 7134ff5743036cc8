import { describe, expect, it } from 'vitest'
import { listOf, only, ownPath, parseSearch, stringifySearch, textOf } from './search'

it('keeps text as it is', () => {
  // A `state` of the command line may look like a number.
  expect(parseSearch('?state=1e5&port=43210')).toEqual({ state: '1e5', port: '43210' })
  expect(stringifySearch({ q: 'a b', none: undefined, empty: '' })).toBe('?q=a+b')
  expect(stringifySearch({})).toBe('')
})

it('drops what a page does not know', () => {
  expect(only('q')({ q: 'x', other: 'y' })).toEqual({ q: 'x' })
  expect(only('q')({ q: '' })).toEqual({})
})

it('holds lists', () => {
  expect(listOf('a,b,')).toEqual(['a', 'b'])
  expect(listOf(undefined)).toEqual([])
  expect(textOf([])).toBeUndefined()
  expect(textOf(['a', 'b'])).toBe('a,b')
})

describe('ownPath', () => {
  it.each([
    ['/o/demo/machines?q=1#x', '/o/demo/machines?q=1#x'],
    [undefined, '/'],
    ['', '/'],
    ['https://evil.example/', '/'],
    ['//evil.example/', '/'],
    ['/\\evil.example/', '/'],
    ['javascript:alert(1)', '/'],
    ['/\t/evil.example', '/'],
  ])('%s', (next, path) => {
    expect(ownPath(next)).toBe(path)
  })
})
