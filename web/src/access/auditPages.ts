/** Where a subject of the audit is shown. What was deleted has no page any more, which its page says. */
const PAGES: Record<string, string> = { agent: '/fleet/', job: '/jobs/', execution: '/executions/', schedule: '/schedules/', script: '/library/', group: '/updates/groups/', integration: '/settings/integrations/', hook: '/settings/hooks/', calendar: '/schedules/calendars/', approval: '/approvals/', assignment: '/library/assignments/' };

export const pageOf = (subject: { subject_kind: string; subject_id?: string | null | undefined }): string | undefined =>
  subject.subject_id && PAGES[subject.subject_kind] ? `${PAGES[subject.subject_kind]}${subject.subject_id}` : undefined;

/** Ids begin with the time, so that those of one hour differ in their ends only. */
export const shortened = (id: string | null | undefined): string | undefined => (id && id.length > 12 ? `…${id.slice(-8)}` : (id ?? undefined));
