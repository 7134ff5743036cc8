import type { Schemas } from '@/api/client'

type Requirements = Schemas['PostureRequirements']

const NAMES: Array<[keyof Requirements, string]> = [
  ['disk_encryption', 'disk encryption'],
  ['firewall', 'a firewall'],
  ['screen_lock', 'a screen lock'],
  ['auto_update', 'automatic updates'],
]

/** What a policy asks for, in a line. */
export function requirementsText(requires: Requirements): string {
  const parts = NAMES.flatMap(([key, label]) => (requires[key] ? [label] : []))
  if (requires.min_agent_version) parts.push(`agent ${requires.min_agent_version} or newer`)
  for (const [name, version] of Object.entries(requires.min_os_version ?? {})) {
    parts.push(`${name} ${version} or newer`)
  }
  return parts.join(', ') || 'a fresh report'
}

/** Versions as people write them: a system and a version a line. */
export function versionsOf(text: string): Record<string, string> {
  return Object.fromEntries(
    text.split('\n').flatMap((line) => {
      const [name, version] = line.trim().split(/[\s=:]+/)
      return name && version ? [[name.toLowerCase(), version]] : []
    }),
  )
}

export function versionsText(versions: Record<string, string>): string {
  return Object.entries(versions)
    .map(([name, version]) => `${name} ${version}`)
    .join('\n')
}
