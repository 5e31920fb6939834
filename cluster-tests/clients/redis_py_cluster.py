"""redis-py, as a cluster-aware client."""

import harness
from redis.cluster import ClusterNode
from redis.cluster import RedisCluster

from redis_py import Plain


class Cluster(Plain):
    def __init__(self):
        nodes = [ClusterNode("127.0.0.1", port) for port in harness.REDIRECT_PORTS]
        self.redis = RedisCluster(startup_nodes=nodes)

    def pipeline(self, pairs):
        with self.redis.pipeline() as pipeline:
            for key, value in pairs.items():
                pipeline.set(key, value)
            for key in pairs:
                pipeline.get(key)
            return pipeline.execute()[len(pairs):]

    def size(self):
        # Like KEYS, it asks one node if it is not told otherwise.
        return self.redis.dbsize(target_nodes=RedisCluster.PRIMARIES)

    def mget(self, keys):
        return self.redis.mget_nonatomic(keys)


if __name__ == "__main__":
    harness.main(Cluster)
