#!/usr/bin/env bash
# Runs whole clusters in simulation, each from one seed: `simulate.sh help` says how.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

# shellcheck source=cluster/say.sh
. "$here/cluster/say.sh"

usage() {
    cat <<'HELP'
Usage: scripts/simulate.sh [<command>]

  (none)              the fixed seeds, and that a seed gives the same trace twice
  check SECONDS       the same, and then fresh seeds for so long: what the test command does
  for SECONDS         fresh seeds for so long; one that fails is printed with the command that replays it
  seeds FIRST COUNT   these seeds
  seed SEED [log]     one seed, with the log of its nodes and all that happened
  bugs [COUNT]        plants one bug after the other, and prints how many seeds it takes to find it
  scale [NODES]       membership and ownership without sockets, from 3 to 1,000 (or so many) nodes: tables
HELP
}

# In the ordinary program: a simulation of whole nodes has fewer partitions.
scale() {
    check_number "the number of nodes" "$1" 3 1000
    cd "$root"
    SCALE_NODES_MAX=$1 cargo test --quiet --locked --profile sim --lib cluster::scale -- --ignored --nocapture
}

main() {
    case ${1:-} in
        help | -h | --help) usage; return ;;
        scale) scale "${2:-1000}"; return ;;
        "" | check | for | seeds | seed | bugs) ;;
        *) wrong_arguments "there is no command $1" ;;
    esac
    cd "$root"
    # Tokio's own chance can be seeded only with this. The program has a folder of its own, or everything
    # else would be built anew each time.
    RUSTFLAGS="${RUSTFLAGS:-} --cfg tokio_unstable" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/simulation" \
        cargo run --quiet --locked --profile sim --no-default-features --features sim --bin simulation -- "$@"
}

main "$@"
