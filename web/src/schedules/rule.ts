import type { Schemas } from '../api/client';

export type Rule = Schemas['RuleSpec'];
export type Kind = 'cron' | 'every' | 'at';
export const UNITS = { minutes: 60_000, hours: 3_600_000, days: 86_400_000 } as const;
export type Unit = keyof typeof UNITS;

/** What the form shows of a rule. */
export interface RuleDraft {
  kind: Kind;
  cron: string;
  zone: string;
  every: string;
  unit: Unit;
  at: string;
}

/** A time as a field of the browser wants it: in its own zone, without an offset. */
export function toField(instant: string | null | undefined): string {
  if (!instant) return '';
  const date = new Date(instant);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
export const fromField = (field: string): string | undefined => (field ? new Date(field).toISOString() : undefined);

export function draftOf(rule: Rule | undefined): RuleDraft {
  const every = rule?.every_ms ?? UNITS.hours;
  const unit = (Object.keys(UNITS) as Unit[]).reverse().find((name) => every % UNITS[name] === 0) ?? 'minutes';
  return {
    kind: rule?.every_ms ? 'every' : rule?.at ? 'at' : 'cron',
    cron: rule?.cron ?? '30 2 * * *',
    zone: rule?.cron ? (rule.time_zone ?? 'UTC') : Intl.DateTimeFormat().resolvedOptions().timeZone,
    every: String(every / UNITS[unit]),
    unit,
    at: toField(rule?.at),
  };
}

/** Nothing while the form is incomplete. */
export function ruleOf(draft: RuleDraft, before?: Rule): Rule | undefined {
  if (draft.kind === 'cron') return draft.cron.trim() ? { cron: draft.cron.trim(), time_zone: draft.zone || 'UTC' } : undefined;
  if (draft.kind === 'at') return draft.at ? { at: fromField(draft.at)! } : undefined;
  const every = Math.round(Number(draft.every) * UNITS[draft.unit]);
  return every >= 1_000 ? { every_ms: every, ...(before?.anchor_at ? { anchor_at: before.anchor_at } : {}) } : undefined;
}
