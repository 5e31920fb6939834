#!/bin/sh
# Measures failovers on real processes: a primary is killed, frozen and told to go, and its cable cut,
# FAILOVER_ROUNDS times each (20), with 64 MB of data. Prints a Markdown table. The cable needs root.
set -eu
cd "$(dirname "$0")/.."
FAILOVER_ROUNDS=${FAILOVER_ROUNDS:-20}
export FAILOVER_ROUNDS
cargo build --release --quiet
CACHEGOPHER_BIN=${CARGO_TARGET_DIR:-$PWD/target}/release/cachegopher
export CACHEGOPHER_BIN
output=$(mktemp)
trap 'rm -f "$output"' EXIT
result=0
for test in killed frozen_primary told; do
    cargo test --quiet --test failover -- --nocapture "$test" >>"$output" 2>&1 || result=$?
done
cargo test --quiet --test network -- --nocapture cable >>"$output" 2>&1 || result=$?
# The head of the table once, then all rows.
awk '/^\| event / { if (!seen++) { print; getline; print } else getline; next } /^\| / { print } /^skipped: / { print }' "$output"
if [ "$result" -ne 0 ]; then
    cat "$output" >&2
fi
exit "$result"
