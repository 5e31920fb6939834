# The demo: what clients see when a primary is killed. Sourced by cluster.sh.
# shellcheck shell=bash

demo_keys=10000

command_demo() {
    local victim survivors killed_at is_mine='' names list
    local -A found=()
    expect_no_arguments demo "$@"
    demo_cluster
    mapfile -t names < <(node_names)
    list=$(node_list "${names[@]}")
    demo_load
    demo_choose_victim
    demo_kill
    demo_verdict
    demo_restart
    demo_clean_up
}

# Takes the cluster that is up, or brings one up for the time of the demo.
demo_cluster() {
    if is_up && [[ -n $(running_nodes) ]]; then
        lock_run_folder
        say "Using the cluster that is up. One of its nodes will be killed and started again; its other keys stay."
    else
        say "No cluster is up: starting one for the demo."
        local count=3 base_port=${CACHEGOPHER_BASE_PORT:-31337} flags=()
        check_number "the base port" "$base_port" 11024 $((31767 - nodes_max))
        lock_run_folder
        build
        check_ports $(seq "$base_port" $((base_port + count - 1)))
        bring_up
        is_mine=yes
        on_exit=demo_take_down
    fi
    local name
    for name in $(node_names); do
        [[ $(process_state "$name") == running ]] || fail "the demo wants all nodes to run, but $name is $(process_state "$name")"
    done
    (($(node_names | wc -l) > 1)) || fail "the demo kills a node, so it needs at least two" "one more: $(cli add)"
    wait_for_agreement 30 --settled
}

demo_take_down() {
    take_down
    say "The demo's cluster is down again."
}

demo_step() {
    printf '\n%s\n' "$(bold "$1")"
}

demo_load() {
    demo_step "1. Load $(grouped $demo_keys) keys through all nodes"
    collect "$(probe load --nodes "$list" --keys $demo_keys)"
    say "   done in ${found[milliseconds]} ms"
}

# Fills found with "name value" lines.
collect() {
    local name value
    while read -r name value; do
        found[$name]=$value
    done <<<"$1"
}

demo_choose_victim() {
    local name count owners mark
    demo_step "2. Who is primary for the most of them?"
    owners=$(probe owners --nodes "$list" --keys $demo_keys)
    read -r victim count <<<"$owners"
    while read -r name count; do
        if [[ $name == "$victim" ]]; then mark=$(red "  <- the victim"); else mark=; fi
        printf '   %-4s %6s keys%s\n' "$name" "$(grouped "$count")" "$mark"
    done <<<"$owners"
    mapfile -t survivors < <(node_names | grep -vx "$victim")
}

# Runs clients, kills the victim under them, and collects what they found.
demo_kill() {
    local line results pid
    demo_step "3. Kill it while clients write and read through ${survivors[*]}"
    coproc driver { probe drive --nodes "$(node_list "${survivors[@]}")" --keys $demo_keys --victim "$victim"; }
    # The variables of a coprocess vanish with it.
    local from=${driver[0]} to=${driver[1]} driver_pid=$driver_PID
    read -r line <&"$from" || fail "the clients could not be started"
    sleep 1
    declare -gA log_read=()
    skip_events "$(log_sizes)"
    pid=$(process_id "$victim")
    # No step lies between checking the id and using it, and the clock is read when the signal is out:
    # what was answered until then is no failover.
    kill -s KILL "$pid"
    killed_at=$EPOCHREALTIME
    printf 'failed %s\n' "${killed_at/,/.}" >&"$to"
    note_end "$victim" killed
    say "   kill -9 $pid, which was $victim"
    sleep 2
    printf 'done\n' >&"$to"
    results=$(cat <&"$from")
    wait "$driver_pid" || fail "the clients could not tell what they saw"
    collect "$results"
    demo_errors=$(sed -n 's/^error /   /p' <<<"$results")
    new_log_lines "$(log_sizes)" | grep -v 'cluster\.sh: ' | describe_events "$(milliseconds_of_day "$killed_at")" | sed 's/^/   /'
}

# milliseconds_of_day EPOCHREALTIME: since midnight UTC.
milliseconds_of_day() {
    local seconds=${1%[.,]*} micros=${1#*[.,]}
    say $((seconds % 86400 * 1000 + 10#$micros / 1000))
}

demo_verdict() {
    demo_step "4. What the clients saw"
    local requests=$((found[writes] + found[reads]))
    demo_line "failover time" "$victim was primary of ${found[ranges]} ranges of keys (${found[partitions]} partitions). After the kill"
    demo_line "" "the first could be written again after $(milliseconds "${found[range_first_us]:-0}"), half of them after $(milliseconds "${found[range_p50_us]:-0}"),"
    demo_line "" "$(demo_all_ranges)"
    demo_line "longest wait" "write $(milliseconds "${found[write_longest_us]}"), read $(milliseconds "${found[read_longest_us]}")" \
        "(half of all took less than $(milliseconds "${found[write_median_us]}") and $(milliseconds "${found[read_median_us]}"))"
    demo_line "errors" "${found[errors]} of $(grouped $requests) requests"
    [[ -z $demo_errors ]] || say "$demo_errors"
    demo_line "writes lost" "${found[lost]} of $(grouped "${found[acknowledged]}") acknowledged" "$(demo_lost_when)"
    wait_for_survivors
    collect "$(probe readable --nodes "$(node_list "${survivors[@]}")" --keys $demo_keys)"
    demo_line "keys readable" "$(grouped "${found[readable]}") of $(grouped $demo_keys)"
}

demo_line() {
    printf '   %-15s %s\n' "$1" "${*:2}" | sed 's/ *$//'
}

demo_all_ranges() {
    if ((found[ranges_writable] == found[ranges])); then
        say "and all of them after $(bold "$(milliseconds "${found[range_last_us]}")")"
    else
        say "$(red "$((found[ranges] - found[ranges_writable])) of them not within 2 s")"
    fi
}

demo_lost_when() {
    [[ -z ${found[lost_earliest_before_us]:-} ]] ||
        say "(all acknowledged in the last $(milliseconds "${found[lost_earliest_before_us]}") before the kill)"
}

wait_for_survivors() {
    probe wait --nodes "$(node_list "${survivors[@]}")" --timeout-ms 10000 ||
        fail "the survivors do not agree"
}

demo_restart() {
    local started=$EPOCHREALTIME
    demo_step "5. Start $victim again"
    join_cluster "$victim" | sed 's/^/   /'
    say "   $victim is a member again after $(seconds_since "$started") s"
    wait_for_agreement 30 --settled
    collect_status "$victim"
    say "   and has its share back after $(seconds_since "$started") s: primary of ${found[primaries]} partitions, replica of ${found[replicas]}"
    collect "$(probe readable --nodes "$(node_list "$victim")" --keys $demo_keys)"
    say "   keys readable through $victim: $(grouped "${found[readable]}") of $(grouped $demo_keys)"
    # Last changes may still be on their way: it waits for them, as long as a healed split may take.
    "$(setting binary)" verify --admin "$(admin_address "$victim")" | sed 's/^/   /'
}

collect_status() {
    local primaries replicas
    read -r _ _ _ primaries replicas _ < <(probe status --nodes "$(node_list "$1")")
    found[primaries]=$primaries
    found[replicas]=$replicas
}

demo_clean_up() {
    probe delete --nodes "$list" --keys $demo_keys >/dev/null
    echo
    [[ -n $is_mine ]] || say "The demo's keys are deleted, the cluster is up and whole: $(cli status)"
}
