# Showing the cluster: status and watch. Sourced by cluster.sh.
# shellcheck shell=bash

command_status() {
    expect_no_arguments status "$@"
    require_up
    table
}

# ---- the table --------------------------------------------------------------------------------

# A headline, then a line per node.
table() {
    local names rows
    mapfile -t names < <(node_names)
    rows=$(probe status --nodes "$(node_list "${names[@]}")")
    headline "$rows"
    bold "$(printf '%-5s %8s %7s %6s  %-8s %-13s %8s %8s %9s %9s  %s' \
        node process client peer state 'seen as' primary replica keys memory view)"
    echo
    local name answers seen primaries replicas keys bytes view rest
    while read -r name answers seen primaries replicas keys bytes view rest; do
        table_line
    done <<<"$rows"
}

headline() {
    awk -v cluster="$(setting name)" '
        { nodes++ }
        $2 == 1 { answering++; keys += $6; views[$8] = 1; missing += $11; if ($9 == 1) settled++ }
        END {
            for (view in views) { view_count++; one_view = view }
            agreement = answering == 0 ? "no node answers" \
                : view_count > 1 ? view_count " different views" \
                : settled == answering ? "all agree, all copies in place" \
                : missing > 0 ? "all agree, " missing " copies still to be made" : "all agree, copies moving"
            printf "cluster %s: %d of %d nodes answer, %s, %d keys\n", cluster, answering, nodes, agreement, keys
        }' <<<"$1"
}

# One node, from the variables of the caller.
table_line() {
    local state port shade
    state=$(process_state "$name")
    port=$(client_port "$name")
    case $state/$seen in
        running/alive) shade=green ;;
        running/* | paused/*) shade=yellow ;;
        *) shade=red ;;
    esac
    printf '%-5s %8s %7s %6s  ' "$name" "$(process_id_or_dash)" "$port" $((port - 10000))
    $shade "$(printf '%-8s %-13s' "$state" "$seen")"
    printf ' %8s %8s %9s %9s  %s\n' "$primaries" "$replicas" "$(grouped "$keys")" "$(megabytes "$bytes")" "$view"
}

process_id_or_dash() {
    local pid
    pid=$(process_id "$name")
    say "${pid:--}"
}

megabytes() {
    if [[ $1 == - ]]; then say -; else awk -v bytes="$1" 'BEGIN { printf "%.1f MB", bytes / 1e6 }'; fi
}

# ---- watching ---------------------------------------------------------------------------------

command_watch() {
    local seconds= end
    case $# in
        0) ;;
        2) [[ $1 == --seconds ]] || wrong_arguments "usage: watch [--seconds S]"
            seconds=$2
            check_number "the number of seconds" "$seconds" 1 86400 ;;
        *) wrong_arguments "usage: watch [--seconds S]" ;;
    esac
    require_up
    end=$((SECONDS + ${seconds:-0}))
    declare -gA log_read=()
    skip_events "$(log_sizes)"
    if [[ -t 1 ]]; then watch_on_screen; else watch_in_lines; fi
}

is_watching() {
    is_up && [[ -z $seconds ]] || { is_up && ((SECONDS < end)); }
}

# The table on top, drawn again and again, and the latest events below it.
watch_on_screen() {
    local events=() new picture rows room
    printf '\e[2J\e[?25l'
    on_exit=leave_screen
    while is_watching; do
        new_events
        events+=(${new[@]+"${new[@]}"})
        picture=$(table)
        rows=$(tput lines 2>/dev/null || say 24)
        room=$((rows - $(wc -l <<<"$picture") - 4))
        ((room > 0)) || room=1
        ((${#events[@]} <= room)) || events=("${events[@]: -room}")
        {
            printf '%s\n\n' "$picture"
            dim "events (UTC); Ctrl-C ends"
            echo
            ((${#events[@]} == 0)) || printf '%s\n' "${events[@]}"
        } | draw
        sleep 0.25
    done
}

# Each line replaces what stood there, so that nothing flickers. Lines that are too long are cut.
draw() {
    local frame
    frame=$(sed $'s/$/\e[K/')
    printf '\e[?7l\e[H%s\e[J\e[?7h' "$frame"
}

leave_screen() {
    printf '\e[?25h\e[?7h\n'
}

# For files and pipes: events as they come, and the table whenever it has changed.
watch_in_lines() {
    local new picture shape last=
    while is_watching; do
        new_events
        ((${#new[@]} == 0)) || printf '%s\n' "${new[@]}"
        picture=$(table)
        # Keys and memory change all the time.
        shape=$(sed 's/, [0-9]* keys$//' <<<"$picture" | awk '{ print $1, $2, $5, $6, $7, $8, $NF }')
        if [[ $shape != "$last" ]]; then
            printf '\n%s\n\n' "$picture"
            last=$shape
        fi
        sleep 0.25
    done
}

# ---- events -----------------------------------------------------------------------------------

# What logs there are, with their sizes.
log_sizes() {
    stat -c '%n %s' "$run"/nodes/*/log "$run/actions" 2>/dev/null || true
}

# skip_events SIZES: what is in the logs up to these sizes is read.
skip_events() {
    local file size
    while read -r file size; do
        [[ -z $file ]] || log_read[$file]=$size
    done <<<"$1"
}

# Sets new of the caller to what has been logged since the last call.
new_events() {
    local sizes
    # What is logged meanwhile is left for the next call.
    sizes=$(log_sizes)
    mapfile -t new < <(new_log_lines "$sizes" | describe_events)
    skip_events "$sizes"
}

# new_log_lines SIZES: log lines behind what was read, each behind the name of its node, in the order
# of their times.
new_log_lines() {
    local file size from name
    while read -r file size; do
        from=${log_read[$file]:-0}
        ((size > from)) || continue
        name=$(basename "$(dirname "$file")")
        head -c "$size" "$file" | tail -c "+$((from + 1))" | sed "s/^/$name /"
    done <<<"$1" | sort -s -k2,2
}

# Log lines as events for people. With `since`, in milliseconds of the UTC day, times count from there.
describe_events() {
    awk -v since="${1:-}" -f "$here/cluster/events.awk"
}
