// ioredis, as a cluster-aware client.

'use strict';
const harness = require('./harness.cjs');
const { methods } = require('./ioredis.cjs');
const { Cluster } = require('ioredis');

async function make() {
  const cluster = new Cluster(harness.REDIRECT_PORTS.map((port) => ({ host: '127.0.0.1', port })));
  cluster.on('error', () => {});
  await new Promise((done) => cluster.once('ready', done));
  const all = methods(cluster, () => cluster.nodes('master'));
  // Keys of many slots: this client leaves it to its user to ask for them one by one, or by slot.
  all.mget = (keys) => Promise.all(keys.map((key) => cluster.getBuffer(key)));
  all.delete = (keys) => Promise.all(keys.map((key) => cluster.del(key)));
  all.pipeline = async (pairs) => {
    await Promise.all(pairs.map(([key, value]) => cluster.set(key, value)));
    return Promise.all(pairs.map(([key]) => cluster.getBuffer(key)));
  };
  return all;
}

harness.main(make);
