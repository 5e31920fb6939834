"""valkey-glide, as a cluster-aware client."""

import glide_sync
import harness

from glide import Plain


class Cluster(Plain):
    def __init__(self):
        addresses = [glide_sync.NodeAddress("127.0.0.1", port) for port in harness.REDIRECT_PORTS]
        self.glide = glide_sync.GlideClusterClient.create(
            glide_sync.GlideClusterClientConfiguration(addresses)
        )

    def batch(self):
        return glide_sync.ClusterBatch(is_atomic=False)

    def scan(self, pattern):
        cursor, found = glide_sync.ClusterScanCursor(), []
        while not cursor.is_finished():
            cursor, keys = self.glide.scan(cursor, match=pattern)
            found += keys
        return found


if __name__ == "__main__":
    harness.main(Cluster)
