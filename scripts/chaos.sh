#!/usr/bin/env bash
# Real nodes under load, one fault after the other: kills, stalls, splits, restarts, joins and leaves.
# After each, all copies must be alike, no promise broken, nothing that was deleted back.
#
#   scripts/chaos.sh [EVENTS [SEED]]     default: 200 events, a random seed, which is printed
#
# The same seed does the same again. Splits and stalls last as long as CHAOS_SPLIT_MS and
# CHAOS_PAUSE_MS say (default here 10,000 and 5,000). It needs root, for network namespaces.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

# shellcheck source=cluster/say.sh
. "$here/cluster/say.sh"

(($# <= 2)) || wrong_arguments "usage: chaos.sh [EVENTS [SEED]]"
events=${1:-200}
seed=${2:-$SRANDOM}
check_number "the number of events" "$events" 1 10000
[[ $seed =~ ^[0-9]{1,19}$ ]] || wrong_arguments "the seed is '$seed', but must be a number"
((EUID == 0)) || fail "this needs network namespaces, and so root"

cd "$root"
cargo build --release --locked --bins
say "chaos: scripts/chaos.sh $events $seed"
CACHEGOPHER_BIN=${CARGO_TARGET_DIR:-$root/target}/release/cachegopher CHAOS_SEED=$seed CHAOS_EVENTS=$events \
    CHAOS_SPLIT_MS=${CHAOS_SPLIT_MS:-10000} CHAOS_PAUSE_MS=${CHAOS_PAUSE_MS:-5000} \
    cargo test --locked --test chaos -- --nocapture
