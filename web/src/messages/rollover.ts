/** Texts of the server's authority and of its rollover. */
export const rolloverEn = {
  title: 'Authority of the server', ends: 'valid until', server: 'The certificate of the server is valid until',
  states: { none: 'No other authority is announced.', announced: 'Another authority is announced. The former one still signs, and both count.', switched: 'The next authority signs. The former one still counts until it is retired.' },
  how: { none: 'How another authority replaces it', announced: 'The next step', switched: 'The last step' }, operator: 'The operator of the server takes the steps, with a key that has tenants:manage. The first command changes nothing: it names the agents that have not stored the next authority.',
};

export const rolloverDe: typeof rolloverEn = {
  title: 'Zertifizierungsstelle des Servers', ends: 'gültig bis', server: 'Das Zertifikat des Servers gilt bis',
  states: { none: 'Keine andere Zertifizierungsstelle ist angekündigt.', announced: 'Eine andere Zertifizierungsstelle ist angekündigt. Die bisherige unterschreibt noch, und beide gelten.', switched: 'Die nächste Zertifizierungsstelle unterschreibt. Die bisherige gilt noch, bis sie abgelöst wird.' },
  how: { none: 'Wie eine andere sie ablöst', announced: 'Der nächste Schritt', switched: 'Der letzte Schritt' }, operator: 'Der Betreiber des Servers geht die Schritte, mit einem Schlüssel, der tenants:manage hat. Der erste Befehl ändert nichts: Er nennt die Agenten, die die nächste nicht gespeichert haben.',
};
