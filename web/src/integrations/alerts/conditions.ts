import type { Schemas } from '../../api/client';

export type Metric = Schemas['AlertMetric'];
export type Alert = Schemas['AlertView'];
export const METRICS: Metric[] = ['agents_online', 'cpu_percent', 'memory_percent', 'disk_percent', 'load_1m', 'certificate_days'];

/** An alert opens below the threshold of these metrics, and above that of the others. */
export const isBelow = (metric: Metric): boolean => metric === 'agents_online' || metric === 'certificate_days';
const isShare = (metric: Metric): boolean => metric.endsWith('_percent');

/** A value with the precision that the metric has, and its unit. */
export function showValue(metric: Metric, value: number, locale: string): string {
  const digits = metric === 'load_1m' ? 2 : isShare(metric) || metric === 'certificate_days' ? 1 : 0;
  const number = new Intl.NumberFormat(locale, { maximumFractionDigits: digits }).format(value);
  return isShare(metric) ? `${number} %` : number;
}

/** A number as people type it, with a comma too; undefined if it is none. */
export function readNumber(text: string): number | undefined {
  const typed = text.trim().replace(',', '.');
  return /^\d+(\.\d+)?$/.test(typed) ? Number(typed) : undefined;
}

const MINUTE_MS = 60_000;
export const asMinutes = (ms: number): string => String(ms / MINUTE_MS);
export const fromMinutes = (text: string): number | undefined => {
  const minutes = readNumber(text);
  return minutes === undefined ? undefined : Math.round(minutes * MINUTE_MS);
};

export interface OpenRule {
  ruleId: string;
  name: string;
  /** The earliest of its open alerts. */
  since: string;
  alerts: Alert[];
}

/** The open alerts by rule: a rule that holds for a thousand hosts is one thing that needs a person. */
export function byRule(alerts: readonly Alert[]): OpenRule[] {
  const rules = new Map<string, OpenRule>();
  for (const alert of alerts) {
    const known = rules.get(alert.rule_id);
    if (!known) {
      rules.set(alert.rule_id, { ruleId: alert.rule_id, name: alert.rule_name, since: alert.opened_at, alerts: [alert] });
      continue;
    }
    known.alerts.push(alert);
    if (alert.opened_at < known.since) known.since = alert.opened_at;
  }
  return [...rules.values()];
}

/** Open alerts first. One that was resolved between the two reads is in both lists, and is resolved. */
export function openFirst(open: readonly Alert[], resolved: readonly Alert[]): Alert[] {
  const ended = new Set(resolved.map(({ id }) => id));
  return [...open.filter(({ id }) => !ended.has(id)), ...resolved];
}
