#!/usr/bin/env bash
# Tests nodes with real Redis clients: installs them (below target/clients, once) and runs
# cluster-tests/clients/run.py, which says what is tested. Its arguments go there: the clients to test.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
clients=$root/cluster-tests/clients
tools=${CARGO_TARGET_DIR:-$root/target}/clients

# shellcheck source=cluster/say.sh
. "$here/cluster/say.sh"
# shellcheck source=cluster/packages.sh
. "$here/cluster/packages.sh"

main() {
    mkdir -p "$tools"
    install_for python "$clients/requirements.txt" install_python is_pypi_there
    install_for node "$clients/package.json" install_node is_npm_there
    exec "$tools/python/bin/python" "$clients/run.py" "$@"
}

# install_for FOLDER LIST INSTALL PROBE: unless what LIST names is installed already. Only a registry that
# cannot be reached is an excuse.
install_for() {
    local folder=$tools/$1 list=$2
    cmp -s "$list" "$folder/installed" && return
    rm -f "$folder/installed"
    say "Installing the clients of $(basename "$list") ..."
    if "$3" "$folder" "$list"; then
        cp "$list" "$folder/installed"
    elif "$4"; then
        fail "$(basename "$list") cannot be installed"
    else
        say "$(yellow "The registry cannot be reached"): the clients of $(basename "$list") are skipped."
        [[ -x $tools/python/bin/python ]] || { say "There is no Python to run the others with."; exit 77; }
    fi
}

install_python() {
    [[ -x $1/bin/python ]] || python3 -m venv "$1" || return
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$2"
}

is_pypi_there() {
    [[ -x $tools/python/bin/python ]] || return 0
    "$tools/python/bin/python" -m pip index versions --disable-pip-version-check redis >/dev/null 2>&1
}

install_node() {
    has npm || { say "There is no npm."; return 1; }
    mkdir -p "$1" && cp "$2" "$1/package.json" &&
        npm install --prefix "$1" --no-package-lock --no-audit --no-fund --loglevel=error
}

is_npm_there() {
    has npm && npm view redis version >/dev/null 2>&1
}

main "$@"
