"""The Redis cache of Django. It has no TTL and no SCAN; its set_many is a transaction of many slots."""

import warnings

import harness
from django.conf import settings
from django.core.cache import CacheKeyWarning
from django.core.cache import caches

settings.configure(
    CACHES={
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{harness.CLIENT_PORTS[0]}",
        }
    }
)
# It warns of keys that memcached would not take.
warnings.simplefilter("ignore", CacheKeyWarning)


def name(key):
    return key.decode("latin-1")


class Django(harness.Client):
    OVERHEAD_BYTES = 64

    def __init__(self):
        self.cache = caches.create_connection("default")

    def set(self, key, value):
        self.cache.set(name(key), value)

    def set_for(self, key, value, seconds):
        self.cache.set(name(key), value, seconds)

    def get(self, key):
        return self.cache.get(name(key))

    def expire(self, key, seconds):
        assert self.cache.touch(name(key), seconds)

    def mget(self, keys):
        found = self.cache.get_many([name(key) for key in keys])
        return [found.get(name(key)) for key in keys]

    def delete(self, keys):
        self.cache.delete_many([name(key) for key in keys])

    def pipeline(self, pairs):
        assert self.cache.set_many({name(key): value for key, value in pairs.items()}) == []
        assert self.cache.incr_version(name(next(iter(pairs)))) == 2
        assert self.cache.decr_version(name(next(iter(pairs))), version=2) == 1
        return self.mget(list(pairs))

    def clear(self):
        self.cache.clear()

    def close(self):
        self.cache.close()


if __name__ == "__main__":
    harness.main(Django)
