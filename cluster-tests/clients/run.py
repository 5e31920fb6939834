"""Puts Redis clients through what users do with them, on a cluster of three real nodes.

  run.py [NAME...]     all clients, or those whose file's name begins so

Every other file beside this one, but for the harnesses, is a client; to add one, add a file and its
package to requirements.txt or package.json (scripts/clients-test.sh installs both). Those that end with
`_cluster` are cluster-aware and are given the redirect ports; the others are given client ports, and
talk to the first node. Each is run with `check`, then with `watch` while the second node is stopped
(SIGTERM) and while it is killed (SIGKILL). What is asked for:

- every check holds
- nobody sees an error when a node is stopped, and plain clients none when another node is killed
- what was written is read when a node is stopped. Of what the killed node had acknowledged a moment
  before, each writer may lose the one write that it had just made
- after a kill every client works again; for how long it did not, and what it raised, is printed
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
TOOLS = TARGET / "clients"
BINARY = os.environ.get("CACHEGOPHER_BIN", str(TARGET / "release" / "cachegopher"))
NODES = 3
STRUCK = 1
WAIT_MAX = 60.0
NOT_TRIED = 77


class Node:
    def __init__(self, name, port, peer_ports, index, cluster):
        self.port, self.redirect = port, port + 1000
        seeds = ",".join(f"127.0.0.1:{peer}" for peer in peer_ports if peer != peer_ports[index])
        self.command = [
            BINARY, "serve", "--name", name, "--cluster", cluster, "--port", str(port),
            "--peer-port", str(peer_ports[index]), "--join", seeds,
        ]
        self.log = TOOLS / f"{name}.log"
        self.log.write_text("")
        self.process = None

    def start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait(WAIT_MAX)

    def stats(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(b"STATS\nEXIT\n")
            text = b""
            while piece := connection.recv(65536):
                text += piece
        return dict(line.split(" ", 1) for line in text.decode().splitlines() if " " in line)


def free_ports():
    for base in range(25_000, 25_900, NODES):
        sockets = []
        try:
            for offset in (0, 1_000, 2_000):
                for number in range(NODES):
                    sockets.append(socket.create_server(("127.0.0.1", base + offset + number)))
            return base
        except OSError:
            continue
        finally:
            for opened in sockets:
                opened.close()
    sys.exit("no free ports")


def settle(nodes):
    end = time.monotonic() + WAIT_MAX
    while True:
        views = {}
        try:
            for node in nodes:
                stats = node.stats()
                views[node.port] = (stats["settled"], stats["members_alive"], stats["view"])
            settled, alive, _ = views[nodes[0].port]
            if len(set(views.values())) == 1 and (settled, alive) == ("1", str(NODES)):
                return
        except (OSError, KeyError) as error:
            views["error"] = repr(error)
        if time.monotonic() > end:
            sys.exit(f"the nodes do not settle (port: settled, members alive, view): {views}")
        time.sleep(0.02)


class Client:
    def __init__(self, path, nodes):
        self.path, self.name = path, path.stem
        self.is_cluster_aware = self.name.endswith("_cluster")
        self.runtime = {".py": str(TOOLS / "python" / "bin" / "python"), ".cjs": "node"}[path.suffix]
        self.environment = {
            **os.environ,
            "CLIENT_PORTS": ",".join(str(node.port) for node in nodes),
            "REDIRECT_PORTS": ",".join(str(node.redirect) for node in nodes),
            "NODE_PATH": str(TOOLS / "node" / "node_modules"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def start(self, what):
        return subprocess.Popen(
            [self.runtime, str(self.path), what], env=self.environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )

    def check(self):
        process = self.start("check")
        output, errors = finish(process)
        print(output, end="", flush=True)
        return None if process.returncode == 0 else errors.strip()[-2000:]

    def watch(self, nodes, how, said):
        process = self.start("watch")
        # One that never gets ready must not keep the test waiting for ever.
        killer = threading.Timer(2 * WAIT_MAX, process.kill)
        killer.start()
        is_ready = process.stdout.readline().strip() == "ready"
        killer.cancel()
        if not is_ready:
            process.kill()
            _, errors = finish(process)
            if process.returncode == NOT_TRIED:
                return None
            return f"not ready for a node to be {said}: {errors.strip()[-2000:]}"
        try:
            began = threading.Thread(target=nodes[STRUCK].end, args=(how,))
            began.start()
            process.stdin.write("struck\n")
            process.stdin.flush()
            output, errors = finish(process)
            began.join()
        finally:
            if nodes[STRUCK].process.poll() is not None:
                nodes[STRUCK].start()
        settle(nodes)
        try:
            # Libraries may have said something before.
            seen = json.loads(output.strip().splitlines()[-1])
        except (ValueError, IndexError):
            return f"says nothing after a node was {said}: {output[-500:]} {errors.strip()[-2000:]}"
        kinds = " ".join(f"[{count} x {text}]" for text, count in seen["errors"].items()) or "none"
        figures = f"longest pause {seen['gap_ms']} ms in {seen['rounds']} rounds"
        print(f"  {said}: {figures}, writes lost: {sum(seen['lost'])}, errors: {kinds}", flush=True)
        if not seen["works"]:
            return f"does not work after a node was {said}: {kinds}"
        is_killed = how == signal.SIGKILL
        if max(seen["lost"]) > is_killed:
            return f"a node was {said}, and these writes were lost, by writer: {seen['lost']}"
        may_fail = self.is_cluster_aware and is_killed
        return f"a node was {said}, and errors were raised: {kinds}" if seen["errors"] and not may_fail else None


def finish(process):
    try:
        return process.communicate(timeout=2 * WAIT_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()


def is_chosen(path):
    is_client = path.suffix in (".py", ".cjs") and path.stem not in ("run", "harness")
    return is_client and (len(sys.argv) < 2 or any(path.stem.startswith(name) for name in sys.argv[1:]))


def can_run(client):
    """Whether scripts/clients-test.sh could install what the client needs."""
    folder = "python" if client.path.suffix == ".py" else "node"
    return (TOOLS / folder / "installed").exists()


def main():
    # As an interrupt: the nodes end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    TOOLS.mkdir(parents=True, exist_ok=True)
    base = free_ports()
    cluster = f"clients-{os.getpid()}"
    peers = [base + 2_000 + number for number in range(NODES)]
    nodes = [Node(f"n{number + 1}", base + number, peers, number, cluster) for number in range(NODES)]
    clients = [Client(path, nodes) for path in sorted(HERE.iterdir()) if is_chosen(path)]
    passed, skipped, failed = 0, 0, {}
    try:
        for node in nodes:
            node.start()
        settle(nodes)
        for client in clients:
            print(f"{client.name}:", flush=True)
            if not can_run(client):
                print("  skipped: its package is not installed")
                skipped += 1
                continue
            failures = [
                client.check(),
                client.watch(nodes, signal.SIGTERM, "stopped"),
                client.watch(nodes, signal.SIGKILL, "killed"),
            ]
            failures = [failure for failure in failures if failure]
            for failure in failures:
                print(f"  FAILED: {failure}", flush=True)
            if failures:
                failed[client.name] = failures
            passed += not failures
    finally:
        for node in nodes:
            if node.process and node.process.poll() is None:
                node.process.kill()
                node.process.wait()
    # Once more, since often only the end of what is printed is looked at.
    for name, failures in failed.items():
        for failure in failures:
            print(f"{name} FAILED: {failure[-800:]}")
    print(f"{passed} passed, {len(failed)} failed, {skipped} skipped")
    sys.exit(1 if failed else NOT_TRIED if passed == 0 else 0)


if __name__ == "__main__":
    main()
