import { useSyncExternalStore } from 'react'

export type Theme = 'light' | 'dark' | 'system'

// public/theme.js reads it before the first paint.
const KEY = 'ztna-theme'
const dark = () => matchMedia('(prefers-color-scheme: dark)')
const listeners = new Set<() => void>()

export function theme(): Theme {
  const kept = localStorage.getItem(KEY)
  return kept === 'light' || kept === 'dark' ? kept : 'system'
}

function apply() {
  const choice = theme()
  const on = choice === 'dark' || (choice === 'system' && dark().matches)
  document.documentElement.classList.toggle('dark', on)
  for (const listener of listeners) listener()
}

export function setTheme(choice: Theme) {
  localStorage.setItem(KEY, choice)
  apply()
}

/** Follows the system's choice, and other tabs'. */
export function watchTheme() {
  dark().addEventListener('change', apply)
  addEventListener('storage', (event) => event.key === KEY && apply())
}

export function useTheme(): Theme {
  return useSyncExternalStore((listener) => {
    listeners.add(listener)
    return () => listeners.delete(listener)
  }, theme)
}
