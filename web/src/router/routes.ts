/// <reference types="vite/client" />
import type { Component } from 'svelte';

export type Section = 'overview' | 'fleet' | 'jobs' | 'schedules' | 'library' | 'approvals' | 'updates' | 'audit' | 'settings';

export interface Route {
  section: Section;
  /** The screen, which is loaded when it is first shown. */
  load: () => Promise<{ default: Component<any> }>;
  params: Record<string, string>;
}

type Entry = [pattern: string, section: Section, load: Route['load']];

const ENTRIES: Entry[] = [
  ['/', 'overview', () => import('../overview/Overview.svelte')],
  ['/fleet', 'fleet', () => import('../fleet/Fleet.svelte')],
  ['/fleet/add', 'fleet', () => import('../fleet/AddAgent.svelte')],
  ['/fleet/:id', 'fleet', () => import('../fleet/agent/Agent.svelte')],
  ['/run', 'jobs', () => import('../commands/jobs/Run.svelte')],
  ['/jobs', 'jobs', () => import('../commands/jobs/Jobs.svelte')],
  ['/jobs/:id', 'jobs', () => import('../commands/jobs/Job.svelte')],
  ['/history', 'jobs', () => import('../commands/executions/History.svelte')],
  ['/executions/:id', 'jobs', () => import('../commands/executions/Execution.svelte')],
  ['/schedules', 'schedules', () => import('../schedules/Schedules.svelte')],
  ['/schedules/new', 'schedules', () => import('../schedules/ScheduleForm.svelte')],
  ['/schedules/calendars', 'schedules', () => import('../schedules/calendars/Calendars.svelte')],
  ['/schedules/calendars/new', 'schedules', () => import('../schedules/calendars/CalendarForm.svelte')],
  ['/schedules/calendars/:id', 'schedules', () => import('../schedules/calendars/CalendarForm.svelte')],
  ['/schedules/:id/edit', 'schedules', () => import('../schedules/ScheduleForm.svelte')],
  ['/schedules/:id', 'schedules', () => import('../schedules/Schedule.svelte')],
  ['/library', 'library', () => import('../library/Library.svelte')],
  ['/library/new', 'library', () => import('../library/ScriptForm.svelte')],
  ['/library/packages', 'library', () => import('../library/packages/Packages.svelte')],
  ['/library/packages/:name', 'library', () => import('../library/packages/Package.svelte')],
  ['/library/assignments', 'library', () => import('../library/assignments/Assignments.svelte')],
  ['/library/assignments/new', 'library', () => import('../library/assignments/AssignmentForm.svelte')],
  ['/library/assignments/:id/edit', 'library', () => import('../library/assignments/AssignmentForm.svelte')],
  ['/library/assignments/:id', 'library', () => import('../library/assignments/Assignment.svelte')],
  ['/library/services', 'library', () => import('../library/services/Services.svelte')],
  ['/library/services/:id', 'library', () => import('../library/services/Service.svelte')],
  ['/library/files', 'library', () => import('../library/files/Files.svelte')],
  ['/library/:id/edit', 'library', () => import('../library/ScriptForm.svelte')],
  ['/library/:id', 'library', () => import('../library/Script.svelte')],
  ['/approvals', 'approvals', () => import('../commands/approvals/Approvals.svelte')],
  ['/approvals/rules', 'approvals', () => import('../commands/approvals/ApprovalRules.svelte')],
  ['/approvals/ladder', 'approvals', () => import('../commands/approvals/Ladder.svelte')],
  ['/approvals/:id', 'approvals', () => import('../commands/approvals/Approval.svelte')],
  ['/updates', 'updates', () => import('../releases/Updates.svelte')],
  ['/updates/groups/new', 'updates', () => import('../releases/GroupForm.svelte')],
  ['/updates/groups/:id/edit', 'updates', () => import('../releases/GroupForm.svelte')],
  ['/updates/groups/:id', 'updates', () => import('../releases/Group.svelte')],
  ['/audit', 'audit', () => import('../access/Audit.svelte')],
  ['/settings', 'settings', () => import('../access/people/Members.svelte')],
  ['/settings/api-keys', 'settings', () => import('../access/keys/ApiKeys.svelte')],
  ['/settings/agent-keys', 'settings', () => import('../access/keys/AgentKeys.svelte')],
  ['/settings/certificates', 'settings', () => import('../access/certificates/Certificates.svelte')],
  ['/settings/integrations', 'settings', () => import('../integrations/Integrations.svelte')],
  ['/settings/integrations/new', 'settings', () => import('../integrations/IntegrationForm.svelte')],
  ['/settings/integrations/:id/edit', 'settings', () => import('../integrations/IntegrationForm.svelte')],
  ['/settings/integrations/:id', 'settings', () => import('../integrations/Integration.svelte')],
  ['/settings/hooks', 'settings', () => import('../integrations/Hooks.svelte')],
  ['/settings/hooks/new', 'settings', () => import('../integrations/HookForm.svelte')],
  ['/settings/hooks/:id/edit', 'settings', () => import('../integrations/HookForm.svelte')],
  ['/settings/hooks/:id', 'settings', () => import('../integrations/Hook.svelte')],
  ['/settings/alerts', 'settings', () => import('../integrations/alerts/Alerts.svelte')],
  ['/settings/alerts/rules/new', 'settings', () => import('../integrations/alerts/AlertRuleForm.svelte')],
  ['/settings/alerts/rules/:id/edit', 'settings', () => import('../integrations/alerts/AlertRuleForm.svelte')],
  ['/settings/alerts/rules/:id', 'settings', () => import('../integrations/alerts/AlertRule.svelte')],
  ['/settings/plan', 'settings', () => import('../access/tenants/Tenant.svelte')],
  ['/settings/storage', 'settings', () => import('../access/tenants/Storage.svelte')],
  ['/settings/account', 'settings', () => import('../access/people/Account.svelte')],
  ['/device', 'settings', () => import('../access/sign_in/Device.svelte')],
  ['/settings/sessions', 'settings', () => import('../access/people/Sessions.svelte')],
  // Every component in every state. No screen leads there.
  ['/ui', 'settings', () => import('../components/Components.svelte')],
];

export const SECTIONS: { section: Section; href: string }[] = [
  { section: 'overview', href: '/' },
  { section: 'fleet', href: '/fleet' },
  { section: 'jobs', href: '/jobs' },
  { section: 'schedules', href: '/schedules' },
  { section: 'library', href: '/library' },
  { section: 'approvals', href: '/approvals' },
  { section: 'updates', href: '/updates' },
  { section: 'audit', href: '/audit' },
  { section: 'settings', href: '/settings' },
];

export function match(path: string): Route | undefined {
  const given = path.replace(/\/+$/, '').split('/');
  for (const [pattern, section, load] of ENTRIES) {
    const wanted = pattern.replace(/\/+$/, '').split('/');
    if (wanted.length !== given.length) continue;
    const params: Record<string, string> = {};
    const fits = wanted.every((part, i) => {
      if (!part.startsWith(':')) return part === given[i];
      params[part.slice(1)] = decodeURIComponent(given[i] ?? '');
      return given[i] !== '';
    });
    if (fits) return { section, load, params };
  }
  return undefined;
}
