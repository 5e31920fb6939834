#!/usr/bin/env bash
# Runs all tests, after installing what they need: on a fresh Debian or Ubuntu with rustup nothing
# else is to be done by hand. What cannot be installed is said, and the tests that need it are
# skipped. A failed step does not keep the others from running; the summary at the end names it.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

# shellcheck source=cluster/say.sh
. "$here/cluster/say.sh"
# shellcheck source=cluster/packages.sh
. "$here/cluster/packages.sh"

results=()
reasons=()
failures=0
skipped=0
output=$(mktemp)
fuzzed_in=$(mktemp -d)
trap 'rm -rf "$output" "$fuzzed_in"' EXIT

main() {
    (($# == 0)) || wrong_arguments "test.sh takes no arguments; single tests: cargo test NAME"
    check_system
    cd "$root"
    require_toolchain
    require_components
    require_test_tools
    local release=${CARGO_TARGET_DIR:-$root/target}/release
    # The tests of whole clusters want the program as users run it; they are told where it is.
    step "release build" cargo build --release --locked --bins
    step "cargo fmt" cargo fmt --check
    step "cargo clippy" clippy
    step "shellcheck" check_scripts
    step "cargo test" env CACHEGOPHER_BIN="$release/cachegopher" cargo test --locked --no-fail-fast
    step "clients" env CACHEGOPHER_BIN="$release/cachegopher" "$here/clients-test.sh"
    step "fuzz" fuzz
    # The fixed seeds, that a seed gives the same trace twice, and then fresh seeds for so long.
    step "simulation" "$here/simulate.sh" check "${SIMULATE_SECONDS:-0}"
    step "cluster.sh" env CACHEGOPHER_BIN="$release/cachegopher" "$here/cluster-test.sh"
    summary
}

# step NAME COMMAND...: runs it and notes how it ended. A code of 77 means skipped. What a failed one said
# about its reason is repeated at the end, since often only that is looked at.
step() {
    local name=$1 started=$SECONDS code=0 verdict copier
    shift
    printf '\n%s\n' "$(bold "== $name")"
    exec 3> >(tee "$output")
    copier=$!
    "$@" >&3 2>&1 3>&- || code=$?
    exec 3>&-
    # Something left running may hold the copier's pipe open, and must not hold up this script.
    wait_for_end "$copier" 40
    case $code in
        0) verdict=$(green passed) ;;
        77)
            verdict=$(yellow skipped)
            skipped=$((skipped + 1)) ;;
        *)
            verdict=$(red FAILED)
            failures=$((failures + 1))
            reasons+=("$(printf '\n%s\n' "$(bold "== why $name failed")"; reason_of "$output")") ;;
    esac
    results+=("$(printf '%-16s %5d s  %s' "$name" $((SECONDS - started)) "$verdict")")
}

# wait_for_end PID TWENTIETHS
wait_for_end() {
    local left=$2
    while ((left-- > 0)) && kill -0 "$1" 2>/dev/null; do sleep 0.05; done
}

# The lines of a step's output that tell why it failed, or its last ones.
reason_of() {
    grep -E -A 2 'panicked at|FAILED|^error' "$1" | tail -n 25 | cut -c 1-1000 | grep . || tail -n 15 "$1"
}

summary() {
    ((failures == 0)) || printf '%s\n' "${reasons[@]}"
    printf '\n%s\n' "$(bold "== summary")"
    printf '%s\n' "${results[@]}"
    printf '%d passed, %d failed, %d skipped\n' $((${#results[@]} - failures - skipped)) "$failures" "$skipped"
    ((failures == 0)) || fail "$failures of ${#results[@]} steps failed"
}

# The smallest rustup profile comes without these two.
require_components() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return
    has rustup || fail "cargo fmt or cargo clippy is missing" "On Debian and Ubuntu: apt-get install rustfmt rust-clippy"
    say "Installing rustfmt and clippy ..."
    rustup component add rustfmt clippy
}

# The tools that tests call, by the package that brings them.
require_test_tools() {
    local missing=()
    has nc || missing+=(netcat-openbsd)
    has ip && has ss || missing+=(iproute2)
    has stress-ng || has stress || missing+=(stress-ng)
    has redis-cli || missing+=(redis-tools)
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    has node && has npm || missing+=(nodejs npm)
    has shellcheck || missing+=(shellcheck)
    has chromium && has chromedriver || missing+=(chromium chromium-driver)
    ((${#missing[@]} > 0)) || return 0
    install_packages "${missing[@]}" ||
        say "$(yellow "Not installed, $not_installed:") ${missing[*]}. Tests that need them are skipped."
}

# With the sockets of the simulation too, which nothing else compiles here but the simulation itself.
clippy() {
    cargo clippy --locked --all-targets -- -D warnings &&
        cargo clippy --locked --features sim --bin simulation -- -D warnings
}

# Feeds random inputs to what reads bytes from outside, FUZZ_SECONDS long for each target, on stable Rust:
# the properties of `cargo test`, round after round, each with a seed of its own. The seed of a round that
# fails is printed, and repeats it: FUZZ_SEED=... FUZZ_SECONDS=0. A target is one thread, and there are as many
# of them at once as there are cores.
fuzz() {
    local failed=0 running=0 binary name filters
    binary=$(cargo test --locked --lib --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
    [[ -x $binary ]] || { say "FAILED: there is no test binary"; return 1; }
    while IFS=: read -r name filters; do
        if ((running >= $(nproc))); then
            wait -n || failed=1
            running=$((running - 1))
        fi
        # shellcheck disable=SC2086 # Filters are words.
        fuzz_target "$binary" "$name" $filters &
        running=$((running + 1))
    done <<'TARGETS'
text codec: protocol::text::
RESP codec, beside an oracle: protocol::resp::
peer frames: cluster::peer:: command::key::
gossip packet: membership::packet:: a_sealed_packet_never_panics
TARGETS
    while ((running-- > 0)); do wait -n || failed=1; done
    return $failed
}

# fuzz_target BINARY NAME FILTER...
fuzz_target() {
    local binary=$1 name=$2 cases=2000 rounds=0 start=$SECONDS seed first fuzzed
    fuzzed=$(mktemp -p "$fuzzed_in")
    shift 2
    first=${FUZZ_SEED:-$(date +%s%N)}
    seed=$first
    while
        if ! env PROPTEST_CASES=$cases PROPTEST_RNG_SEED="$seed" timeout 300 "$binary" --test-threads 1 "$@" >"$fuzzed" 2>&1; then
            cat "$fuzzed"
            say "FAILED: $name, again by FUZZ_SEED=$seed FUZZ_SECONDS=0, or" \
                "PROPTEST_CASES=$cases PROPTEST_RNG_SEED=$seed cargo test --lib -- $*"
            return 1
        fi
        seed=$((seed + 1)) rounds=$((rounds + 1))
        ((SECONDS - start < ${FUZZ_SECONDS:-60}))
    do :; done
    say "$name: $rounds rounds of $cases inputs for each property, from seed $first on"
}

check_scripts() {
    has shellcheck || { say "skipped: there is no shellcheck"; return 77; }
    shellcheck -x "$here"/*.sh "$root/.ci/run"
}

main "$@"
