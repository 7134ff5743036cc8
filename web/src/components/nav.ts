import {
  Fingerprint,
  Globe,
  HeartPulse,
  KeyRound,
  type LucideIcon,
  Map as MapIcon,
  MonitorSmartphone,
  Network,
  RadioTower,
  ScrollText,
  Settings,
  ShieldCheck,
  Smartphone,
  SquareTerminal,
  UsersRound,
} from 'lucide-react'
import type { Right } from '@/api/client'

export interface NavEntry {
  to:
    | '/o/$org/machines'
    | '/o/$org/map'
    | '/o/$org/policy'
    | '/o/$org/people'
    | '/o/$org/auth-keys'
    | '/o/$org/api-keys'
    | '/o/$org/routes'
    | '/o/$org/static-peers'
    | '/o/$org/dns'
    | '/o/$org/relays'
    | '/o/$org/posture'
    | '/o/$org/audit'
    | '/o/$org/settings'
    | '/o/$org/sso'
  label: string
  icon: LucideIcon
  right: Right
  /** Other words by which the command palette finds it. */
  words: string
}

export const NAV: ReadonlyArray<{ label: string | null; entries: readonly NavEntry[] }> = [
  {
    label: null,
    entries: [
      {
        to: '/o/$org/machines',
        label: 'Machines',
        icon: MonitorSmartphone,
        right: 'belong',
        words: 'devices hosts nodes peers',
      },
      {
        to: '/o/$org/map',
        label: 'Map',
        icon: MapIcon,
        right: 'read',
        words: 'topology graph reach',
      },
      {
        to: '/o/$org/policy',
        label: 'Policy',
        icon: ShieldCheck,
        right: 'read',
        words: 'acl rules grants access control editor',
      },
    ],
  },
  {
    label: 'Access',
    entries: [
      {
        to: '/o/$org/people',
        label: 'People',
        icon: UsersRound,
        right: 'belong',
        words: 'users members roles invitations',
      },
      {
        to: '/o/$org/auth-keys',
        label: 'Auth keys',
        icon: KeyRound,
        right: 'read',
        words: 'enrol enroll join install',
      },
      {
        to: '/o/$org/api-keys',
        label: 'API keys',
        icon: SquareTerminal,
        right: 'read',
        words: 'tokens scopes automation',
      },
    ],
  },
  {
    label: 'Network',
    entries: [
      {
        to: '/o/$org/routes',
        label: 'Routes',
        icon: Network,
        right: 'read',
        words: 'subnet exit nodes approve',
      },
      {
        to: '/o/$org/static-peers',
        label: 'Static peers',
        icon: Smartphone,
        right: 'belong',
        words: 'devices phones gateways wireguard qr configuration',
      },
      {
        to: '/o/$org/dns',
        label: 'DNS',
        icon: Globe,
        right: 'belong',
        words: 'names nameservers records split search',
      },
      {
        to: '/o/$org/relays',
        label: 'Relays',
        icon: RadioTower,
        right: 'belong',
        words: 'derp regions stun health',
      },
    ],
  },
  {
    label: 'Security',
    entries: [
      {
        to: '/o/$org/posture',
        label: 'Posture',
        icon: HeartPulse,
        right: 'belong',
        words: 'compliance disk encryption firewall quarantine',
      },
      {
        to: '/o/$org/audit',
        label: 'Audit log',
        icon: ScrollText,
        right: 'read',
        words: 'history events export verify chain',
      },
    ],
  },
  {
    label: 'Organisation',
    entries: [
      {
        to: '/o/$org/settings',
        label: 'Settings',
        icon: Settings,
        right: 'belong',
        words: 'approval key expiry retention',
      },
      {
        to: '/o/$org/sso',
        label: 'Single sign-on',
        icon: Fingerprint,
        right: 'read',
        words: 'oidc saml sso identity provider domains',
      },
    ],
  },
]
