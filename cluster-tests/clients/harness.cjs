// What every client written in JavaScript is put through: as harness.py, which says what that is.
// A client is an object of functions that return promises; keys and values are buffers.

'use strict';
const { randomBytes } = require('node:crypto');
const { createInterface } = require('node:readline');

const numbers = (name) => process.env[name].split(',').map(Number);
const CLIENT_PORTS = numbers('CLIENT_PORTS');
const REDIRECT_PORTS = numbers('REDIRECT_PORTS');
const ENTRY_BYTES_MAX = 65536;

const WORKERS = 4;
const ROUNDS_BEFORE = 300;
const SECONDS_AFTER = 3;
const SECONDS_MAX = 60;

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
const now = () => performance.now() / 1000;

function main(make) {
  const run = { check, watch }[process.argv[2]];
  run(make).then(() => process.exit(0), (error) => {
    console.error(error);
    process.exit(1);
  });
}

function expect(step, found, wanted) {
  const same = (a, b) => (Buffer.isBuffer(a) && Buffer.isBuffer(b) ? a.equals(b)
    : Array.isArray(a) && Array.isArray(b) ? a.length === b.length && a.every((x, i) => same(x, b[i]))
    : (a ?? null) === (b ?? null));
  if (!same(found, wanted)) {
    throw new Error(`${step}: ${String(found).slice(0, 200)} instead of ${String(wanted).slice(0, 200)}`);
  }
  console.log(`  ${step}`);
}

async function check(make) {
  const client = await make();
  const text = (string) => Buffer.from(string);
  const rest = await client.scan('*');
  if (rest.length > 0) await client.delete(rest);
  expect('an empty cluster', await client.size(), 0);
  await client.set(text('greeting'), text('hello'));
  expect('set, get', await client.get(text('greeting')), text('hello'));
  expect('a missing key', await client.get(text('missing')), null);
  await client.expire(text('greeting'), 100);
  const ttl = await client.ttl(text('greeting'));
  expect('expire, ttl', ttl >= 90 && ttl <= 100, true);
  const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  const reversed = Buffer.from(everyByte).reverse();
  await client.set(everyByte, reversed);
  expect('keys and values of any bytes', await client.get(everyByte), reversed);
  const largest = randomBytes(ENTRY_BYTES_MAX - 'largest'.length);
  await client.set(text('largest'), largest);
  expect('the largest entry', await client.get(text('largest')), largest);
  const pairs = Array.from({ length: 500 }, (_, n) => [text(`key-${n}`), text(`value-${n}`)]);
  const [keys, values] = [pairs.map(([key]) => key), pairs.map(([, value]) => value)];
  expect('pipeline', await client.pipeline(pairs), values);
  const mget = await client.mget([...keys.slice(0, 50), text('missing')]);
  expect('mget', mget, [...values.slice(0, 50), null]);
  const sorted = (buffers) => buffers.map(String).sort();
  expect('scan', sorted(await client.scan('key-*')), sorted(keys));
  expect('size', await client.size(), keys.length + 3);
  await client.delete(keys);
  expect('delete', await client.size(), 3);
  await client.close();
}

async function watch(make) {
  let isOver = false;
  const errors = {};
  const workers = Array.from({ length: WORKERS }, () => ({ rounds: 0, lost: 0, gap: 0, last: now() }));
  const work = async (client, seen, worker) => {
    for (let number = 0; !isOver; number += 1) {
      const [key, value] = [Buffer.from(`watched-${worker}-${number % 100}`), Buffer.from(String(number))];
      try {
        await client.set(key, value);
        const found = await client.get(key);
        // What a primary had acknowledged when it died is no error of the client: see run.py.
        if (found === null || !value.equals(found)) seen.lost += 1;
        const at = now();
        seen.gap = Math.max(seen.gap, at - seen.last);
        seen.last = at;
        seen.rounds += 1;
      } catch (error) {
        const text = `${error.name}: ${error.message}`.slice(0, 200);
        errors[text] = (errors[text] ?? 0) + 1;
        await pause(0.01);
      }
    }
  };
  for (const [worker, seen] of workers.entries()) work(await make(), seen, worker);
  if (!await until(() => workers.every((seen) => seen.rounds >= ROUNDS_BEFORE))) {
    throw new Error(`too slow: ${workers.map((seen) => seen.rounds)} ${JSON.stringify(errors)}`);
  }
  for (const seen of workers) seen.gap = 0;
  console.log('ready');
  const lines = createInterface({ input: process.stdin });
  await new Promise((done) => lines.once('line', done));
  const struck = now();
  const isWell = (seen) => seen.last > struck && now() - seen.last < 0.5;
  const works = await until(() => now() - struck > SECONDS_AFTER && workers.every(isWell));
  isOver = true;
  const rounds = workers.reduce((sum, seen) => sum + seen.rounds, 0);
  const gap = Math.max(...workers.map((seen) => seen.gap));
  const lost = workers.map((seen) => seen.lost);
  console.log(JSON.stringify({ works, rounds, lost, gap_ms: Math.round(gap * 1000), errors }));
}

/** Whether it came true in time. */
async function until(condition) {
  for (const end = now() + SECONDS_MAX; now() < end; await pause(0.005)) {
    if (condition()) return true;
  }
  return condition();
}

module.exports = { main, CLIENT_PORTS, REDIRECT_PORTS };
