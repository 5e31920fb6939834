"""valkey-glide, as a plain client of one node."""

import glide_sync
import harness


class Plain(harness.Client):
    def __init__(self):
        address = glide_sync.NodeAddress("127.0.0.1", harness.CLIENT_PORTS[0])
        self.glide = glide_sync.GlideClient.create(glide_sync.GlideClientConfiguration([address]))

    def set(self, key, value):
        assert self.glide.set(key, value) == "OK"

    def set_for(self, key, value, seconds):
        expiry = glide_sync.ExpirySet(glide_sync.ExpiryType.SEC, seconds)
        assert self.glide.set(key, value, expiry=expiry) == "OK"

    def get(self, key):
        return self.glide.get(key)

    def expire(self, key, seconds):
        assert self.glide.expire(key, seconds)

    def ttl(self, key):
        return self.glide.ttl(key)

    def mget(self, keys):
        return self.glide.mget(keys)

    def delete(self, keys):
        self.glide.delete(keys)

    def batch(self):
        return glide_sync.Batch(is_atomic=False)

    def pipeline(self, pairs):
        batch = self.batch()
        for key, value in pairs.items():
            batch.set(key, value)
        for key in pairs:
            batch.get(key)
        return self.glide.exec(batch, raise_on_error=True)[len(pairs):]

    def scan(self, pattern):
        cursor, found = b"0", []
        while True:
            cursor, keys = self.glide.scan(cursor, match=pattern)
            found += keys
            if cursor == b"0":
                return found

    def size(self):
        return self.glide.dbsize()

    def close(self):
        self.glide.close()


if __name__ == "__main__":
    harness.main(Plain)
