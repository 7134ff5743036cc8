/** The editor of the policy document: HuJSON, with completion and faults in place. */
import {
  autocompletion,
  type CompletionContext,
  type CompletionResult,
  closeBrackets,
  closeBracketsKeymap,
  completionKeymap,
} from '@codemirror/autocomplete'
import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands'
import {
  bracketMatching,
  HighlightStyle,
  indentOnInput,
  indentUnit,
  StreamLanguage,
  syntaxHighlighting,
} from '@codemirror/language'
import { json } from '@codemirror/legacy-modes/mode/javascript'
import { type Diagnostic, lintGutter, lintKeymap, setDiagnostics } from '@codemirror/lint'
import { highlightSelectionMatches, searchKeymap } from '@codemirror/search'
import { EditorState, type Text } from '@codemirror/state'
import {
  drawSelection,
  EditorView,
  highlightActiveLine,
  highlightActiveLineGutter,
  keymap,
  lineNumbers,
} from '@codemirror/view'
import { tags } from '@lezer/highlight'
import type { Schemas } from '@/api/client'
import { completionsAt, type Known } from './completion'

const colours = HighlightStyle.define([
  { tag: tags.comment, color: 'var(--muted-foreground)', fontStyle: 'italic' },
  { tag: tags.propertyName, color: 'var(--primary)' },
  { tag: tags.string, color: 'var(--info)' },
  { tag: [tags.number, tags.bool, tags.null, tags.atom], color: 'var(--warn)' },
])

const look = EditorView.theme({
  '&': { fontSize: '13px', height: '100%', backgroundColor: 'var(--card)' },
  '&.cm-focused': { outline: 'none' },
  '.cm-scroller': { fontFamily: 'var(--font-mono)', lineHeight: '1.55' },
  '.cm-content': { caretColor: 'var(--foreground)', padding: '8px 0' },
  '.cm-cursor': { borderLeftColor: 'var(--foreground)' },
  '.cm-gutters': {
    backgroundColor: 'var(--card)',
    color: 'var(--muted-foreground)',
    border: 'none',
  },
  '.cm-activeLine, .cm-activeLineGutter': {
    backgroundColor: 'color-mix(in srgb, var(--accent) 45%, transparent)',
  },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground':
    { backgroundColor: 'color-mix(in srgb, var(--ring) 30%, transparent)' },
  '.cm-tooltip': {
    backgroundColor: 'var(--popover)',
    border: '1px solid var(--border)',
    borderRadius: '6px',
    color: 'var(--foreground)',
  },
  '.cm-tooltip-autocomplete ul li[aria-selected]': {
    backgroundColor: 'var(--accent)',
    color: 'var(--foreground)',
  },
  '.cm-panels': { backgroundColor: 'var(--muted)', color: 'var(--foreground)' },
  '.cm-diagnostic': { fontFamily: 'var(--font-sans)' },
})

function offset(document: Text, at: Schemas['Position']): number {
  const line = document.line(Math.min(Math.max(at.line, 1), document.lines))
  // Columns count characters, as people do; the editor counts UTF-16.
  const before = [...line.text].slice(0, Math.max(at.column - 1, 0)).join('').length
  return line.from + before
}

/** Marks faults where they are. */
export function mark(view: EditorView, faults: readonly Schemas['Fault'][]) {
  const { doc } = view.state
  const diagnostics = faults.map((fault): Diagnostic => {
    const from = offset(doc, fault.at)
    const word = view.state.wordAt(from)
    const to = Math.max(word?.to ?? from, Math.min(from + 1, doc.length))
    return { from, to, severity: 'error', message: fault.message }
  })
  view.dispatch(setDiagnostics(view.state, diagnostics))
}

/** Puts the cursor somewhere. */
export function goTo(view: EditorView, at: Schemas['Position']) {
  const anchor = offset(view.state.doc, at)
  view.dispatch({
    selection: { anchor },
    effects: EditorView.scrollIntoView(anchor, { y: 'center' }),
  })
  view.focus()
}

export function makeEditor({
  parent,
  text,
  readOnly,
  known,
  onChange,
  onSave,
}: {
  parent: HTMLElement
  text: string
  readOnly: boolean
  known: () => Known
  onChange: (text: string) => void
  onSave: () => void
}): EditorView {
  const complete = (context: CompletionContext): CompletionResult | null => {
    const word = context.matchBefore(/[\w:.@*-]*/)
    if (!word || (word.from === word.to && !context.explicit)) return null
    const before = context.state.sliceDoc(0, word.from)
    const options = completionsAt(before, known())
    return options.length === 0 ? null : { from: word.from, options, validFor: /^[\w:.@*-]*$/ }
  }
  return new EditorView({
    parent,
    state: EditorState.create({
      doc: text,
      extensions: [
        lineNumbers(),
        lintGutter(),
        highlightActiveLine(),
        highlightActiveLineGutter(),
        highlightSelectionMatches(),
        history(),
        drawSelection(),
        indentOnInput(),
        indentUnit.of('  '),
        bracketMatching(),
        closeBrackets(),
        StreamLanguage.define(json),
        syntaxHighlighting(colours),
        autocompletion({ override: [complete] }),
        look,
        EditorView.lineWrapping,
        EditorView.contentAttributes.of({
          tabindex: '0',
          'aria-label': 'Policy document. Press Escape, then Tab, to leave the editor.',
        }),
        EditorState.readOnly.of(readOnly),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) onChange(update.state.doc.toString())
        }),
        keymap.of([
          {
            key: 'Mod-s',
            run: () => {
              onSave()
              return true
            },
          },
          ...closeBracketsKeymap,
          ...defaultKeymap,
          ...searchKeymap,
          ...historyKeymap,
          ...completionKeymap,
          ...lintKeymap,
          indentWithTab,
        ]),
      ],
    }),
  })
}
