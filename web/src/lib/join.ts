/** The lines that bring a machine in. */
import type { Schemas } from '@/api/client'

/**
 * The pin of this server's certificate, if it has one of its own: a deployment in one process serves control
 * plane and relay at one port with one certificate, and the relay map tells the relay's.
 */
export function pinOf(regions: readonly Schemas['OrgRegion'][], host: string): string | null {
  const [name, port = '443'] = host.split(/:(?=\d+$)/)
  for (const node of regions.flatMap((region) => region.nodes)) {
    const { certificate } = node
    if (node.host !== name || node.derp_port !== Number(port)) continue
    if (typeof certificate === 'object' && 'sha256' in certificate) {
      return `sha256:${certificate.sha256}`
    }
  }
  return null
}

const server = (url: string, pin: string | null) =>
  `--server ${url}${pin ? ` --server-pin ${pin}` : ''}`

export function loginLine(url: string, pin: string | null): string {
  return `ztna login ${server(url, pin)} && sudo ztna up`
}

export function joinLine(
  system: 'linux' | 'macos' | 'windows',
  url: string,
  pin: string | null,
  key: string,
): string {
  const line = `ztna up ${server(url, pin)} --auth-key ${key}`
  return system === 'windows' ? line : `sudo ${line}`
}
