/** One server-sent event. */
export interface ServerEvent {
  name: string;
  id: string;
  data: string;
}

/** Splits a stream of text into events, as the HTML standard describes. It keeps what is incomplete. */
export class EventParser {
  #rest = '';
  #name = '';
  #id = '';
  #data: string[] = [];

  push(text: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    this.#rest += text;
    let from = 0;
    for (;;) {
      const end = this.#rest.slice(from).search(/\r\n|\n|\r(?!$)/);
      if (end < 0) break;
      const line = this.#rest.slice(from, from + end);
      from += end + (this.#rest.startsWith('\r\n', from + end) ? 2 : 1);
      const event = this.#line(line);
      if (event) events.push(event);
    }
    this.#rest = this.#rest.slice(from);
    return events;
  }

  #line(line: string): ServerEvent | undefined {
    if (line === '') {
      const event = { name: this.#name || 'message', id: this.#id, data: this.#data.join('\n') };
      const isEmpty = this.#data.length === 0;
      this.#name = '';
      this.#data = [];
      return isEmpty ? undefined : event;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return undefined;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this.#name = value;
    else if (field === 'data') this.#data.push(value);
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
    return undefined;
  }
}
