import { CircleCheck, CircleHelp, CircleX } from 'lucide-react'
import type { Schemas } from '@/api/client'
import { Alert } from '@/components/ui/alert'
import { Badge } from '@/components/ui/badge'
import { ago } from '@/lib/format'

const CHECKS: Record<Schemas['CheckKind'], string> = {
  report: 'A report',
  os_version: 'System version',
  agent_version: 'Agent version',
  disk_encryption: 'Disk encryption',
  firewall: 'Firewall',
  screen_lock: 'Screen lock',
  auto_update: 'Automatic updates',
}

const KNOWN = {
  yes: { Icon: CircleCheck, className: 'text-good', label: 'passed' },
  no: { Icon: CircleX, className: 'text-bad', label: 'failed' },
  unknown: { Icon: CircleHelp, className: 'text-warn', label: 'unknown, counts as failed' },
}

const SIGNALS = [
  ['disk_encryption', 'Disk encryption'],
  ['firewall', 'Firewall'],
  ['screen_lock', 'Screen lock'],
  ['auto_update', 'Automatic updates'],
  ['reboot_pending', 'Restart pending'],
] as const

/** What policies say of a machine, check by check; without any, what it reports. */
export function PostureResults({ posture }: { posture: Schemas['MachinePosture'] }) {
  const { report, results } = posture
  return (
    <div className="flex flex-col gap-3">
      {posture.consequence ? (
        <Alert tone="bad">
          {posture.consequence === 'quarantine'
            ? 'In quarantine by a posture policy.'
            : posture.consequence === 'restrict'
              ? 'Restricted by a posture policy: it opens no connection, and can be reached to be mended.'
              : 'Warned by a posture policy.'}
        </Alert>
      ) : null}
      {results.map((result) => (
        <div key={result.policy}>
          <h3 className="flex flex-wrap items-center gap-2 text-sm font-medium">
            {result.name}
            <Badge tone={result.failing_since ? 'bad' : 'good'}>
              {result.failing_since ? `failing since ${ago(result.failing_since)}` : 'passing'}
            </Badge>
            {result.failing_since && result.enforced_at ? (
              <span className="text-xs font-normal text-muted-foreground">
                {result.on_failure} {ago(result.enforced_at)}
              </span>
            ) : null}
          </h3>
          <ul className="mt-1 flex flex-col gap-1">
            {result.checks.map((check) => {
              const { Icon, className, label } = KNOWN[check.passed]
              return (
                <li key={check.check} className="flex gap-2 text-sm">
                  <Icon aria-label={label} className={`mt-0.5 size-4 shrink-0 ${className}`} />
                  <span className="[overflow-wrap:anywhere]">
                    {CHECKS[check.check]}: {check.detail}
                    {check.mend ? (
                      <span className="block text-muted-foreground">{check.mend}</span>
                    ) : null}
                  </span>
                </li>
              )
            })}
          </ul>
        </div>
      ))}
      {report ? (
        <dl className="grid grid-cols-[9rem_minmax(0,1fr)] gap-x-3 gap-y-1 text-sm">
          {report.os_name ? (
            <>
              <dt className="text-muted-foreground">System</dt>
              <dd>{report.os_name}</dd>
            </>
          ) : null}
          {SIGNALS.map(([key, label]) => (
            <div key={key} className="contents">
              <dt className="text-muted-foreground">{label}</dt>
              <dd className="[overflow-wrap:anywhere]">
                {report[key]?.state ?? 'unknown'}
                {report[key]?.detail ? (
                  <span className="text-muted-foreground"> · {report[key].detail}</span>
                ) : null}
              </dd>
            </div>
          ))}
        </dl>
      ) : (
        <p className="text-muted-foreground">
          The machine has not reported yet. Its agent does so by itself.
        </p>
      )}
    </div>
  )
}
