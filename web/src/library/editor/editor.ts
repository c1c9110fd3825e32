/** CodeMirror, which only the screens of scripts load. */
import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
import { HighlightStyle, StreamLanguage, bracketMatching, indentOnInput, indentUnit, syntaxHighlighting } from '@codemirror/language';
import { powerShell } from '@codemirror/legacy-modes/mode/powershell';
import { javascript } from '@codemirror/legacy-modes/mode/javascript';
import { python } from '@codemirror/legacy-modes/mode/python';
import { shell } from '@codemirror/legacy-modes/mode/shell';
import { highlightSelectionMatches, search, searchKeymap } from '@codemirror/search';
import { Compartment, EditorState, type Extension } from '@codemirror/state';
import { EditorView, drawSelection, highlightActiveLine, highlightActiveLineGutter, highlightSpecialChars, keymap, lineNumbers } from '@codemirror/view';
import { tags } from '@lezer/highlight';

const colours = HighlightStyle.define([
  { tag: tags.comment, color: 'var(--terminal-quiet)', fontStyle: 'italic' },
  { tag: [tags.string, tags.special(tags.string)], color: 'var(--good)' },
  { tag: [tags.keyword, tags.controlKeyword, tags.operatorKeyword], color: 'var(--accent)' },
  { tag: [tags.number, tags.bool, tags.atom], color: 'var(--lost)' },
  { tag: [tags.variableName, tags.definition(tags.variableName)], color: 'var(--terminal-text)' },
  { tag: [tags.standard(tags.variableName), tags.attributeName], color: 'var(--warn)' },
]);

const look = EditorView.theme({
  '&': { color: 'var(--terminal-text)', backgroundColor: 'var(--terminal)', fontSize: '12px', height: '100%' },
  '&.cm-focused': { outline: '2px solid var(--accent)', outlineOffset: '-2px' },
  '.cm-scroller': { fontFamily: 'var(--font-mono)', lineHeight: '20px' },
  '.cm-content': { caretColor: 'var(--terminal-text)', padding: '8px 0' },
  '.cm-cursor': { borderLeftColor: 'var(--terminal-text)' },
  '.cm-gutters': { backgroundColor: 'var(--terminal)', color: 'var(--terminal-quiet)', borderRight: '1px solid var(--line)' },
  '.cm-activeLine, .cm-activeLineGutter': { backgroundColor: 'var(--hover)' },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground': { backgroundColor: 'var(--chosen)' },
  '.cm-selectionMatch': { backgroundColor: 'var(--warn-ground)' },
  '.cm-searchMatch': { backgroundColor: 'var(--warn-ground)', outline: '1px solid var(--warn)' },
  '.cm-specialChar': { color: 'var(--warn)' },
  '.cm-panels': { backgroundColor: 'var(--panel)', color: 'var(--text)', fontFamily: 'var(--font-sans)' },
  '.cm-button, .cm-textfield': { backgroundColor: 'var(--panel)', backgroundImage: 'none', color: 'var(--text)', border: '1px solid var(--strong-line)', borderRadius: '4px' },
});

function languageOf(interpreter: string): Extension {
  const program = interpreter.split('/').at(-1) ?? '';
  if (program.startsWith('python')) return StreamLanguage.define(python);
  if (program.startsWith('node')) return StreamLanguage.define(javascript);
  if (program === 'powershell' || program === 'pwsh') return StreamLanguage.define(powerShell);
  return /sh$/.test(program) ? StreamLanguage.define(shell) : [];
}

// Texts of scripts may come from elsewhere: what hides or reorders text is shown as its code.
const hidden = /[\u202a-\u202e\u2060-\u206f\u061c\u200e\u200f\u034f\u115f\u1160\u3164\uffa0\u{e0000}-\u{e0fff}]/gu;
const showHidden = highlightSpecialChars({
  addSpecialChars: hidden,
  render: (code, description) => {
    const mark = document.createElement('span');
    mark.className = 'cm-specialChar';
    mark.title = description ?? '';
    mark.textContent = `\\u{${code.toString(16).padStart(4, '0')}}`;
    return mark;
  },
});

export interface Editor {
  setText: (text: string) => void;
  setInterpreter: (interpreter: string) => void;
  /** The number of the first line: the text may be a part of another one. */
  setFirstLine: (number: number) => void;
  destroy: () => void;
}

interface Options {
  label: string;
  text: string;
  interpreter: string;
  firstLine: number;
  isReadOnly: boolean;
  onChange: (text: string) => void;
  onSave: () => void;
}

/** Shows an editor in the element. Its styles are in a shadow root, because the policy of the page allows none inline. */
export function openEditor(element: HTMLElement, options: Options): Editor {
  const root = element.shadowRoot ?? element.attachShadow({ mode: 'open' });
  const language = new Compartment();
  const numbers = new Compartment();
  const numbersFrom = (first: number): Extension => lineNumbers({ formatNumber: (number) => String(number + first - 1) });
  const view = new EditorView({
    root,
    parent: root,
    state: EditorState.create({
      doc: options.text,
      extensions: [
        numbers.of(numbersFrom(options.firstLine)),
        showHidden,
        drawSelection(),
        history(),
        bracketMatching(),
        indentOnInput(),
        indentUnit.of('  '),
        search({ top: true }),
        highlightSelectionMatches(),
        language.of(languageOf(options.interpreter)),
        syntaxHighlighting(colours),
        look,
        EditorView.lineWrapping,
        EditorView.contentAttributes.of({ 'aria-label': options.label }),
        options.isReadOnly ? [EditorState.readOnly.of(true)] : [highlightActiveLine(), highlightActiveLineGutter()],
        keymap.of([
          { key: 'Mod-s', preventDefault: true, run: () => (options.onSave(), true) },
          // Tab indents; Escape and then Tab leaves the editor, so that the keyboard is not trapped.
          ...(options.isReadOnly ? [] : [indentWithTab]),
          ...searchKeymap,
          ...historyKeymap,
          ...defaultKeymap,
        ]),
        EditorView.updateListener.of((update) => update.docChanged && options.onChange(update.state.doc.toString())),
      ],
    }),
  });
  return {
    setText: (text) => {
      if (text !== view.state.doc.toString()) view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } });
    },
    setFirstLine: (number) => view.dispatch({ effects: numbers.reconfigure(numbersFrom(number)) }),
    setInterpreter: (interpreter) => view.dispatch({ effects: language.reconfigure(languageOf(interpreter)) }),
    destroy: () => view.destroy(),
  };
}
