"""redis-cli and redis-benchmark, plain and for a cluster. What they print is looked at: their exit codes
do not tell. They are not watched while a node is lost (77: not tried): each of their calls is a process."""

import os
import subprocess
import sys

CLIENT_PORT = os.environ["CLIENT_PORTS"].split(",")[0]
REDIRECT_PORT = os.environ["REDIRECT_PORTS"].split(",")[0]


def run(*words, given=""):
    done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr


def expect(step, output, *wanted):
    for text in wanted:
        if text not in output:
            sys.exit(f"{step}: {text!r} is not in\n{output[-2000:]}")
    print(f"  {step}", flush=True)


def check():
    plain = ["redis-cli", "-p", CLIENT_PORT]
    aware = ["redis-cli", "-c", "-p", REDIRECT_PORT]
    run(*plain, "FLUSHALL")
    for name, cli in [("redis-cli", plain), ("redis-cli -c", aware)]:
        lines = [f"SET key-{number} value-{number}" for number in range(100)]
        expect(f"{name}: set", str(run(*cli, given="\n".join(lines)).count("OK")), "100")
        lines = [f"GET key-{number}" for number in range(100)]
        expect(f"{name}: get", run(*cli, given="\n".join(lines)), "value-0\n", "value-99\n")
        # A busy machine may take some of its seconds away.
        seconds = run(*cli, given="EXPIRE key-1 1000000\nTTL key-1")
        expect(f"{name}: expire, ttl", seconds, "1\n1000000" if "1000000" in seconds else "1\n9999")
        expect(f"{name}: -3", run(*cli, "-3", "GET", "key-7"), "value-7")
        expect(f"{name}: mget", run(*cli, "MGET", "{t}1", "{t}2"), "\n")
    expect("redis-cli: mget of many slots", run(*plain, "MGET", "key-1", "key-2"), "value-1\nvalue-2")
    expect("redis-cli --scan", str(run(*plain, "--scan", "--pattern", "key-*").count("key-")), "100")
    expect("redis-cli --bigkeys", run(*plain, "--bigkeys"), "100 strings with 790 bytes")
    address = f"127.0.0.1:{REDIRECT_PORT}"
    agreed = ["[OK] All nodes agree about slots configuration.", "[OK] All 16384 slots covered."]
    expect("redis-cli --cluster check", run("redis-cli", "--cluster", "check", address), *agreed)
    expect("redis-cli --cluster info", run("redis-cli", "--cluster", "info", address), "100 keys in 3 masters")
    keys = ["-n", "5000", "-r", "1000", "-q"]
    for port, more in [(CLIENT_PORT, []), (CLIENT_PORT, ["-P", "16"]), (REDIRECT_PORT, ["--cluster"])]:
        output = run("redis-benchmark", "-p", port, "-t", "set,get,incr,mset", *keys, *more)
        name = " ".join(["redis-benchmark", *more])
        expect(name, output.replace("\r", "\n"), "\nSET: ", "\nGET: ", "\nINCR: ")
        expect(f"{name}: no errors", str("rror" in output), "False")
    run(*plain, "FLUSHALL")


if __name__ == "__main__":
    if sys.argv[1] == "watch":
        sys.exit(77)
    check()
