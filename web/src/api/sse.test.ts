import { expect, test } from 'vitest';
import { EventParser } from './sse';

const STREAM = ': hello\n\nevent: output\nid: 12\ndata: {"a":\ndata: 1}\n\nevent: result\r\ndata: {}\r\n\r\ndata\n\n';
const EVENTS = [
  { name: 'output', id: '12', data: '{"a":\n1}' },
  { name: 'result', id: '12', data: '{}' },
  { name: 'message', id: '12', data: '' },
];

test('events are the same wherever the stream is cut', () => {
  for (let cut = 0; cut <= STREAM.length; cut += 1) {
    const parser = new EventParser();
    expect([...parser.push(STREAM.slice(0, cut)), ...parser.push(STREAM.slice(cut))]).toEqual(EVENTS);
  }
});
