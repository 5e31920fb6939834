"""redis-py, as a plain client of one node."""

import harness
import redis


class Plain(harness.Client):
    def __init__(self):
        self.redis = redis.Redis(port=harness.CLIENT_PORTS[0])

    def set(self, key, value):
        assert self.redis.set(key, value)

    def set_for(self, key, value, seconds):
        assert self.redis.set(key, value, ex=seconds)

    def get(self, key):
        return self.redis.get(key)

    def expire(self, key, seconds):
        assert self.redis.expire(key, seconds)

    def ttl(self, key):
        return self.redis.ttl(key)

    def mget(self, keys):
        return self.redis.mget(keys)

    def delete(self, keys):
        self.redis.delete(*keys)

    def pipeline(self, pairs):
        with self.redis.pipeline(transaction=False) as pipeline:
            for key, value in pairs.items():
                pipeline.set(key, value)
            for key in pairs:
                pipeline.get(key)
            return pipeline.execute()[len(pairs):]

    def scan(self, pattern):
        return list(self.redis.scan_iter(match=pattern))

    def size(self):
        return self.redis.dbsize()

    def close(self):
        self.redis.close()


if __name__ == "__main__":
    harness.main(Plain)
