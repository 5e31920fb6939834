// node-redis, as a cluster-aware client.

'use strict';
const harness = require('./harness.cjs');
const { methods, BUFFERS } = require('./node_redis.cjs');
const { createCluster } = require('redis');

async function make() {
  const rootNodes = harness.REDIRECT_PORTS.map((port) => ({ url: `redis://127.0.0.1:${port}` }));
  const cluster = createCluster({ rootNodes });
  cluster.on('error', () => {});
  await cluster.connect();
  const nodes = () => Promise.all(cluster.masters.map((node) => cluster.nodeClient(node)));
  return methods(cluster, cluster.withTypeMapping(BUFFERS), nodes);
}

harness.main(make);
