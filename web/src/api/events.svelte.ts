/**
 * The tenant's events. All tabs of a browser share one stream: the tab that holds a lock reads it and
 * passes everything on; when it closes, the next one continues after the last event.
 */
import type { CommandState, JobState } from '../components/states';
import type { ServerEvent } from './sse';
import { LiveStream, type StreamStatus } from './stream';

export type TenantEvent =
  | { kind: 'execution'; id: string; job_id: string | null; agent_id: string; script: string | null; state: CommandState }
  | { kind: 'job'; id: string; script: string; state: JobState; counts: Record<string, number>; finished_at: string | null }
  | { kind: 'agent'; id: string; status: 'online' | 'offline'; manifest?: string }
  | { kind: 'approval'; id: string; state: string }
  | { kind: 'agent_refused'; key_id: string; hostname: string; limit: number }
  | { kind: 'alert'; id: string; rule_id: string; agent_id: string | null; state: 'open' | 'resolved' }
  | { kind: 'alert_rule'; id: string; silenced_until: string | null }
  /** Events may be missing: read again what is on the screen. */
  | { kind: 'reset' };

type Message =
  | { kind: 'event'; event: ServerEvent }
  | { kind: 'status'; status: StreamStatus; since: number }
  | { kind: 'ask' };

const LOCK = 'muster-events';

class Events {
  /** Whether the stream of this browser is connected, and since when. */
  status = $state<StreamStatus>('connecting');
  since = $state(Date.now());
  #listeners = new Set<(event: TenantEvent) => void>();
  #channel: BroadcastChannel | undefined;
  #stream: LiveStream | undefined;
  #giveUp: AbortController | undefined;
  #release: (() => void) | undefined;
  #lastId = '';

  start(session: string): void {
    this.stop();
    const channel = new BroadcastChannel(`${LOCK}-${session}`);
    this.#channel = channel;
    channel.onmessage = ({ data }: MessageEvent<Message>) => {
      if (data.kind === 'event') this.#take(data.event);
      else if (data.kind === 'status') this.#show(data.status, data.since);
      else if (this.#stream) channel.postMessage({ kind: 'status', status: this.status, since: this.since });
    };
    channel.postMessage({ kind: 'ask' });
    const giveUp = new AbortController();
    this.#giveUp = giveUp;
    void navigator.locks
      .request(`${LOCK}-${session}`, { signal: giveUp.signal }, () => this.#lead(channel))
      .catch(() => undefined);
  }

  stop(): void {
    this.#giveUp?.abort();
    this.#release?.();
    this.#stream?.close();
    this.#channel?.close();
    this.#stream = this.#channel = undefined;
    this.#lastId = '';
  }

  subscribe(listener: (event: TenantEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #lead(channel: BroadcastChannel): Promise<void> {
    const send = (message: Message): void => {
      if (channel === this.#channel) channel.postMessage(message);
    };
    this.#stream = new LiveStream({
      url: '/api/events',
      lastEventId: this.#lastId,
      onEvent: (event) => {
        send({ kind: 'event', event });
        this.#take(event);
      },
      onStatus: (status) => {
        const since = status === this.status ? this.since : Date.now();
        send({ kind: 'status', status, since });
        this.#show(status, since);
      },
    });
    return new Promise((resolve) => (this.#release = resolve));
  }

  #show(status: StreamStatus, since: number): void {
    // A try to connect is part of the same outage.
    if (status === 'connecting' && this.status === 'waiting') return;
    if (status === this.status) return;
    this.status = status;
    this.since = since;
  }

  #take(event: ServerEvent): void {
    this.#lastId = event.id || this.#lastId;
    const shown = read(event);
    if (shown) for (const listener of this.#listeners) listener(shown);
  }
}

function read(event: ServerEvent): TenantEvent | undefined {
  // After `ready`, data that is read is complete: what was read before may not be.
  if (event.name === 'reset' || event.name === 'ready') return { kind: 'reset' };
  return { ...(JSON.parse(event.data) as object), kind: event.name } as TenantEvent;
}

export const events = new Events();
