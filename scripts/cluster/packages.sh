# What must be installed on this machine. Sourced by cluster.sh and test.sh.
# shellcheck shell=bash

check_system() {
    ((BASH_VERSINFO[0] >= 5)) || fail "bash 5 or later is needed, this is $BASH_VERSION"
    [[ -r /proc/self/stat ]] || fail "Linux with /proc is needed"
    local tool
    for tool in awk flock setsid sort stat tail; do
        has "$tool" || fail "$tool is missing" "On Debian and Ubuntu: apt-get install coreutils util-linux mawk"
    done
}

has() {
    command -v "$1" >/dev/null
}

# Finds cargo, also in a shell that was opened before rustup was installed, and a linker.
require_toolchain() {
    if ! has cargo && [[ -r ${CARGO_HOME:-$HOME/.cargo}/env ]]; then
        # shellcheck source=/dev/null
        . "${CARGO_HOME:-$HOME/.cargo}/env"
    fi
    has cargo || fail "cargo is missing" "Install Rust from https://rustup.rs"
    has cc || install_packages gcc libc6-dev || fail "a C compiler is missing" \
        "On Debian and Ubuntu: sudo apt-get install gcc libc6-dev"
}

# Installs Debian packages, as root or with sudo. False where that is not possible; the reason is
# then in not_installed.
install_packages() {
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120)
    not_installed=
    has apt-get || { not_installed="this system has no apt-get"; return 1; }
    if ((EUID != 0)); then
        has sudo || { not_installed="not root, and there is no sudo"; return 1; }
        # In CI nobody can type a password.
        [[ -t 0 ]] || sudo -n true 2>/dev/null || { not_installed="sudo wants a password"; return 1; }
        apt=(sudo "${apt[@]}")
    fi
    say "Installing $* ..."
    # The lists of a fresh machine are empty or old: only then are they fetched.
    "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null 2>&1 && return
    "${apt[@]}" update >/dev/null 2>&1 || true
    "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null && return
    not_installed="apt-get failed"
    return 1
}
