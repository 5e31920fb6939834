#!/usr/bin/env bash
# Runs a CacheGopher cluster on this machine: `cluster.sh help` says how.
#
# It ends only processes that it started itself: each node's folder notes its process id together
# with the moment the process started, so that an id which was given away anew is left alone.
# The nodes' folders, logs included, are in .run/ beside this script's folder.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
run=${CACHEGOPHER_RUN:-$root/.run}
nodes_max=20

# shellcheck source=cluster/say.sh
. "$here/cluster/say.sh"
# shellcheck source=cluster/packages.sh
. "$here/cluster/packages.sh"
# shellcheck source=cluster/run-folder.sh
. "$here/cluster/run-folder.sh"
# shellcheck source=cluster/processes.sh
. "$here/cluster/processes.sh"
# shellcheck source=cluster/show.sh
. "$here/cluster/show.sh"
# shellcheck source=cluster/demo.sh
. "$here/cluster/demo.sh"

usage() {
    cat <<'HELP'
Usage: scripts/cluster.sh <command>

  up [N] [--base-port P] [-- FLAG...]
                    build, and start N nodes (default 3); the flags are given to every node,
                    such as -- --copies 3; `cachegopher serve --help` lists them
  status            a table: who lives, who holds what
  watch [--seconds S]
                    the same, live, and what happens; Ctrl-C ends it
  demo              load 10,000 keys, kill the node that is primary for the most of them,
                    and show what clients saw

  kill N            SIGKILL: the node has no chance to say good-bye
  stop N            SIGTERM: the node hands over first; waits for its end
  pause N           SIGSTOP: the node stands still, as in a very long stall
  resume N          SIGCONT
  start N           start a node that was killed or stopped
  add               one more node joins
  remove N          the node leaves for good: its keys move to the others, then it ends
  forget N          a node that was killed or stopped is taken out for good
  verify            compare all copies of all keys; fails if some differ
  logs N [-f]       what a node has logged; -f: and goes on logging

  down              stop all nodes
  help              this text

A node is named by its number or its name: 2 or n2.

Environment:
  CACHEGOPHER_RUN        the run folder             [default: .run in the repository]
  CACHEGOPHER_BASE_PORT  client port of n1          [default: 31337; others follow, peers -10000, redirect +1000]
  CACHEGOPHER_BIN        a node's binary, if it is not to be built; cluster-probe is beside it
HELP
}

# ---- up and down ------------------------------------------------------------------------------

command_up() {
    local count=3 base_port=${CACHEGOPHER_BASE_PORT:-31337} flags=()
    parse_up "$@"
    check_number "the number of nodes" "$count" 1 "$nodes_max"
    check_number "the base port" "$base_port" 11024 $((31767 - nodes_max))
    check_flags ${flags[@]+"${flags[@]}"}
    lock_run_folder
    if is_up && [[ -n $(running_nodes) ]]; then
        fail "a cluster is already up here ($(running_nodes | wc -l) nodes run)" \
            "see: $(cli status), $(cli add), or $(cli down) first"
    fi
    build
    check_ports $(seq "$base_port" $((base_port + count - 1)))
    bring_up
    explain_use
}

# Sets count, base_port and flags of the caller.
parse_up() {
    while (($# > 0)); do
        case $1 in
            --) shift; flags=("$@"); return ;;
            --base-port)
                (($# > 1)) || wrong_arguments "--base-port needs a port"
                base_port=$2
                shift 2 ;;
            --base-port=*) base_port=${1#*=}; shift ;;
            -*) wrong_arguments "up knows no option $1; a node's flags stand behind --" ;;
            *) count=$1; shift ;;
        esac
    done
}

# Starts the nodes of count, base_port and flags; takes them down again when it does not succeed.
bring_up() {
    create_run "$base_port" ${flags[@]+"${flags[@]}"}
    on_exit=abandon_up
    local number started=$EPOCHREALTIME
    for ((number = 1; number <= count; number++)); do
        create_node "$number"
    done
    for ((number = 1; number <= count; number++)); do
        start_process "n$number"
    done
    say "Starting $count nodes ..."
    wait_for_agreement "$((20 + count))" --settled
    on_exit=
    say "$(green "The cluster is up"): $count nodes agree on the ring after $(seconds_since "$started") s."
}

abandon_up() {
    local name
    for name in $(running_nodes); do
        end_process "$name" KILL "never up"
    done
    rm -f "$run/cluster"
    say "Nothing was left running. The logs are in $(shown "$run/nodes")." >&2
}

explain_use() {
    local port
    port=$(client_port n1)
    cat <<TEXT

Talk to any node, here to n1:
    nc 127.0.0.1 $port
    SET greeting hello world
    GET greeting
    NODES
    EXIT

Then try:
    $(cli status)
    $(cli watch)      in a second terminal, while you
    $(cli kill 2)     and
    $(cli start 2)
    $(cli demo)
    $(cli down)

The page that shows it all, live: http://$(admin_address n1)/
TEXT
}

command_down() {
    expect_no_arguments down "$@"
    require_up
    lock_run_folder
    take_down
    say "The cluster is down. Its logs are in $(shown "$run/nodes") until the next up."
}

# Asks all nodes to stop at once, and after a while makes them.
take_down() {
    local name deadline=$((SECONDS + 10))
    for name in $(running_nodes); do
        signal_process "$name" TERM
        signal_process "$name" CONT
        note_end "$name" stopped
    done
    while ((SECONDS < deadline)) && [[ -n $(running_nodes) ]]; do
        sleep 0.05
    done
    for name in $(running_nodes); do
        say "$name did not stop in time and is killed."
        end_process "$name" KILL killed
    done
    rm -f "$run/cluster"
}

# ---- one node ---------------------------------------------------------------------------------

command_kill() {
    local name pid
    choose_node kill "$@"
    require_running "$name"
    pid=$(process_id "$name")
    end_process "$name" KILL killed
    say "$name (process $pid) is killed. The others notice by themselves: $(cli status)"
}

command_stop() {
    local name started=$EPOCHREALTIME
    choose_node stop "$@"
    require_running "$name"
    [[ $(process_state "$name") != paused ]] || fail "$name is paused, so it cannot stop by itself" \
        "$(cli resume "$name") first, or $(cli kill "$name")"
    say "Stopping $name ..."
    end_process "$name" TERM stopped || fail "$name did not stop within 20 s" "$(last_log_lines "$name")"
    say "$name has handed over and ended after $(seconds_since "$started") s."
}

command_pause() {
    local name
    choose_node pause "$@"
    require_running "$name"
    [[ $(process_state "$name") != paused ]] || fail "$name is already paused"
    signal_process "$name" STOP
    note_action "$name" paused
    say "$name stands still. $(cli resume "$name") lets it go on."
}

command_resume() {
    local name
    choose_node resume "$@"
    require_running "$name"
    [[ $(process_state "$name") == paused ]] || fail "$name is not paused"
    signal_process "$name" CONT
    note_action "$name" resumed
    say "$name goes on."
}

command_start() {
    local name started=$EPOCHREALTIME
    choose_node start "$@"
    [[ -z $(process_id "$name") ]] || fail "$name already runs (it is $(process_state "$name"))"
    check_ports "$(client_port "$name")"
    join_cluster "$name"
    say "$name is back after $(seconds_since "$started") s: $(cli status)"
}

command_add() {
    local number port started=$EPOCHREALTIME
    expect_no_arguments add "$@"
    require_up
    lock_run_folder
    # Counting those that were taken out: no name is given twice.
    number=$(($(printf '%s\n' "$run"/nodes/n*/ | wc -l) + 1))
    ((number <= nodes_max)) || fail "there are already $nodes_max nodes, which is enough for one machine"
    port=$(($(setting base_port) + number - 1))
    check_ports "$port"
    create_node "$number"
    on_exit="abandon_node n$number"
    join_cluster "n$number"
    on_exit=
    say "n$number has joined on port $port after $(seconds_since "$started") s: $(cli status)"
}

abandon_node() {
    end_process "$1" KILL "never up"
    mv "$run/nodes/$1/log" "$run/$1.failed.log"
    rm -r "${run:?}/nodes/$1"
    say "$1 was taken back. Its log is $(shown "$run/$1.failed.log")." >&2
}

# Starts a node and waits until the nodes that run agree that it is one of them.
join_cluster() {
    start_process "$1"
    say "Starting $1 ..."
    wait_for_agreement 20
}

# For good, so that all that it has moves to the others first.
command_remove() {
    local name started=$EPOCHREALTIME
    choose_node remove "$@"
    require_running "$name"
    say "$name leaves ..."
    "$(setting binary)" leave --admin "$(admin_address "$name")" || fail "$name has not left"
    note_end "$name" left
    : >"$run/nodes/$name/gone"
    say "$name has left for good after $(seconds_since "$started") s: $(cli status)"
}

command_forget() {
    local name asked
    choose_node forget "$@"
    [[ -z $(process_id "$name") ]] || fail "$name runs (it is $(process_state "$name"))" \
        "$(cli remove "$name") takes it out, or $(cli kill "$name") first"
    asked=$(running_nodes)
    # Not by head: it would end the pipe under a writer that still has something to say.
    asked=${asked%%$'\n'*}
    [[ -n $asked ]] || fail "no node runs that could forget $name"
    "$(setting binary)" forget "$name" --admin "$(admin_address "$asked")" || fail "$name is not forgotten"
    note_action "$name" forgotten
    : >"$run/nodes/$name/gone"
}

command_verify() {
    local asked
    expect_no_arguments verify "$@"
    require_up
    asked=$(running_nodes)
    asked=${asked%%$'\n'*}
    [[ -n $asked ]] || fail "no node runs"
    "$(setting binary)" verify --admin "$(admin_address "$asked")" || fail "not all copies are alike"
}

command_logs() {
    local name log
    [[ $# -eq 1 || ($# -eq 2 && ${2:-} == -f) ]] || wrong_arguments "usage: logs N [-f]"
    require_folder
    name=$(node_name "$1")
    log=$run/nodes/$name/log
    [[ -r $log ]] || fail "$name has logged nothing yet"
    if [[ ${2:-} == -f ]]; then
        exec tail -n 50 -F "$log"
    fi
    cat "$log"
}

# ---- the command line ---------------------------------------------------------------------------

main() {
    local command=${1:-help}
    (($# == 0)) || shift
    check_system
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    trap finish EXIT
    case $command in
        up | down | status | watch | demo | kill | stop | pause | resume | start | add | remove | forget | verify | logs)
            "command_$command" "$@" ;;
        help | -h | --help) usage ;;
        *) wrong_arguments "there is no command $command" ;;
    esac
}

# What is to be done however the script ends: a function's name, or nothing.
on_exit=

finish() {
    local code=$?
    trap '' INT TERM HUP
    if [[ -n $on_exit ]]; then
        set +e
        $on_exit
    fi
    exit "$code"
}

main "$@"
