#!/usr/bin/env bash
# Uses cluster.sh as a person would, on ports and in a run folder of its own, and checks what it says.
# Ends everything it started, whatever happens. CACHEGOPHER_BIN says which build, as for cluster.sh.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
failures=0
checks=0
work=
foreign=

main() {
    work=$(mktemp -d)
    export CACHEGOPHER_RUN=$work/run
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    # Below the ports that the system gives to outgoing connections, with the nodes' peer ports.
    export CACHEGOPHER_BASE_PORT=$((21500 + SRANDOM % 9000))
    # A different place, to show that it works from anywhere.
    cd /

    refuses_before_there_is_a_cluster
    refuses_wrong_arguments
    brings_a_cluster_up
    refuses_a_second_one
    survives_a_kill
    stops_pauses_and_adds
    removes_and_forgets
    watches
    demonstrates_failover
    goes_down
    refuses_ports_in_use
    leaves_nothing_when_a_node_does_not_come_up
    leaves_nothing_when_interrupted
    leaves_a_recycled_process_alone
    demonstrates_failover_from_nothing

    printf '%d checks, %d failed\n' "$checks" "$failures"
    ((failures == 0))
}

# ---- what is checked ----------------------------------------------------------------------------

refuses_before_there_is_a_cluster() {
    expect 1 "no cluster is up" cluster status
    expect 1 "no cluster is up" cluster down
    expect 1 "no cluster is up" cluster kill 1
    expect 1 "no cluster is up" cluster watch
    expect 0 "Usage: " cluster help
}

refuses_wrong_arguments() {
    expect 2 "no command dance" cluster dance
    expect 2 "must be 1 to 20" cluster up 21
    expect 2 "must be 1 to 20" cluster up three
    expect 2 "no option --copies" cluster up --copies 3
    expect 2 "chosen by this script" cluster up 3 -- --name x
    expect 2 "takes no arguments" cluster status n1
    expect 2 "usage: kill N" cluster kill
}

brings_a_cluster_up() {
    expect 0 "3 nodes agree on the ring" cluster up 3 -- --copies 2
    cp "$work/said" "$work/up"
    expect 0 "The page that shows it all, live: http://127.0.0.1:$((CACHEGOPHER_BASE_PORT - 1000))/" cat "$work/up"
    expect 0 "3 of 3 nodes answer, all agree, all copies in place" cluster status
    expect 0 "n3 .* running +alive" cluster status
    expect 0 "node starts" cluster logs 1
    expect 1 "there is no node 9" cluster kill 9
    expect 1 "already runs" cluster start 1
    expect 1 "not paused" cluster resume 1
}

refuses_a_second_one() {
    expect 1 "already up here .3 nodes run" cluster up
    expect 0 "3 of 3 nodes answer" cluster status
}

survives_a_kill() {
    expect 0 "n2 .* is killed" cluster kill 2
    eventually "n2 +- .* killed +dead"
    expect 1 "does not run .it is killed" cluster kill n2
    expect 0 "n2 is back" cluster start n2
    eventually "3 of 3 nodes answer, all agree, all copies in place"
}

stops_pauses_and_adds() {
    expect 0 "n3 has handed over and ended" cluster stop 3
    eventually "n3 +- .* stopped"
    expect 0 "n3 is back" cluster start 3
    expect 0 "n1 stands still" cluster pause 1
    expect 1 "is paused" cluster stop 1
    eventually "n1 .* paused +dead"
    expect 0 "n1 goes on" cluster resume 1
    eventually "n1 .* running +alive"
    expect 0 "n4 has joined" cluster add
    eventually "4 of 4 nodes answer, all agree, all copies in place"
}

removes_and_forgets() {
    expect 0 "n5 has joined" cluster add
    expect 1 "n5 runs" cluster forget 5
    expect 0 "n5 has left for good" cluster remove 5
    eventually "4 of 4 nodes answer, all agree, all copies in place"
    expect 1 "there is no node 5" cluster start 5
    expect 0 "n6 has joined" cluster add
    expect 0 "n6 .* is killed" cluster kill 6
    eventually "n6 +- .* killed +dead"
    expect 0 "n6 is forgotten; 3 of 3 other nodes" cluster forget 6
    eventually "4 of 4 nodes answer, all agree, all copies in place"
}

watches() {
    local seen=$work/watched
    "$here/cluster.sh" watch --seconds 5 >"$seen" &
    local watching=$!
    sleep 1
    cluster kill 4 >/dev/null || true
    sleep 0.5
    cluster start 4 >/dev/null || true
    wait "$watching" || true
    expect 0 "4 of 4 nodes answer" cat "$seen"
    expect 0 "n4 killed by cluster.sh" cat "$seen"
    expect 0 "n4 dead, seen by " cat "$seen"
    expect 0 "promoted: now primary of [0-9]+ partitions of n4" cat "$seen"
    expect 0 "n4 joined, seen by " cat "$seen"
    expect 0 "n4 synced [0-9]+ partitions" cat "$seen"
    eventually "4 of 4 nodes answer, all agree, all copies in place"
}

demonstrates_failover() {
    local said=$work/demo
    expect 0 "Using the cluster that is up" cluster demo
    cp "$work/said" "$said"
    expect 0 "all of them after " cat "$said"
    expect 0 "errors +0 of " cat "$said"
    expect 0 "keys readable +10,000 of 10,000" cat "$said"
    expect 0 "4 of 4 nodes answer.* 0 keys" cluster status
    cat "$said"
}

goes_down() {
    expect 0 "The cluster is down" cluster down
    expect_no_node
    expect 1 "no cluster is up" cluster status
}

refuses_ports_in_use() {
    # A program of ours that is no node, on the peer port of n2.
    python3 -c 'import socket, sys, time
s = socket.create_server(("127.0.0.1", int(sys.argv[1]))); time.sleep(600)' $((CACHEGOPHER_BASE_PORT - 9999)) &
    foreign=$!
    sleep 0.5
    expect 1 "port $((CACHEGOPHER_BASE_PORT - 9999)) is in use" cluster up
    expect_no_node
    kill "$foreign"
    wait "$foreign" 2>/dev/null || true
    foreign=
}

leaves_nothing_when_a_node_does_not_come_up() {
    expect 1 "copies is 9, but must be 1 to 5" cluster up 3 -- --copies 9
    expect_no_node
}

leaves_nothing_when_interrupted() {
    "$here/cluster.sh" up 20 >/dev/null 2>&1 &
    local starting=$!
    for _ in {1..100}; do
        [[ -z $(nodes_here) ]] || break
        sleep 0.05
    done
    kill -s TERM "$starting"
    wait "$starting" 2>/dev/null || true
    expect_no_node
}

leaves_a_recycled_process_alone() {
    expect 0 "1 nodes* agree" cluster up 1
    sleep 600 &
    foreign=$!
    local file=$CACHEGOPHER_RUN/nodes/n1/process was
    was=$(cat "$file")
    # As if n1 had ended long ago and its id had been given to another program.
    printf '%s %s\n' "$foreign" "${was#* }" >"$file"
    expect 1 "n1 does not run" cluster kill 1
    expect 0 "alive" process_is_alive "$foreign"
    printf '%s\n' "$was" >"$file"
    kill "$foreign"
    foreign=
    expect 0 "The cluster is down" cluster down
}

demonstrates_failover_from_nothing() {
    expect 0 "The demo's cluster is down again" cluster demo
    expect_no_node
}

# ---- how it is checked --------------------------------------------------------------------------

cluster() {
    "$here/cluster.sh" "$@"
}

# expect CODE PATTERN COMMAND...: it ends with this code and says this.
expect() {
    local code=$1 pattern=$2 ended=0 started=$SECONDS
    shift 2
    "$@" >"$work/said" 2>&1 </dev/null || ended=$?
    checks=$((checks + 1))
    if ((ended != code)) || ! grep -Eq -- "$pattern" "$work/said"; then
        failures=$((failures + 1))
        printf 'FAILED: %s\n  ended with %d instead of %d, or did not say "%s":\n' "$*" "$ended" "$code" "$pattern"
        sed 's/^/  | /' "$work/said"
    else
        printf 'ok: %s (%d s)\n' "$*" $((SECONDS - started))
    fi
}

# eventually PATTERN: status says this within 20 s.
eventually() {
    local status
    for _ in {1..100}; do
        status=$(cluster status 2>/dev/null || true)
        ! grep -Eq -- "$1" <<<"$status" || break
        sleep 0.2
    done
    expect 0 "$1" cluster status
}

process_is_alive() {
    kill -s 0 "$1" && echo alive
}

# The processes of nodes of our run folder's clusters, found without cluster.sh.
nodes_here() {
    local port
    for port in $(seq "$CACHEGOPHER_BASE_PORT" $((CACHEGOPHER_BASE_PORT + 19))); do
        pgrep -f -- "--port $port " || true
    done
}

expect_no_node() {
    checks=$((checks + 1))
    if [[ -n $(nodes_here) ]]; then
        failures=$((failures + 1))
        printf 'FAILED: nodes still run: %s\n' "$(nodes_here | tr '\n' ' ')"
    else
        echo "ok: no node runs"
    fi
}

clean_up() {
    local code=$?
    # A second signal must not keep this from ending.
    trap '' INT TERM HUP
    [[ -z $foreign ]] || kill "$foreign" 2>/dev/null || true
    ! [[ -e $CACHEGOPHER_RUN/cluster ]] || cluster down >/dev/null 2>&1 || true
    rm -rf "$work"
    exit "$code"
}

main "$@"
