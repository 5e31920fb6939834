// ioredis, as a plain client of one node.

'use strict';
const harness = require('./harness.cjs');
const { Redis } = require('ioredis');

async function make() {
  const redis = new Redis(harness.CLIENT_PORTS[0]);
  redis.on('error', () => {});
  return methods(redis, () => [redis]);
}

/** What the harness asks for, with `nodes` as those that are asked for all keys. */
function methods(redis, nodes) {
  return {
    set: (key, value) => redis.set(key, value),
    get: (key) => redis.getBuffer(key),
    expire: (key, seconds) => redis.expire(key, seconds),
    ttl: (key) => redis.ttl(key),
    mget: (keys) => redis.mgetBuffer(...keys),
    delete: (keys) => redis.del(...keys),
    pipeline: async (pairs) => {
      const pipeline = redis.pipeline();
      for (const [key, value] of pairs) pipeline.set(key, value);
      for (const [key] of pairs) pipeline.getBuffer(key);
      const replies = await pipeline.exec();
      return replies.slice(pairs.length).map(([error, value]) => {
        if (error) throw error;
        return value;
      });
    },
    scan: async (match) => {
      const found = [];
      for (const node of nodes()) {
        for await (const keys of node.scanBufferStream({ match })) found.push(...keys);
      }
      return found;
    },
    size: async () => {
      const sizes = await Promise.all(nodes().map((node) => node.dbsize()));
      return sizes.reduce((sum, size) => sum + size, 0);
    },
    close: () => redis.quit(),
  };
}

module.exports = { methods };
if (require.main === module) harness.main(make);
