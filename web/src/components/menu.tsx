import type { LucideIcon } from 'lucide-react'
import {
  type ComponentProps,
  type KeyboardEvent,
  lazy,
  type ReactNode,
  Suspense,
  useRef,
  useState,
} from 'react'
import { Button } from '@/components/ui/button'

/** One line of a menu: a heading, a rule, something to do, or something to switch. */
export type MenuEntry =
  | { heading: ReactNode }
  | 'rule'
  | {
      text: ReactNode
      run: () => unknown
      icon?: LucideIcon
      /** What is in force now has a tick, which says this. */
      chosen?: string
      destructive?: boolean
      disabled?: boolean
    }
  | { text: ReactNode; checked: boolean; toggle: (on: boolean) => void; n?: number }

const loadList = () => import('@/components/menu-list')
const MenuList = lazy(loadList)

type ButtonProps = ComponentProps<typeof Button>

/** A button with a menu. The code of menus is fetched when somebody is about to open the first. */
export function Menu({
  entries,
  align = 'start',
  listClass,
  ...button
}: Omit<ButtonProps, 'onClick'> & {
  entries: () => MenuEntry[]
  align?: 'start' | 'end'
  listClass?: string
}) {
  const [near, setNear] = useState(false)
  const [open, setOpen] = useState(false)
  const ref = useRef<HTMLButtonElement>(null)
  const approach = () => setNear(true)
  const show = () => {
    setNear(true)
    setOpen(true)
  }
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== 'ArrowDown') return
    event.preventDefault()
    event.stopPropagation()
    show()
  }
  return (
    <span className="relative inline-flex min-w-0 max-w-full">
      <Button
        {...button}
        ref={ref}
        aria-haspopup="menu"
        aria-expanded={open}
        onPointerEnter={approach}
        onFocus={approach}
        onKeyDown={onKeyDown}
        onClick={show}
      />
      {near ? (
        <Suspense fallback={null}>
          <MenuList
            button={ref}
            open={open}
            onOpenChange={setOpen}
            entries={entries}
            align={align}
            className={listClass}
          />
        </Suspense>
      ) : null}
    </span>
  )
}
