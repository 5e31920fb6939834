"""Flask-Caching with its Redis cache, which is cachelib's. It has no TTL, no SCAN, and no way to give a key
another time."""

import harness
from flask import Flask
from flask_caching import Cache


def name(key):
    return key.decode("latin-1")


class FlaskCaching(harness.Client):
    OVERHEAD_BYTES = 64

    def __init__(self):
        self.cache = Cache(
            Flask("tested"),
            config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_PORT": harness.CLIENT_PORTS[0]},
        ).cache

    def set(self, key, value):
        assert self.cache.set(name(key), value)

    def set_for(self, key, value, seconds):
        assert self.cache.set(name(key), value, seconds)

    def get(self, key):
        return self.cache.get(name(key))

    def mget(self, keys):
        return self.cache.get_many(*[name(key) for key in keys])

    def delete(self, keys):
        self.cache.delete_many(*[name(key) for key in keys])

    def pipeline(self, pairs):
        self.cache.set_many({name(key): value for key, value in pairs.items()})
        return self.mget(list(pairs))

    def clear(self):
        self.cache.clear()


if __name__ == "__main__":
    harness.main(FlaskCaching)
