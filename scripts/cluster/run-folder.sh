# The run folder: which cluster is up, its nodes and settings. Sourced by cluster.sh.
#
#   .cachegopher-run   marks a folder whose contents may be deleted
#   lock               held by the command at work
#   cluster            there while a cluster is up: name, base port, binaries
#   flags              a line per extra flag of every node
#   actions            what this script did to nodes, in the form of a log
#   nodes/n1/          port, process, ended, log; gone if it was taken out for good
# shellcheck shell=bash

require_folder() {
    [[ -d $run/nodes ]] || fail "there was no cluster yet" "start one: $(cli up)"
}

is_up() {
    [[ -r $run/cluster ]]
}

require_up() {
    is_up || fail "no cluster is up" "start one: $(cli up)"
}

# One command at a time changes the cluster. Those that only look need no lock.
lock_run_folder() {
    mkdir -p "$run" || fail "the run folder $run cannot be made"
    [[ -e $run/.cachegopher-run || -z $(ls -A "$run") ]] ||
        fail "$run is not empty and no run folder" "choose another with CACHEGOPHER_RUN"
    : >"$run/.cachegopher-run"
    exec {lock}>"$run/lock"
    flock -w 2 "$lock" || fail "another cluster.sh command is at work here" "wait until it has ended"
}

# create_run BASE_PORT FLAG...: begins anew.
create_run() {
    local base_port=$1
    shift
    rm -rf "${run:?}/nodes" "$run/actions" "$run/flags" "$run"/*.failed.log
    mkdir -p "$run/nodes"
    : >"$run/flags"
    (($# == 0)) || printf '%s\n' "$@" >"$run/flags"
    {
        # No other cluster on this machine has this name, so that none can merge with this one.
        printf 'name local-%08x\n' "$((SRANDOM))"
        printf 'base_port %s\n' "$base_port"
        printf 'binary %s\n' "$binary"
        printf 'probe %s\n' "$probe"
    } >"$run/cluster"
}

setting() {
    sed -n "s/^$1 //p" "$run/cluster"
}

check_flags() {
    local flag
    for flag in "$@"; do
        case $flag in
            --name | --name=* | --port | --port=* | --peer-port | --peer-port=* | --join | --join=* | \
                --cluster | --cluster=*)
                wrong_arguments "$flag is chosen by this script for each node" ;;
            *$'\n'*) wrong_arguments "a flag cannot hold a line end" ;;
        esac
    done
}

# ---- nodes ------------------------------------------------------------------------------------

create_node() {
    mkdir -p "$run/nodes/n$1"
    printf '%s\n' $(($(setting base_port) + $1 - 1)) >"$run/nodes/n$1/port"
}

# The names of all nodes, a line each, in order.
node_names() {
    local folder
    for folder in "$run"/nodes/n*/; do
        [[ ! -e $folder/port || -e $folder/gone ]] || basename "$folder"
    done | sort -V
}

running_nodes() {
    local name
    for name in $(node_names); do
        [[ -z $(process_id "$name") ]] || say "$name"
    done
}

# The name of the node that the user means by 2 or n2.
node_name() {
    local name=n${1#n}
    [[ $name =~ ^n[0-9]+$ && -e $run/nodes/$name/port && ! -e $run/nodes/$name/gone ]] ||
        fail "there is no node $1" "there are: $(node_names | tr '\n' ' ')"
    say "$name"
}

# choose_node COMMAND ARGUMENTS...: sets name of the caller and takes the lock.
choose_node() {
    (($# == 2)) || wrong_arguments "usage: $1 N"
    require_up
    lock_run_folder
    name=$(node_name "$2")
}

client_port() {
    cat "$run/nodes/$1/port"
}

peer_port() {
    say $(($(client_port "$1") - 10000))
}

admin_address() {
    say "127.0.0.1:$(($(client_port "$1") - 1000))"
}

# node_list NAME...: as cluster-probe wants them.
node_list() {
    local name list=
    for name in "$@"; do
        list+=,$name=127.0.0.1:$(client_port "$name")
    done
    say "${list#,}"
}

note_action() {
    printf '%(%FT%T)T.%06dZ  INFO cluster.sh: %s\n' -1 "$((10#${EPOCHREALTIME#*[.,]}))" "$1 $2" >>"$run/actions"
}
