/** Texts of versions that reach the agents of an assignment in waves. */
export const wavesEn = {
  title: 'Rollout', runs: (wave: number, version: string) => (wave === 0 ? `${version} reaches the agents in waves. The first wave has not started.` : `${version} reaches the agents in waves. Wave ${wave} has started.`), keeps: (former: string) => `The other agents keep ${former}.`, keepsNone: 'The other agents get nothing yet.',
  halted: (wave: number, limit: string) => `Halted in wave ${wave}: more agents failed than the limit of ${limit}. Resume, finish or abort the rollout.`,
  resume: 'Resume', finish: 'Bring it to all', abort: 'Go back to the former version', reached: (count: number, all: number) => `${count} of ${all} agents have been reached`,
  inWaves: 'In waves', size: 'Agents of a wave', sizeHint: 'A number, or a percentage such as 10%. Empty: all at once.', failures: 'Tolerated failures', failuresHint: 'More than this halt the rollout. Empty: none.', healthy: 'Seconds online before the next wave', healthyHint: 'Each agent of a wave must stay connected so long. Empty: 0.',
};

export const wavesDe: typeof wavesEn = {
  title: 'Ausrollen', runs: (wave, version) => (wave === 0 ? `${version} erreicht die Agenten in Wellen. Die erste Welle hat noch nicht begonnen.` : `${version} erreicht die Agenten in Wellen. Welle ${wave} hat begonnen.`), keeps: (former) => `Die anderen Agenten behalten ${former}.`, keepsNone: 'Die anderen Agenten bekommen noch nichts.',
  halted: (wave, limit) => `In Welle ${wave} angehalten: Mehr Agenten scheiterten als die Grenze von ${limit}. Setzen Sie fort, bringen Sie die Version zu allen, oder gehen Sie zurück.`,
  resume: 'Fortsetzen', finish: 'Zu allen bringen', abort: 'Zurück zur bisherigen Version', reached: (count, all) => `${count} von ${all} Agenten sind erreicht`,
  inWaves: 'In Wellen', size: 'Agenten einer Welle', sizeHint: 'Eine Zahl oder ein Anteil wie 10%. Leer: alle auf einmal.', failures: 'Erlaubte Fehlschläge', failuresHint: 'Mehr als so viele halten das Ausrollen an. Leer: keiner.', healthy: 'Sekunden online vor der nächsten Welle', healthyHint: 'So lange muss jeder Agent einer Welle verbunden bleiben. Leer: 0.',
};
