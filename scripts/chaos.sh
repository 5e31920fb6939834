#!/usr/bin/env bash
# Real nodes under load, one fault after the other: kills, stalls, splits, restarts, joins and leaves.
# After each, all copies must be alike, no promise broken, nothing that was deleted back.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

# shellcheck source=cluster/say.sh
. "$here/cluster/say.sh"

usage() {
    cat <<'HELP'
Usage: scripts/chaos.sh [<command>]

  some [EVENTS [SEED]]          so many faults, as many of each kind (default: 25)
  full [COPIES [ACK [SEED]]]    200 kills, 50 stalls of 5 s, 50 splits of 10 to 30 s, 20 rolling restarts,
                                20 joins and leaves: 40 minutes or so (default: 2 replicated)
  resume                        goes on with the last run that was interrupted
  table                         what all runs have shown, as Markdown

Five nodes. The same seed does the same again; a random one is printed. What each fault has shown is kept in
.run/chaos/. It needs root, for network namespaces.
HELP
}

kept=${CACHEGOPHER_RUN:-$root/.run}/chaos

main() {
    case ${1:-some} in
        help | -h | --help) usage ;;
        some) some "${2:-25}" "${3:-$SRANDOM}" ;;
        full) begin "200 50 50 20 20" "${2:-2}" "${3:-replicated}" "${4:-$SRANDOM}" 10000 5000 ;;
        resume) resume ;;
        table) table ;;
        *) wrong_arguments "there is no command $1" ;;
    esac
}

some() {
    check_number "the number of faults" "$1" 5 10000
    local each=$(($1 / 5))
    begin "$each $each $each $each $each" $((2 + $2 % 2)) replicated "$2" 2000 1500
}

# begin COUNTS COPIES ACK SEED SPLIT_MS STALL_MS
begin() {
    check_number "the number of copies" "$2" 2 5
    [[ $3 == async || $3 == replicated ]] || wrong_arguments "writes are acknowledged 'async' or 'replicated', not '$3'"
    [[ $4 =~ ^[0-9]{1,19}$ ]] || wrong_arguments "the seed is '$4', but must be a number"
    mkdir -p "$kept"
    local run
    run=$kept/$(date -u +%Y%m%d-%H%M%S)
    printf 'export CHAOS_COUNTS="%s" CHAOS_COPIES=%s CHAOS_ACK=%s CHAOS_SEED=%s CHAOS_SPLIT_MS=%s CHAOS_STALL_MS=%s\n' \
        "$@" >"$run.sh"
    go_on "$run"
}

resume() {
    local last
    last=$(find "$kept" -name '*.sh' 2>/dev/null | sort | tail -n 1)
    [[ -n $last ]] || fail "there is no run in $(shown "$kept")"
    go_on "${last%.sh}"
}

# go_on RUN
go_on() {
    ((EUID == 0)) || fail "this needs network namespaces, and so root"
    cd "$root"
    cargo build --release --locked --bins
    # shellcheck source=/dev/null
    . "$1.sh"
    CACHEGOPHER_BIN=${CARGO_TARGET_DIR:-$root/target}/release/cachegopher CHAOS_KEPT=$1.txt \
        cargo test --locked --test chaos -- --nocapture
    say "Kept in $(shown "$1.txt")"
}

table() {
    local run
    for run in "$kept"/*.txt; do
        [[ -e $run ]] || fail "there is no run in $(shown "$kept")"
        (
            # shellcheck source=/dev/null
            . "${run%.txt}.sh"
            printf '%s copies, %s, seed %s:\n\n' "$CHAOS_COPIES" "$CHAOS_ACK" "$CHAOS_SEED"
        )
        awk -f "$here/chaos/table.awk" "$run"
        say
    done
}

main "$@"
