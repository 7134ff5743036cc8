// Runs before the first paint, so that a dark page does not flash white.
;(() => {
  let choice = 'system'
  try {
    choice = localStorage.getItem('ztna-theme') ?? 'system'
  } catch {}
  const dark =
    choice === 'dark' || (choice === 'system' && matchMedia('(prefers-color-scheme: dark)').matches)
  document.documentElement.classList.toggle('dark', dark)
})()
