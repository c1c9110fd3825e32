import { expect, test } from 'vitest';
import { plainTarget } from '../fleet/plainTarget';
import { draftOfJob, isOtherJob, jobOf, type ScheduledJob } from './job';

const stored = { script: 'backup', target: { tags: ['db', 'eu'] }, parameters: { MODE: 'fast' }, rollout: { wave_size: '50%', max_failures: 1 }, timeout_ms: 60_000, retries: { count: 3, backoff_ms: 30_000 }, lock: 'backup' } as unknown as ScheduledJob;

test('a form without changes asks for the same job', () => {
  const draft = draftOfJob(stored);
  expect(isOtherJob(draft, stored)).toBe(false);
  expect(jobOf(draft, stored, undefined, false)).toEqual(stored);
  expect(jobOf(draft, stored, undefined, true)).toEqual(stored);
  const command = { argv: ['uptime', '-p'], target: { expression: 'all' } } as unknown as ScheduledJob;
  expect(isOtherJob(draftOfJob(command), command)).toBe(false);
  // The field of the other kind is not shown.
  expect(isOtherJob({ ...draftOfJob(command), script: 'typed before' }, command)).toBe(false);
});

test('each change of script, command, parameters, target, waves, retries and lock is another job', () => {
  const draft = draftOfJob(stored);
  for (const change of [{ script: 'other' }, { parameters: '' }, { target: 'tag:db' }, { waves: '' }, { retries: '' }, { backoff: '5' }, { lock: '' }, { offline: 'skip' as const }, { mode: 'argv' as const, argv: 'uptime' }]) expect(isOtherJob({ ...draft, ...change }, stored), JSON.stringify(change)).toBe(true);
});

test('a target of tags or ids is recognised, and one that says more is not', () => {
  expect(plainTarget(' tag:db ')).toEqual({ tags: ['db'] });
  expect(plainTarget('tag:db & tag:eu and tag:x')).toEqual({ tags: ['db', 'eu', 'x'] });
  const [first, second] = ['01a208cb-abda-7765-9e57-eff47289e49c', '01A208CB-ABDA-7765-9E57-EFF47289E49D'];
  expect(plainTarget(`id:${first} | id:${second}`)).toEqual({ ids: [first, second.toLowerCase()] });
  for (const text of ['', 'all', 'tag:w*', 'tag:"a b"', 'tag:db | tag:eu', '!tag:db', 'tag:db & os:linux', '(tag:db)', 'tag:db tag:eu', `id:${first} & id:${second}`, 'tag:', 'name:tag:db']) expect(plainTarget(text), text).toBeUndefined();
});

test('secrets go to tags or ids, and other jobs keep the expression', () => {
  const draft = { ...draftOfJob(stored), target: 'tag:db' };
  expect(jobOf(draft, stored, undefined, true).target).toEqual({ tags: ['db'] });
  expect(jobOf(draft, stored, 7, false)).toMatchObject({ target: { expression: 'tag:db' }, confirm_agent_count: 7 });
  // What cannot be tags or ids is sent as it is, and the server says why not.
  expect(jobOf({ ...draft, target: 'os:linux' }, undefined, undefined, true).target).toEqual({ expression: 'os:linux' });
  const before = { ...stored, target: { expression: 'tag:db' } } as ScheduledJob;
  expect(jobOf(draftOfJob(before), before, undefined, true).target).toEqual({ tags: ['db'] });
});

test('steps and what happens to agents that are offline survive a form that does not change them', () => {
  const steps = [{ argv: ['systemctl', 'stop', 'shop'], name: 'Stop' }, { script: 'deploy', secrets: ['TOKEN'], on_failure: 'continue' }];
  for (const work of [{ steps, offline: 'fail' }, { steps, rollout: { wave_size: 2, offline: 'last_wave' } }, { script: 'backup', offline: 'skip' }]) {
    const before = { ...work, target: { tags: ['db'] } } as unknown as ScheduledJob;
    const draft = draftOfJob(before);
    expect(isOtherJob(draft, before)).toBe(false);
    expect(jobOf(draft, before, undefined, false)).toEqual(before);
  }
  const before = { steps, target: { tags: ['db'] } } as unknown as ScheduledJob;
  expect(isOtherJob({ ...draftOfJob(before), steps: draftOfJob(before).steps.slice(1) }, before)).toBe(true);
});
