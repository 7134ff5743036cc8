import { useEffect, useState } from 'react'

/** A value that follows another once that has been still for a while. */
export function useDebounced<T>(value: T, pause: number): T {
  const [still, setStill] = useState(value)
  useEffect(() => {
    const timer = setTimeout(() => setStill(value), pause)
    return () => clearTimeout(timer)
  }, [value, pause])
  return still
}
