"""What every client written in Python is put through; `harness.cjs` is the same for JavaScript.

A client is a file of its own with a class that has the methods of `Client` below, and ends with
`harness.main(TheClass)`. `run.py` calls it with one of two arguments:

  check  every method, with keys and values of any bytes up to the limit
  watch  writes and reads without a pause, says `ready`, reads a line when a node is struck, goes on
         for a while, and says what it has seen as one line of JSON
"""

import json
import os
import sys
import threading
import time

CLIENT_PORTS = [int(port) for port in os.environ["CLIENT_PORTS"].split(",")]
REDIRECT_PORTS = [int(port) for port in os.environ["REDIRECT_PORTS"].split(",")]
ENTRY_BYTES_MAX = 65_536

WORKERS = 4
ROUNDS_BEFORE = 300
SECONDS_AFTER = 3.0
SECONDS_MAX = 60.0


class Client:
    """What is asked of a client. Keys and values are bytes. What it does not have it leaves out."""

    OVERHEAD_BYTES = 0
    """What it adds to a key and a value: a prefix, the frame of a pickle."""

    def set(self, key, value): ...
    def set_for(self, key, value, seconds): ...
    def get(self, key): ...
    def expire(self, key, seconds): ...
    def ttl(self, key): ...
    def mget(self, keys): ...
    def delete(self, keys): ...
    def pipeline(self, pairs):
        """Sets all pairs at once, and returns the values got at once."""
    def scan(self, pattern):
        """All keys that match."""
    def size(self): ...
    def clear(self):
        self.delete([key for key in self.scan(b"*")] or [b"nothing"])
    def close(self): ...

    def has(self, name):
        return getattr(type(self), name) is not getattr(Client, name)


def main(make):
    {"check": check, "watch": watch}[sys.argv[1]](make)


def expect(step, found, wanted):
    if found != wanted:
        sys.exit(f"{step}: {found!r:.200} instead of {wanted!r:.200}")
    print(f"  {step}", flush=True)


def check(make):
    client = make()
    client.clear()
    if client.has("size"):
        expect("an empty cluster", client.size(), 0)
    client.set(b"greeting", b"hello")
    expect("set, get", client.get(b"greeting"), b"hello")
    expect("a missing key", client.get(b"missing"), None)
    if client.has("expire"):
        client.expire(b"greeting", 100)
        expect("expire", client.get(b"greeting"), b"hello")
    if client.has("ttl"):
        expect("ttl", 90 <= client.ttl(b"greeting") <= 100, True)
    if client.has("set_for"):
        client.set_for(b"short", b"lived", 1)
        expect("a value is gone in time", until(lambda: client.get(b"short") is None, SECONDS_MAX), True)
    every_byte = bytes(range(256))
    client.set(every_byte, every_byte[::-1])
    expect("keys and values of any bytes", client.get(every_byte), every_byte[::-1])
    largest = os.urandom(ENTRY_BYTES_MAX - client.OVERHEAD_BYTES - len(b"largest"))
    client.set(b"largest", largest)
    expect("the largest entry", client.get(b"largest") == largest, True)
    pairs = {b"key-%d" % number: b"value-%d" % number for number in range(500)}
    expect("pipeline", client.pipeline(pairs), list(pairs.values()))
    some = list(pairs)[:50]
    expect("mget", client.mget([*some, b"missing"]), [*(pairs[key] for key in some), None])
    if client.has("scan"):
        expect("scan", sorted(client.scan(b"key-*")), sorted(pairs))
    if client.has("size"):
        expect("size", client.size(), len(pairs) + 3)
    client.delete(list(pairs))
    expect("delete", client.mget(some), [None] * len(some))
    client.close()


class Seen:
    def __init__(self):
        self.rounds = 0
        self.lost = 0
        self.errors = {}
        self.gap = 0.0
        self.last = time.monotonic()

    def done(self):
        now = time.monotonic()
        self.gap = max(self.gap, now - self.last)
        self.last = now
        self.rounds += 1


def work(client, worker, seen, is_over):
    number = 0
    while not is_over.is_set():
        key, value = b"watched-%d-%d" % (worker, number % 100), b"%d" % number
        number += 1
        try:
            client.set(key, value)
            # What a primary had acknowledged when it died is no error of the client: see run.py.
            seen.lost += client.get(key) != value
            seen.done()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"[:200]
            seen.errors[text] = seen.errors.get(text, 0) + 1
            time.sleep(0.01)


def watch(make):
    all_seen = [Seen() for _ in range(WORKERS)]
    is_over = threading.Event()
    clients = [make() for _ in all_seen]
    threads = [
        threading.Thread(target=work, args=(client, worker, seen, is_over), daemon=True)
        for worker, (client, seen) in enumerate(zip(clients, all_seen))
    ]
    for thread in threads:
        thread.start()
    if not until(lambda: all(seen.rounds >= ROUNDS_BEFORE for seen in all_seen), SECONDS_MAX):
        sys.exit(f"too slow: {[(seen.rounds, seen.errors) for seen in all_seen]}")
    for seen in all_seen:
        seen.gap = 0.0
    print("ready", flush=True)
    sys.stdin.readline()
    struck = time.monotonic()
    is_well = lambda seen: seen.last > struck and time.monotonic() - seen.last < 0.5
    works = until(
        lambda: time.monotonic() - struck > SECONDS_AFTER and all(map(is_well, all_seen)), SECONDS_MAX
    )
    is_over.set()
    errors = {}
    for seen in all_seen:
        for text, count in seen.errors.items():
            errors[text] = errors.get(text, 0) + count
    result = {
        "works": works,
        "rounds": sum(seen.rounds for seen in all_seen),
        "lost": [seen.lost for seen in all_seen],
        "gap_ms": round(max(seen.gap for seen in all_seen) * 1000),
        "errors": errors,
    }
    print(json.dumps(result), flush=True)
    os._exit(0)


def until(condition, seconds):
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while not (is_true := condition()) and time.monotonic() < end:
        time.sleep(0.005)
    return is_true
