import { expect, test } from 'vitest';
import type { Agent } from './queries';
import { completions, expressionOf, factNamesIn, isExpression, parse, plainWords, TargetError } from './target';

const agent = (values: Partial<Agent>): Agent =>
  ({ id: 'a', name: 'web-1', hostname: 'Web-1.example.com', os: 'Ubuntu 22.04', arch: 'x86_64', version: '0.1.0', ip: '10.0.0.7', status: 'online', level: 'full', tags: ['web', 'eu'], ...values }) as Agent;
const matches = (text: string, values: Partial<Agent> = {}): boolean => parse(text)(agent(values));

test('conditions match as the server documents them', () => {
  for (const text of ['all', 'tag:web', 'tag:w*', 'name:web-?', 'hostname:*.EXAMPLE.com', 'os:linux', 'os:"ubuntu 22"', 'version:0.1.*', 'status:online & level:full', 'not tag:db', '!(tag:db | tag:us)']) {
    expect(matches(text), text).toBe(true);
  }
  for (const text of ['tag:we', 'name:WEB-1', 'os:windows', '!all', 'tag:web and tag:us', 'name:"web-\\*"']) expect(matches(text), text).toBe(false);
});

test('not binds tighter than and, and tighter than or', () => {
  expect(matches('tag:web | tag:x & tag:y')).toBe(true);
  expect(matches('(tag:web | tag:x) & tag:y')).toBe(false);
  expect(matches('!tag:x & tag:web')).toBe(true);
});

test('an error names its column', () => {
  const column = (text: string): number => {
    try {
      parse(text);
    } catch (error) {
      return (error as TargetError).column;
    }
    return 0;
  };
  expect(column('tag:web &')).toBe(10);
  expect(column('tag:web tag:eu')).toBe(9);
  expect(column('tag:web & color:red')).toBe(11);
  expect(column('(tag:web')).toBe(9);
  expect(column('tag:')).toBe(5);
  expect(column('tag:a ; tag:b')).toBe(7);
});

test('plain words are told apart from expressions', () => {
  expect(isExpression('web eu')).toBe(false);
  expect(isExpression('10.0.0.7:22')).toBe(false);
  expect(isExpression('tag:web')).toBe(true);
  expect(isExpression('!tag:web')).toBe(true);
  expect(plainWords('UBUNTU eu')(agent({}))).toBe(true);
  expect(plainWords('ubuntu us')(agent({}))).toBe(false);
});

test('completions go on from the word at the end', () => {
  expect(completions('tag:web & ta', [agent({})])).toEqual([{ insert: 'tag:web & tag:', label: 'tag:' }]);
  expect(completions('tag:e', [agent({})])).toEqual([{ insert: 'tag:eu ', label: 'eu' }]);
  expect(completions('name:', [agent({ name: 'a b' })])).toEqual([{ insert: 'name:"a b" ', label: 'a b' }]);
});

test('a target of tags or ids is shown as an expression that matches the same agents', () => {
  expect(expressionOf({ tags: ['web', 'eu'] })).toBe('tag:web & tag:eu');
  expect(expressionOf({ ids: ['1', '2'] })).toBe('id:1 | id:2');
  expect(expressionOf({ expression: 'tag:web & !name:x' })).toBe('tag:web & !name:x');
  expect(expressionOf(undefined)).toBe('');
});

test('facts of hosts are compared by name, and an agent without facts is not known', () => {
  const facts = { role: 'DB', 'addresses.eth0': ['10.0.0.5', '2001:db8::5'], rack: 'A 7' };
  for (const text of ['fact:role=db', 'fact:role!=web', 'fact:none!=x', '!fact:none=*', 'fact:addresses.eth0=2001:db8::?', 'fact:rack="a 7" & tag:web']) {
    expect(isExpression(text) && matches(text, { facts }), text).toBe(true);
  }
  for (const text of ['fact:role!=db', 'fact:Role=db', 'fact:__proto__=*', 'fact:constructor=*']) expect(matches(text, { facts }), text).toBe(false);
  expect(() => matches('fact:role=db')).toThrow('not read');
  for (const text of ['fact:', 'fact:role', 'fact:role:db', 'fact:role=', 'fact:.x=1']) expect(() => parse(text), text).toThrow(TargetError);
  expect(factNamesIn('fact:a=1 & (!fact:b!=2 | fact:a=3) & fact:c')).toEqual(['a', 'b']);
  expect(completions('tag:x & fact:ro', [], ['role', 'zone'])).toEqual([{ insert: 'tag:x & fact:role=', label: 'role' }]);
});
