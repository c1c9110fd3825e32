/** Texts of files and transfers. */
const n = (count: number, locale: string): string => new Intl.NumberFormat(locale).format(count);
const on = (count: number): string => (count === 1 ? '1 agent' : `${n(count, 'en')} agents`);
const auf = (count: number): string => (count === 1 ? '1 Agent' : `${n(count, 'de')} Agenten`);

export const filesEn = {
  will: { push: (path: string, count: number) => `Writes ${path} on ${on(count)}.`, pull: (path: string, count: number) => `Reads ${path} of ${on(count)}.` },
  title: 'Files', one: 'File', direction: 'Direction', kinds: { push: 'Push to hosts', pull: 'Pull from hosts' }, verbs: { push: 'Push', pull: 'Pull' }, pushButton: 'Push a file', pullButton: 'Pull a file',
  kindHints: { push: 'Writes one file on each host, whole or not at all.', pull: 'Reads one file of each host. Its content is stored as the output of the execution.' }, policyHint: 'Hosts allow transfers only in the folders that their policy lists.',
  upload: 'Upload a file', uploadHint: 'It is sent to the server at once, and kept for 7 days after its last use. At most 1 GiB.', tooLarge: 'The file is larger than 1 GiB.', stored: 'Or one that is uploaded already', phases: { idle: '', hashing: 'Computing the SHA-256.', sending: 'Uploading.', waiting: 'Interrupted. The upload continues by itself.' },
  resumed: (before: string) => `continued after ${before}`, ready: (name: string, size: string) => `${name}, ${size}, is uploaded.`, gone: 'The server does not have this file any more. Upload it again.', isUploading: 'The upload has not ended.', chooseFile: 'Choose a file.',
  path: 'Path on the host', pathHint: 'The full path with the name of the file. The folder must exist.', writePath: 'Write the path on the host.', wrongPath: 'The path is not a full path to a file, such as /srv/app/app.conf.', permissions: 'Permissions', permissionsHint: 'Empty: those of the file that is replaced, or 0644.', wrongPermissions: 'Permissions are three octal digits, such as 0644.', owner: 'Owner', ownerHint: 'Empty: that of the file that is replaced.',
  uploaded: 'Uploaded files', none: 'No uploaded files', noneHint: 'A file is uploaded once, and can be pushed to many hosts.', incomplete: 'not complete', expires: 'Kept until', deleteTitle: 'Delete this file?', deleteText: 'Hosts that have not got it yet will not get it:',
  transfers: 'Last transfers', noTransfers: 'No transfers yet', noTransfersHint: 'Push a file to hosts, or pull one from them.', download: 'Download the file', noReadRight: 'Your role does not show the content of pulled files.', under: 'The transfer has not ended.',
  refusals: {
    files_not_allowed: 'The policy of the host lists no folder for this.', path_not_allowed: 'The path is in no folder that the policy of the host lists.', file_too_large: 'The file is larger than the policy of the host allows.', mode_not_allowed: 'The policy of the host does not allow these permissions.', owner_not_allowed: 'The policy of the host does not allow this owner.',
    file_missing: 'The server does not have the file any more. Upload it again.', hash_mismatch: 'The host got another content than the request names. Nothing was written.', no_space: 'Less than 64 MiB would be free on the disk of the host.', files_unsupported: 'The agent is of a version that transfers no files. Update it.',
  },
};

export const filesDe: typeof filesEn = {
  will: { push: (path, count) => `Schreibt ${path} auf ${auf(count)}.`, pull: (path, count) => `Liest ${path} von ${auf(count)}.` },
  title: 'Dateien', one: 'Datei', direction: 'Richtung', kinds: { push: 'An Hosts senden', pull: 'Von Hosts holen' }, verbs: { push: 'Senden', pull: 'Holen' }, pushButton: 'Datei senden', pullButton: 'Datei holen',
  kindHints: { push: 'Schreibt auf jedem Host eine Datei, ganz oder gar nicht.', pull: 'Liest eine Datei jedes Hosts. Ihr Inhalt wird als Ausgabe der Ausführung gespeichert.' }, policyHint: 'Hosts erlauben Dateien nur in den Ordnern, die ihre Richtlinie nennt.',
  upload: 'Datei hochladen', uploadHint: 'Sie wird sofort an den Server gesendet und 7 Tage nach ihrer letzten Benutzung behalten. Höchstens 1 GiB.', tooLarge: 'Die Datei ist größer als 1 GiB.', stored: 'Oder eine, die schon hochgeladen ist', phases: { idle: '', hashing: 'Der SHA-256 wird berechnet.', sending: 'Wird hochgeladen.', waiting: 'Unterbrochen. Es geht von selbst weiter.' },
  resumed: (before) => `fortgesetzt nach ${before}`, ready: (name, size) => `${name}, ${size}, ist hochgeladen.`, gone: 'Der Server hat diese Datei nicht mehr. Laden Sie sie noch einmal hoch.', isUploading: 'Das Hochladen ist noch nicht zu Ende.', chooseFile: 'Wählen Sie eine Datei.',
  path: 'Pfad auf dem Host', pathHint: 'Der volle Pfad mit dem Namen der Datei. Der Ordner muss vorhanden sein.', writePath: 'Schreiben Sie den Pfad auf dem Host.', wrongPath: 'Das ist kein voller Pfad zu einer Datei wie /srv/app/app.conf.', permissions: 'Rechte', permissionsHint: 'Leer: die der ersetzten Datei, sonst 0644.', wrongPermissions: 'Rechte sind drei oktale Ziffern wie 0644.', owner: 'Besitzer', ownerHint: 'Leer: der der ersetzten Datei.',
  uploaded: 'Hochgeladene Dateien', none: 'Keine hochgeladenen Dateien', noneHint: 'Eine Datei wird einmal hochgeladen und kann an viele Hosts gesendet werden.', incomplete: 'unvollständig', expires: 'Behalten bis', deleteTitle: 'Diese Datei löschen?', deleteText: 'Hosts, die sie noch nicht haben, bekommen sie nicht mehr:',
  transfers: 'Letzte Übertragungen', noTransfers: 'Noch keine Übertragungen', noTransfersHint: 'Senden Sie eine Datei an Hosts, oder holen Sie eine von ihnen.', download: 'Datei herunterladen', noReadRight: 'Ihre Rolle zeigt den Inhalt geholter Dateien nicht.', under: 'Die Übertragung ist noch nicht zu Ende.',
  refusals: {
    files_not_allowed: 'Die Richtlinie des Hosts nennt dafür keinen Ordner.', path_not_allowed: 'Der Pfad liegt in keinem Ordner, den die Richtlinie des Hosts nennt.', file_too_large: 'Die Datei ist größer, als die Richtlinie des Hosts erlaubt.', mode_not_allowed: 'Die Richtlinie des Hosts erlaubt diese Rechte nicht.', owner_not_allowed: 'Die Richtlinie des Hosts erlaubt diesen Besitzer nicht.',
    file_missing: 'Der Server hat die Datei nicht mehr. Laden Sie sie noch einmal hoch.', hash_mismatch: 'Der Host hat einen anderen Inhalt bekommen, als der Auftrag nennt. Es wurde nichts geschrieben.', no_space: 'Auf der Platte des Hosts wären weniger als 64 MiB frei.', files_unsupported: 'Diese Version des Agenten überträgt keine Dateien. Aktualisieren Sie ihn.',
  },
};
