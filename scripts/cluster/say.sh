# Words to the user. Sourced by cluster.sh and test.sh.
# shellcheck shell=bash

say() {
    printf '%s\n' "$*"
}

# Ends the script: what is wrong, then lines that help.
fail() {
    printf '%s %s\n' "$(red "${0##*/}:")" "$1" >&2
    shift
    local line
    for line in "$@"; do
        printf '%s\n' "$line" | sed 's/^/    /' >&2
    done
    exit 1
}

wrong_arguments() {
    printf '%s %s\n' "$(red "${0##*/}:")" "$1" >&2
    printf '    %s help   shows what there is\n' "$0" >&2
    exit 2
}

expect_no_arguments() {
    (($# == 1)) || wrong_arguments "$1 takes no arguments, but was given: ${*:2}"
}

# check_number WHAT VALUE MIN MAX
check_number() {
    [[ $2 =~ ^[0-9]{1,5}$ ]] && ((10#$2 >= $3 && 10#$2 <= $4)) ||
        wrong_arguments "$1 is '$2', but must be $3 to $4"
}

# How the user calls this script with these arguments.
cli() {
    printf '%s %s' "$0" "$*"
}

# A path as the user would write it here.
shown() {
    printf '%s' "${1/#"$PWD/"/}"
}

# 10000 as 10,000.
grouped() {
    local number=$1
    while [[ $number =~ ^([0-9]+)([0-9]{3}.*)$ ]]; do
        number=${BASH_REMATCH[1]},${BASH_REMATCH[2]}
    done
    printf '%s' "$number"
}

# seconds_since EPOCHREALTIME: with one decimal.
seconds_since() {
    awk -v from="${1/,/.}" -v to="${EPOCHREALTIME/,/.}" 'BEGIN { printf "%.1f", to - from }'
}

# Microseconds as milliseconds with one decimal, without one from 10 ms on.
milliseconds() {
    awk -v us="$1" 'BEGIN { ms = us / 1000; printf(ms < 10 ? "%.1f ms" : "%.0f ms", ms) }'
}

is_coloured() {
    [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]
}

# The subshell of $( ) has no terminal, so the decision is made once.
if is_coloured; then colours=1; else colours=; fi

paint() {
    if [[ -n $colours ]]; then printf '\e[%sm%s\e[0m' "$1" "$2"; else printf '%s' "$2"; fi
}

red() { paint 31 "$1"; }
green() { paint 32 "$1"; }
yellow() { paint 33 "$1"; }
bold() { paint 1 "$1"; }
dim() { paint 2 "$1"; }
