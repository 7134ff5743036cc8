import { describe, expect, it } from 'vitest'
import { completionsAt, placeOf } from './completion'

const known = {
  people: ['ann@x.example'],
  tags: ['tag:web'],
  groups: ['group:dev'],
  hosts: ['printer'],
}
const labels = (text: string) => completionsAt(text, known).map(({ label }) => label)

describe('completionsAt', () => {
  it('offers sections at the top', () => {
    expect(labels('{ "')).toContain('acls')
    expect(labels('{ "acls": [], "')).toContain('tests')
  })
  it('offers the fields of a rule', () => {
    expect(labels('{ "acls": [ { "')).toEqual(expect.arrayContaining(['action', 'src', 'proto']))
    expect(labels('{ "grants": [ { "src": ["*"], "')).toContain('ip')
    expect(labels('{ "grants": [ { "src": ["*"], "')).not.toContain('proto')
    expect(labels('{ "acls": [ { "when": { "')).toEqual(['days', 'from', 'to', 'zone'])
  })
  it('offers values', () => {
    expect(labels('{ "acls": [ { "action": "')).toEqual(['accept', 'deny'])
    expect(labels('{ "acls": [ { "src": ["')).toEqual(
      expect.arrayContaining(['tag:web', 'ann@x.example']),
    )
    expect(labels('{ "acls": [ { "src": ["a"], "dst": ["b:1", "')).toContain('tag:web:*')
    expect(labels('{ "grants": [ { "dst": ["')).toContain('autogroup:internet')
    expect(labels('{ "groups": { "group:dev": ["')).toEqual(['ann@x.example'])
  })
  it('offers countries by code, and names them', () => {
    const offered = completionsAt('{ "acls": [ { "srcCountry": ["', known)
    expect(offered.find(({ label }) => label === 'IN')?.detail).toBe('India')
  })
  it('is silent outside of strings, and in comments', () => {
    expect(labels('{ ')).toEqual([])
    expect(labels('{ // "')).toEqual([])
    expect(labels('{ /* "')).toEqual([])
    expect(labels('')).toEqual([])
  })
})

describe('placeOf', () => {
  it('minds strings and comments', () => {
    const { frames } = placeOf('{ "a{": "]", // [ {\n /* { */ "acls": [')
    expect(frames).toEqual([
      { kind: '{', field: null },
      { kind: '[', field: 'acls' },
    ])
  })
  it('minds escapes', () => {
    expect(placeOf('{ "a\\"').inString).toBe(true)
    expect(placeOf('{ "a\\\\"').inString).toBe(false)
  })
  it('knows its field after brackets close', () => {
    expect(placeOf('{ "acls": [ {"src": []}, ').field).toBe('acls')
    expect(placeOf('{ "acls": [], ').field).toBeNull()
  })
})
