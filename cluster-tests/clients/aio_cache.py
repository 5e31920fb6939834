"""aiocache with its Redis cache, its lock included, which is a script."""

import asyncio

import aiocache
import harness
from aiocache.lock import RedLock
from aiocache.serializers import PickleSerializer


def name(key):
    return key.decode("latin-1")


class AioCache(harness.Client):
    OVERHEAD_BYTES = 64

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        # What it does with values by itself, JSON, is for texts.
        self.cache = aiocache.RedisCache(port=harness.CLIENT_PORTS[0], serializer=PickleSerializer())

    def run(self, what):
        return self.loop.run_until_complete(what)

    def set(self, key, value):
        assert self.run(self.cache.set(name(key), value))

    def set_for(self, key, value, seconds):
        assert self.run(self.cache.set(name(key), value, ttl=seconds))

    def get(self, key):
        return self.run(self.cache.get(name(key)))

    def expire(self, key, seconds):
        async def locked():
            async with RedLock(self.cache, name(key), lease=60):
                return await self.cache.expire(name(key), seconds)

        assert self.run(locked())

    def ttl(self, key):
        return self.run(self.cache.raw("ttl", name(key)))

    def mget(self, keys):
        return self.run(self.cache.multi_get([name(key) for key in keys]))

    def delete(self, keys):
        for key in keys:
            self.run(self.cache.delete(name(key)))

    def pipeline(self, pairs):
        assert self.run(self.cache.multi_set([(name(key), value) for key, value in pairs.items()]))
        return self.mget(list(pairs))

    def clear(self):
        assert self.run(self.cache.clear())

    def close(self):
        self.run(self.cache.close())


if __name__ == "__main__":
    harness.main(AioCache)
