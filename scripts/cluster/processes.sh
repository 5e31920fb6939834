# Starting and ending nodes. Sourced by cluster.sh.
# shellcheck shell=bash disable=SC2154

# ---- building ---------------------------------------------------------------------------------

# Sets binary and probe.
build() {
    if [[ -n ${CACHEGOPHER_BIN:-} ]]; then
        binary=$(realpath -- "$CACHEGOPHER_BIN")
    else
        require_toolchain
        say "Building the release binary (the first time takes some minutes) ..."
        (cd "$root" && cargo build --release --locked --bins --quiet) || fail "the build failed"
        binary=${CARGO_TARGET_DIR:-$root/target}/release/cachegopher
    fi
    probe=$(dirname "$binary")/cluster-probe
    [[ -x $binary ]] || fail "$binary is no program" "unset CACHEGOPHER_BIN to build it"
    [[ -x $probe ]] || fail "$probe is missing" "cargo build --release --bins makes both"
}

probe() {
    "${probe:=$(setting probe)}" "$@"
}

# check_ports CLIENT_PORT...: that nobody has a node's ports.
check_ports() {
    local port taken lines=() ports=() deadline=$((SECONDS + 65))
    for port in "$@"; do
        ports+=("$port" $((port + 1000)) $((port - 1000)) $((port - 10000)))
    done
    while ! taken=$(probe ports "${ports[@]}" 2>/dev/null); do
        is_released_soon "$taken" && ((SECONDS < deadline)) || break
        say "Waiting until the system releases a port: $(tr '\n' ' ' <<<"$taken")..."
        sleep 3
    done
    [[ -n $taken ]] || return 0
    for port in $taken; do
        lines+=("port $port is in use$(user_of_port "$port")")
    done
    fail "a port that the cluster needs is taken" "${lines[@]}" \
        "end that program, or choose other ports: up --base-port P"
}

# Whether nothing but connections that have ended keep these ports: at most a minute longer.
is_released_soon() {
    local port
    has ss || return 1
    for port in $1; do
        [[ -z $(ss -Hantu "sport = :$port" | grep -v TIME-WAIT) ]] || return 1
    done
}

user_of_port() {
    has ss || return 0
    ss -Hantup "sport = :$1" 2>/dev/null |
        sed -nE 's/.*users:\(\("([^"]*)",pid=([0-9]+).*/ by \1, process \2/p' | head -n 1
}

# ---- processes --------------------------------------------------------------------------------

# Starts a node's process in a session of its own, where the user's Ctrl-C does not reach it.
start_process() {
    local name=$1 folder=$run/nodes/$1 peers='' other flags
    for other in $(node_names); do
        [[ $other == "$name" ]] || peers+=,127.0.0.1:$(peer_port "$other")
    done
    mapfile -t flags <"$run/flags"
    local arguments=(serve --name "$name" --cluster "$(setting name)" --bind 127.0.0.1
        --port "$(client_port "$name")" --peer-port "$(peer_port "$name")")
    [[ -z $peers ]] || arguments+=(--join "${peers#,}")
    rm -f "$folder/ended"
    # A signal between start and note would leave a process that nobody knows, so it has to wait.
    local interrupted=
    trap 'interrupted=130' INT
    trap 'interrupted=143' TERM HUP
    setsid env -u CACHEGOPHER_CONFIG "${binary:-$(setting binary)}" "${arguments[@]}" \
        ${flags[@]+"${flags[@]}"} >>"$folder/log" 2>&1 </dev/null {lock}>&- &
    printf '%s %s\n' $! "$(process_start $!)" >"$folder/process"
    disown
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    [[ -z $interrupted ]] || exit "$interrupted"
}

# What never changes during a process's life and is not the same for any other one.
process_start() {
    local fields
    fields=$(process_fields "$1") || return 0
    # shellcheck disable=SC2086
    set -- $fields
    say "${20}@$(cat /proc/sys/kernel/random/boot_id)"
}

# The fields of /proc/PID/stat behind the program's name, which may hold anything.
process_fields() {
    local line
    { line=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    say "${line##*) }"
}

# The id of a node's process, or nothing if it has ended.
process_id() {
    local pid start fields
    [[ -r $run/nodes/$1/process ]] || return 0
    read -r pid start <"$run/nodes/$1/process"
    fields=$(process_fields "$pid") || return 0
    # A zombie has ended, only nobody has asked how.
    [[ $fields != [ZX]* && $(process_start "$pid") == "$start" ]] || return 0
    say "$pid"
}

# running, paused, or how it ended.
process_state() {
    local pid
    pid=$(process_id "$1")
    if [[ -z $pid ]]; then
        if [[ -r $run/nodes/$1/ended ]]; then cat "$run/nodes/$1/ended"; else say crashed; fi
    elif [[ $(process_fields "$pid") == [Tt]* ]]; then
        say paused
    else
        say running
    fi
}

require_running() {
    [[ -n $(process_id "$1") ]] || fail "$1 does not run (it is $(process_state "$1"))" \
        "start it: $(cli start "$1")"
}

signal_process() {
    local pid
    pid=$(process_id "$1")
    [[ -z $pid ]] || kill -s "$2" "$pid" 2>/dev/null || true
}

note_end() {
    say "$2" >"$run/nodes/$1/ended"
    note_action "$1" "$2"
}

# end_process NAME SIGNAL HOW: and waits for its end; false after 20 s.
end_process() {
    local tries=400
    [[ -n $(process_id "$1") ]] || return 0
    note_end "$1" "$3"
    signal_process "$1" "$2"
    while [[ -n $(process_id "$1") ]]; do
        ((--tries > 0)) || return 1
        sleep 0.05
    done
}

# ---- waiting ----------------------------------------------------------------------------------

# wait_for_agreement SECONDS [OPTION...]: until all nodes that run have the same view; options are
# those of `cluster-probe wait`. Fails when one of them ends meanwhile.
wait_for_agreement() {
    local limit=$((SECONDS + $1)) names name reason list
    shift
    mapfile -t names < <(running_or_starting)
    list=$(node_list "${names[@]}")
    while true; do
        reason=$(probe wait --nodes "$list" --timeout-ms 500 "$@" 2>&1) && return
        for name in "${names[@]}"; do
            [[ -n $(process_id "$name") ]] || fail "$name did not come up; the end of its log:" \
                "$(last_log_lines "$name")"
        done
        ((SECONDS < limit)) || fail "the nodes do not agree: $reason" "$(unready_log "$reason")"
    done
}

# Those that are meant to run: also one that has just ended by itself.
running_or_starting() {
    local name
    for name in $(node_names); do
        case $(process_state "$name") in
            running | crashed) say "$name" ;;
        esac
    done
}

# The log of the node that a reason begins with.
unready_log() {
    local name=${1%% *}
    [[ ! -r $run/nodes/$name/log ]] || { say "the end of its log:"; last_log_lines "$name"; }
}

last_log_lines() {
    tail -n 10 "$run/nodes/$1/log" 2>/dev/null || say "(nothing)"
}
