import { expect, it } from 'vitest'
import { EXIT, toggleRoute } from './routes'

const routes = [
  { prefix: '10.0.0.0/24', approved: true, primary: true },
  { prefix: '0.0.0.0/0', approved: false, primary: false },
  { prefix: '::/0', approved: false, primary: false },
]

it('switches what is named, and keeps the rest', () => {
  expect(toggleRoute(routes, EXIT, true)).toEqual(['10.0.0.0/24', '0.0.0.0/0', '::/0'])
  expect(toggleRoute(routes, ['10.0.0.0/24'], false)).toEqual([])
})
