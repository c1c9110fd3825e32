/** Sentences about work that has not ended: why, what happens next and when, and what a person can do. */

/** What the sentences name. Instants are those of the API; the page writes them in its own form. */
export interface OpenFacts { agent: string; since: string; expires: string; lost: string; approvalUntil: string; startedAt?: string | undefined; endsBy: string; requestedAt: string; wave: number; attempt: number; notBefore: string; lock: string; holder: string; /** “2 of 3 (Release)” */ step?: string | undefined }
export interface JobFacts { ended: number; active: number; queued: number; approvalUntil?: string | undefined }

export const openEn = {
  waits_for_approval: (f: OpenFacts) => `It waits for another person's approval, and expires at ${f.approvalUntil} without one. Another person can approve or refuse it; you can cancel it.`,
  waits_for_wave: (f: OpenFacts) => `It waits for wave ${f.wave} of its rollout, which starts when the waves before it have ended. Resume the job if it is paused or halted, or cancel it.`,
  held_by_rollout: () => 'It is held until its rollout starts it. Resume or cancel the job.',
  agent_offline: (f: OpenFacts) => `${f.agent} is offline since ${f.since}. It starts when the agent connects, and expires at ${f.expires} otherwise. Start the agent on its host, or cancel it.`,
  waits_for_lock: (f: OpenFacts) => `It waits for the lock ${f.lock} on ${f.agent}, which execution ${f.holder} holds. It is sent when that one has ended, and expires at ${f.expires} otherwise. You can cancel either.`,
  waits_for_retry: (f: OpenFacts) => `It is attempt ${f.attempt}, and is sent at ${f.notBefore} or when ${f.agent} has a free slot after that. It expires at ${f.expires} otherwise. You can cancel it.`,
  no_free_slot: (f: OpenFacts) => `${f.agent} is connected and has no free slot. It is sent when one of its executions ends, and expires at ${f.expires} otherwise. Cancel it or one of the others.`,
  sent: (f: OpenFacts) => `It was sent to ${f.agent}, which has not reported its start. It starts when the host has a free slot. You can cancel it.`,
  sent_agent_offline: (f: OpenFacts) => `It was sent to ${f.agent}, which is offline since ${f.since}. Whether it ran is known when the agent reconnects; after ${f.lost} it is lost. You can cancel it.`,
  running: (f: OpenFacts) => (f.startedAt ? `It runs on ${f.agent} since ${f.startedAt}${f.step ? `, now step ${f.step}` : ''}. The host ends it at ${f.endsBy} at the latest. You can cancel it.` : `It runs on ${f.agent}. You can cancel it.`),
  running_agent_offline: (f: OpenFacts) => `It started on ${f.agent}, which is offline since ${f.since}, and continues there${f.step ? `, with step ${f.step} or a later one` : ''}. Its result arrives when the agent reconnects; after ${f.lost} it is lost. You can cancel it.`,
  cancelling: (f: OpenFacts) => `Its cancellation was requested at ${f.requestedAt}. ${f.agent} ends it and reports the result.`,
  cancelling_agent_offline: (f: OpenFacts) => `Its cancellation was requested at ${f.requestedAt}. ${f.agent} is offline since ${f.since}, and ends it when it reconnects; after ${f.lost} it is lost.`,
};
export const jobOpenEn = {
  progress: (f: JobFacts) => `Executions: ${f.ended} ended, ${f.active} on their hosts, ${f.queued} queued.`,
  running: 'The job ends when all have ended; each execution says what it waits for. You can cancel the job.',
  paused: 'A person paused it: no further execution starts until a person resumes it. Resume, abort or cancel it.',
  awaiting: (f: JobFacts) => (f.approvalUntil ? `It waits for another person's approval, and expires at ${f.approvalUntil} without one. Another person can approve or refuse it; you can cancel it.` : 'It waits for another person’s approval. You can cancel it.'),
  step: (number: number, count: number, name: string | undefined) => `${number} of ${count}${name ? ` (${name})` : ''}`,
};

export const openDe: typeof openEn = {
  waits_for_approval: (f) => `Sie wartet auf die Freigabe durch jemand anders und verfällt ohne sie um ${f.approvalUntil}. Jemand anders kann sie freigeben oder ablehnen; Sie können sie abbrechen.`,
  waits_for_wave: (f) => `Sie wartet auf Welle ${f.wave} ihres Rollouts, die beginnt, wenn die Wellen davor zu Ende sind. Setzen Sie den Job fort, wenn er pausiert oder angehalten ist, oder brechen Sie sie ab.`,
  held_by_rollout: () => 'Sie wird zurückgehalten, bis ihr Rollout sie startet. Setzen Sie den Job fort, oder brechen Sie ihn ab.',
  agent_offline: (f) => `${f.agent} ist offline seit ${f.since}. Sie beginnt, wenn sich der Agent verbindet, und verfällt sonst um ${f.expires}. Starten Sie den Agenten auf seinem Host, oder brechen Sie sie ab.`,
  waits_for_lock: (f) => `Sie wartet auf die Sperre ${f.lock} auf ${f.agent}, die die Ausführung ${f.holder} hält. Sie wird gesendet, wenn jene zu Ende ist, und verfällt sonst um ${f.expires}. Sie können beide abbrechen.`,
  waits_for_retry: (f) => `Sie ist Versuch ${f.attempt} und wird um ${f.notBefore} gesendet, oder wenn ${f.agent} danach einen freien Platz hat. Sonst verfällt sie um ${f.expires}. Sie können sie abbrechen.`,
  no_free_slot: (f) => `${f.agent} ist verbunden und hat keinen freien Platz. Sie wird gesendet, wenn eine seiner Ausführungen endet, und verfällt sonst um ${f.expires}. Brechen Sie sie oder eine der anderen ab.`,
  sent: (f) => `Sie wurde an ${f.agent} gesendet, der ihren Beginn noch nicht gemeldet hat. Sie beginnt, wenn der Host einen freien Platz hat. Sie können sie abbrechen.`,
  sent_agent_offline: (f) => `Sie wurde an ${f.agent} gesendet, der offline ist seit ${f.since}. Ob sie lief, ist bekannt, wenn er sich wieder verbindet; nach ${f.lost} gilt sie als verloren. Sie können sie abbrechen.`,
  running: (f) => (f.startedAt ? `Sie läuft auf ${f.agent} seit ${f.startedAt}${f.step ? `, jetzt Schritt ${f.step}` : ''}. Der Host beendet sie spätestens um ${f.endsBy}. Sie können sie abbrechen.` : `Sie läuft auf ${f.agent}. Sie können sie abbrechen.`),
  running_agent_offline: (f) => `Sie begann auf ${f.agent}, der offline ist seit ${f.since}, und läuft dort weiter${f.step ? `, mit Schritt ${f.step} oder einem späteren` : ''}. Ihr Ergebnis kommt, wenn er sich wieder verbindet; nach ${f.lost} gilt sie als verloren. Sie können sie abbrechen.`,
  cancelling: (f) => `Ihr Abbruch wurde um ${f.requestedAt} verlangt. ${f.agent} beendet sie und meldet das Ergebnis.`,
  cancelling_agent_offline: (f) => `Ihr Abbruch wurde um ${f.requestedAt} verlangt. ${f.agent} ist offline seit ${f.since} und beendet sie, wenn er sich wieder verbindet; nach ${f.lost} gilt sie als verloren.`,
};
export const jobOpenDe: typeof jobOpenEn = {
  progress: (f) => `Ausführungen: ${f.ended} beendet, ${f.active} auf ihren Hosts, ${f.queued} in der Warteschlange.`,
  running: 'Der Job endet, wenn alle beendet sind; jede Ausführung sagt, worauf sie wartet. Sie können den Job abbrechen.',
  paused: 'Jemand hat ihn pausiert: Keine weitere Ausführung beginnt, bis ihn jemand fortsetzt. Setzen Sie ihn fort, oder brechen Sie ihn ab.',
  awaiting: (f) => (f.approvalUntil ? `Er wartet auf die Freigabe durch jemand anders und verfällt ohne sie um ${f.approvalUntil}. Jemand anders kann ihn freigeben oder ablehnen; Sie können ihn abbrechen.` : 'Er wartet auf die Freigabe durch jemand anders. Sie können ihn abbrechen.'),
  step: (number, count, name) => `${number} von ${count}${name ? ` (${name})` : ''}`,
};
