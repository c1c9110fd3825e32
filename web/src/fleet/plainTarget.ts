import type { Schemas } from '../api/client';

const VALUE = '[A-Za-z0-9._:/\\-+@~]+';
const TAGS = new RegExp(`^tag:${VALUE}(\\s*(&|\\band\\b)\\s*tag:${VALUE})*$`);
const IDS = /^id:[0-9a-fA-F-]{36}(\s*(\||\bor\b)\s*id:[0-9a-fA-F-]{36})*$/;
const values = (text: string, fact: string): string[] => [...text.matchAll(new RegExp(`${fact}:(${VALUE})`, 'g'))].map((match) => match[1]!);

/** The expression as tags or ids, which is what secrets may be sent to; undefined if it says more than these. */
export function plainTarget(expression: string): Schemas['TargetSpec'] | undefined {
  const text = expression.trim();
  if (TAGS.test(text)) return { tags: values(text, 'tag') };
  if (IDS.test(text)) return { ids: values(text, 'id').map((id) => id.toLowerCase()) };
  return undefined;
}
