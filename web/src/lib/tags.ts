/** Tags as people type them: with or without `tag:`, between spaces or commas. */
export function parseTags(text: string): string[] {
  const words = text.split(/[\s,]+/).filter(Boolean)
  return [...new Set(words.map((word) => (word.startsWith('tag:') ? word : `tag:${word}`)))]
}
