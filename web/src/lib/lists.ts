/** Texts with one thing a line, or between spaces and commas. */
export function lines(text: string): string[] {
  return text.split(/[\s,]+/).filter(Boolean)
}

let last = 0

/** Rows that a form edits, each with an id that stays while others come and go. */
export function withIds<T extends object>(rows: readonly T[]): Array<T & { id: number }> {
  return rows.map((row) => {
    last += 1
    return { ...row, id: last }
  })
}
