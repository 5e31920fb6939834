// node-redis, as a plain client of one node.

'use strict';
const harness = require('./harness.cjs');
const { createClient, RESP_TYPES } = require('redis');

const BUFFERS = { [RESP_TYPES.BLOB_STRING]: Buffer };

async function make() {
  const client = createClient({ url: `redis://127.0.0.1:${harness.CLIENT_PORTS[0]}` });
  client.on('error', () => {});
  await client.connect();
  const buffers = client.withTypeMapping(BUFFERS);
  return {
    ...methods(client, buffers, async () => [client]),
    mget: (keys) => buffers.mGet(keys),
    delete: (keys) => client.del(keys),
  };
}

/** What the harness asks for, with `nodes` as those that are asked for all keys. */
function methods(client, buffers, nodes) {
  return {
    set: (key, value) => client.set(key, value),
    get: (key) => buffers.get(key),
    expire: (key, seconds) => client.expire(key, seconds),
    ttl: (key) => client.ttl(key),
    // What is called without waiting in between is sent together.
    mget: (keys) => Promise.all(keys.map((key) => buffers.get(key))),
    delete: (keys) => Promise.all(keys.map((key) => client.del(key))),
    pipeline: async (pairs) => {
      await Promise.all(pairs.map(([key, value]) => client.set(key, value)));
      return Promise.all(pairs.map(([key]) => buffers.get(key)));
    },
    scan: async (MATCH) => {
      const found = [];
      for (const node of await nodes()) {
        const mapped = node.withTypeMapping(BUFFERS);
        for await (const keys of mapped.scanIterator({ MATCH })) found.push(...keys);
      }
      return found;
    },
    size: async () => {
      const sizes = await Promise.all((await nodes()).map((node) => node.dbSize()));
      return sizes.reduce((sum, size) => sum + size, 0);
    },
    close: () => client.close(),
  };
}

module.exports = { methods, BUFFERS };
if (require.main === module) harness.main(make);
