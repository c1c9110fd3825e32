import type { Schemas } from '../api/client';

/** A parameter as the form has it: every field is a text. */
export interface Declared {
  name: string;
  type: Schemas['ParameterType'];
  choices: string;
  default: string;
  pattern: string;
  help: string;
  required: boolean;
}

export const emptyParameter = (): Declared => ({ name: '', type: 'string', choices: '', default: '', pattern: '', help: '', required: false });

export const fromView = (view: Schemas['ScriptParameterView']): Declared => ({
  name: view.name,
  type: view.type ?? 'string',
  choices: (view.choices ?? []).join(', '),
  default: view.default ?? '',
  pattern: view.pattern ?? '',
  help: view.help ?? '',
  required: view.required ?? false,
});

export function toView(row: Declared): Schemas['ScriptParameterView'] {
  return {
    name: row.name.trim(),
    type: row.type,
    ...(row.required ? { required: true } : {}),
    ...(row.type === 'choice' ? { choices: row.choices.split(',').map((choice) => choice.trim()).filter(Boolean) } : {}),
    ...(row.type !== 'secret' && row.type !== 'file' && row.default !== '' ? { default: row.default } : {}),
    ...((row.type === 'string' || row.type === 'secret') && row.pattern ? { pattern: row.pattern } : {}),
    ...(row.help ? { help: row.help } : {}),
  };
}
