#!/usr/bin/env bash
# Measures what a request costs a node, beside Redis, memcached, and a server that does no work: the
# processor time per request, which differs less from run to run than throughput does.
#
# The servers run on one core and the load on another. In each round every case is measured with every
# server in turn, so that what the machine does besides falls on all of them; the medians of all rounds
# are printed as Markdown, and kept with all measurements in .run/bench/.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

# shellcheck source=cluster/say.sh
. "$here/cluster/say.sh"
# shellcheck source=cluster/packages.sh
. "$here/cluster/packages.sh"

usage() {
    cat <<'HELP'
Usage: scripts/bench.sh [ROUNDS]   (default 7; an odd number)

Settings of the environment:
  BENCH_SECONDS     how long each measurement takes (default 3)
  BENCH_KEYS        keys of 16 bytes that are there (default 1000000)
  BENCH_CASES       what is measured, of: pipeline large text forwarded replicated join idle many
                    keys (default: all)
HELP
}

case ${1:-7} in
    help | -h | --help) usage; exit ;;
esac
rounds=${1:-7}
check_number "the number of rounds" "$rounds" 1 999
seconds=${BENCH_SECONDS:-3}
keys=${BENCH_KEYS:-1000000}
cases=" ${BENCH_CASES:-pipeline large text forwarded replicated join idle many keys} "
server_core=0 load_core=1
out=${CACHEGOPHER_RUN:-$root/.run}/bench
first_port=27100 # below those that the system gives to clients

(($(nproc) >= 2)) || fail "two cores are needed, one for the servers and one for the load"
require_toolchain
has redis-server && has memcached || install_packages redis-server memcached ||
    fail "redis-server and memcached cannot be installed: ${not_installed:-}"
say "Building ..."
(cd "$root" && cargo build --release --quiet --bins --example bench)
binaries=${CARGO_TARGET_DIR:-$root/target}/release
bench=$binaries/examples/bench
mkdir -p "$out"
measurements=$out/measurements.jsonl
: >"$measurements"

# ---- servers -----------------------------------------------------------------------------------

declare -A process port
before=() # what a node is started with
next_port=$first_port

stop_all() {
    local name
    for name in "${!process[@]}"; do stop "$name"; done
}
trap stop_all EXIT

stop() {
    kill "${process[$1]}" 2>/dev/null || true
    wait "${process[$1]}" 2>/dev/null || true
    unset "process[$1]"
}

# run NAME COMMAND...: on the servers' core; waits until its port answers.
run() {
    local name=$1
    shift
    taskset -c "$server_core" "$@" >"$out/$name.log" 2>&1 &
    process[$name]=$!
    local tries=0
    until (exec 3<>"/dev/tcp/127.0.0.1/${port[$name]}") 2>/dev/null; do
        if ((++tries > 100)) || ! kill -0 "${process[$name]}" 2>/dev/null; then
            fail "$name does not start" "its output is in $(shown "$out/$name.log")"
        fi
        sleep 0.1
    done
}

take_port() {
    port[$1]=$((next_port++))
}

start_floor() { # NAME VALUE_BYTES
    take_port "$1"
    run "$1" "$bench" floor --address "127.0.0.1:${port[$1]}" --value-bytes "$2"
}

start_redis() {
    take_port "$1"
    run "$1" redis-server --port "${port[$1]}" --bind 127.0.0.1 --save '' --appendonly no
}

start_memcached() {
    take_port "$1"
    local as=()
    ((EUID != 0)) || as=(-u nobody)
    run "$1" memcached -l 127.0.0.1 -p "${port[$1]}" -U 0 -t 1 -m 4096 -c 20000 "${as[@]}"
}

start_gopher() { # NAME FLAG...: with its defaults, but for the memory
    local name=$1
    shift
    take_port "$name"
    take_port "$name-peer"
    run "$name" "${before[@]}" "$binaries/cachegopher" serve --name "$name" --cluster "bench-$$" --log warn \
        --port "${port[$name]}" --peer-port "${port[$name-peer]}" --max-memory 4GB "$@"
}

# ---- measurements --------------------------------------------------------------------------------

load() { # NAME FLAG...: puts a server under load
    local name=$1
    shift
    taskset -c "$load_core" "$bench" load --server "${name%%-*}" --address "127.0.0.1:${port[$name]}" \
        --seconds "$seconds" --keys "$keys" "$@"
}

# measure CASE NAME PROCESSES FLAG...
measure() {
    local case=$1 name=$2 processes=$3
    shift 3
    load "$name" --case "$case" --process "$processes" "$@" >>"$measurements"
}

fill() { # NAME FLAG...
    load "$1" --process "${process[$1]}" --fill --pipeline 16 "${@:2}"
}

wants() {
    [[ $cases == *" $1 "* ]]
}

# against_others VALUE_BYTES PIPELINE...: the same load on each of the servers.
against_others() {
    local bytes=$1 round pipeline
    shift
    say "Values of $bytes bytes: filling ..."
    start_floor floor "$bytes"
    start_redis redis
    start_memcached memcached
    start_gopher cachegopher
    fill redis --value-bytes "$bytes"
    fill memcached --value-bytes "$bytes" --protocol memcached
    fill cachegopher --value-bytes "$bytes"
    for ((round = 1; round <= rounds; round++)); do
        for pipeline in "$@"; do
            local case="$bytes bytes, pipeline $pipeline" flags=(--value-bytes "$bytes" --pipeline "$pipeline")
            local name
            for name in floor redis cachegopher; do
                measure "$case" "$name" "${process[$name]}" "${flags[@]}"
            done
            measure "$case" memcached "${process[memcached]}" "${flags[@]}" --protocol memcached
            if ((bytes == 64)) && wants text; then
                # Redis has no such protocol: it is asked in its own.
                measure "$case, text" redis "${process[redis]}" "${flags[@]}"
                measure "$case, text" cachegopher "${process[cachegopher]}" "${flags[@]}" --protocol text
            fi
        done
        say "  round $round of $rounds"
    done
    if ((bytes == 64)); then
        ! wants many || many
        ! wants idle || idle
    fi
    stop_all
}

# 5,000 active connections beside 50.
many() {
    local round name
    ulimit -n 20000
    for ((round = 1; round <= rounds; round++)); do
        for name in redis cachegopher; do
            measure "5000 connections" "$name" "${process[$name]}" --connections 5000
        done
    done
}

# The memory of 10,000 connections that have been used once.
idle() {
    ulimit -n 30000
    start_gopher cachegopher-idle
    start_redis redis-idle
    redis_limit redis-idle
    measure "10000 idle connections" redis-idle "${process[redis-idle]}" --idle --connections 10000 --keys 1000
    measure "10000 idle connections" cachegopher-idle "${process[cachegopher-idle]}" \
        --idle --connections 10000 --keys 1000
}

redis_limit() {
    printf 'CONFIG SET maxclients 20000\r\nQUIT\r\n' >"/dev/tcp/127.0.0.1/${port[$1]}"
}

# A node that has next to nothing, and one that has the rest: the first one forwards.
forwarded() {
    local round pipeline
    say "Forwarding: filling ..."
    start_gopher local --copies 1 --weight 1000
    start_gopher forwarded --copies 1 --weight 1 --join "127.0.0.1:${port[local-peer]}"
    settle
    fill local
    for ((round = 1; round <= rounds; round++)); do
        for pipeline in 1 16; do
            for name in local forwarded; do
                measure "GET in two nodes, pipeline $pipeline" "$name" "${process[local]},${process[forwarded]}" \
                    --sets 0 --pipeline "$pipeline"
            done
        done
        say "  round $round of $rounds"
    done
    stop_all
}

# Writes at a primary with a replica, which is waited for or not, and at one without: what they cost the
# primary.
replicated() {
    local round pipeline name
    say "Replication: filling ..."
    start_gopher single --copies 1
    for name in async waiting; do
        local ack=async
        [[ $name == async ]] || ack=replicated
        start_gopher "$name" --copies 2 --weight 1000 --ack "$ack"
        start_gopher "$name-replica" --copies 2 --weight 1 \
            --join "127.0.0.1:${port[$name-peer]}"
    done
    settle
    for name in single async waiting; do fill "$name"; done
    for ((round = 1; round <= rounds; round++)); do
        for pipeline in 1 16; do
            for name in single async waiting; do
                measure "SET, pipeline $pipeline" "$name" "${process[$name]}" --sets 11 --pipeline "$pipeline"
            done
        done
        say "  round $round of $rounds"
    done
    stop_all
}

# A primary by itself, and while a replica joins and gets all it has. The replica has what time the load
# leaves on its core.
join() {
    local round case="while a replica joins"
    say "Joining: filling ..."
    start_gopher alone --copies 2 --weight 1000
    fill alone
    port[joined]=${port[alone]}
    for ((round = 1; round <= rounds; round++)); do
        measure "$case" alone "${process[alone]}"
        measure "$case" joined "${process[alone]}" &
        local measuring=$!
        join_softly "joiner$round"
        wait "$measuring"
        stop "joiner$round"
        settle
        say "  round $round of $rounds"
    done
    stop_all
}

join_softly() { # NAME
    local server_core=$load_core before=(nice -n 19)
    start_gopher "$1" --copies 2 --weight 1 --join "127.0.0.1:${port[alone-peer]}"
}

# A node that has few keys and one that has very many.
many_keys() {
    local round pipeline
    say "10,000 and 10 million keys: filling ..."
    start_gopher few
    start_gopher lots
    fill few --keys 10000
    fill lots --keys 10000000
    for ((round = 1; round <= rounds; round++)); do
        for pipeline in 1 16; do
            measure "10 k or 10 M keys, pipeline $pipeline" few "${process[few]}" \
                --keys 10000 --pipeline "$pipeline"
            measure "10 k or 10 M keys, pipeline $pipeline" lots "${process[lots]}" \
                --keys 10000000 --pipeline "$pipeline"
        done
        say "  round $round of $rounds"
    done
    stop_all
}

# Until who joins has what it is to have.
settle() {
    sleep 3
}

machine() {
    local model
    model=$(awk -F ': *' '/^model name/ { print $2; exit }' /proc/cpuinfo)
    say "$(nproc) cores of ${model:-an unknown processor}, Linux $(uname -r), $(date -u +%F)." \
        "$rounds rounds of $seconds s, $keys keys of 16 bytes, 50 connections, 10 GET to 1 SET," \
        "servers on core $server_core, load on core $load_core."
}

versions() {
    say "$(redis-server --version | cut -d ' ' -f 1-3), $(memcached --version)," \
        "CacheGopher $(git -C "$root" rev-parse --short HEAD 2>/dev/null || say unknown)."
}

! wants pipeline || against_others 64 1 16 64
! wants large || against_others 1024 1
! wants forwarded || forwarded
! wants replicated || replicated
! wants join || join
! wants keys || many_keys

{
    machine
    versions
    say
    "$bench" table <"$measurements"
} | tee "$out/table.md"
"$bench" table --json <"$measurements" >"$out/table.json"
say
say "Kept in $(shown "$out")/: table.md, table.json, measurements.jsonl"
