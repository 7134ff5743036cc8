/** Countries by the codes that rules name them with: ISO 3166-1, and Kosovo as databases of addresses have it. */

/** Codes that browsers have names for and that are no countries: unions, test codes, islands of a country. */
const NO_COUNTRY = new Set('AC CP CQ DG EA EU EZ IC QO TA UN XA XB ZZ'.split(' '))
const LETTERS = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZ']

/** Code and English name of every country. */
export function countries(): Array<readonly [string, string]> {
  const names = new Intl.DisplayNames('en', { type: 'region', fallback: 'none' })
  return LETTERS.flatMap((first) =>
    LETTERS.flatMap((second) => {
      const code = `${first}${second}`
      const name = NO_COUNTRY.has(code) ? undefined : names.of(code)
      // A code of the past is read as the one that came after it, as in `DD` for `DE`.
      const today = new Intl.Locale(`und-${code}`).region === code
      return name && today ? [[code, name] as const] : []
    }),
  )
}
