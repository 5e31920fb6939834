# Turns log lines of nodes, each behind the name of its node, into events for people.
# What several nodes say about the same member becomes one line.
# Variable: since  milliseconds of the UTC day from which times count, or nothing

# The value of name=value, without quotes.
function value(name,    found) {
    if (!match($0, " " name "=[^ ]*")) return ""
    found = substr($0, RSTART + length(name) + 2, RLENGTH - length(name) - 2)
    gsub(/"/, "", found)
    return found
}

function member() { return value("member") }

function partitions(    count) {
    count = value("count")
    return count == 1 ? "1 partition" : count " partitions"
}

function time_of(stamp,    ms) {
    if (since == "") return substr(stamp, 12, 12) " "
    ms = substr(stamp, 12, 2) * 3600000 + substr(stamp, 15, 2) * 60000 + substr(stamp, 18, 2) * 1000 + substr(stamp, 21, 3)
    ms -= since
    if (ms < -43200000) ms += 86400000
    return sprintf("%+6d ms", ms)
}

function event(text) {
    count++
    times[count] = time_of($2)
    texts[count] = text
}

# An event that several nodes see.
function seen(text) {
    if (text in seen_at) {
        observers[seen_at[text]] = observers[seen_at[text]] " " $1
        observer_count[seen_at[text]]++
        return
    }
    event(text)
    seen_at[text] = count
    observers[count] = $1
    observer_count[count] = 1
}

/cluster\.sh: /                    { event($5 " " $6 " by cluster.sh"); next }
/: node starts /                   { event($1 " starts"); next }
/: node stops, handing over/       { event($1 " stops and hands over"); next }
/: node stopped/                   { event($1 " has ended"); next }
/: member joined /                 { seen(member() " joined,"); next }
/: member suspected /              { seen(member() " suspected,"); next }
/: member refuted suspicion /      { seen(member() " alive after all,"); next }
/: member dead /                   { seen(member() " dead,"); next }
/: member left /                   { seen(member() " left,"); next }
/: promoted /                      { event($1 " promoted: now primary of " partitions() " of " value("former")); next }
/: new partitions claimed /        { event($1 " claimed " partitions() ", new ones"); next }
/: synced /                        { event($1 " synced " partitions() " from " value("source")); next }
/: moved here /                    { event($1 " primary of " partitions() " moved here from " value("from")); next }
/: (moved away|surplus copies dropped|joining through seed) / { next }
/: declared dead by others/        { event($1 " was declared dead by others and rejoined"); next }
/: partitions lost/                { event($1 " lost " partitions() ": no copy is left"); next }
/: hand-over not confirmed/        { event($1 " took " partitions() " back from " value("to") ", hand-over not confirmed"); next }
$3 == "WARN" || $3 == "ERROR" || /panicked at/ {
    line = $0
    sub(/^[^ ]+ [^ ]+ +/, "", line)
    event($1 " " line)
}

END {
    for (i = 1; i <= count; i++) {
        if (i in observers) {
            by = observer_count[i] > 5 ? observer_count[i] " nodes" : observers[i]
            printf "%s  %s seen by %s\n", times[i], texts[i], by
        } else {
            printf "%s  %s\n", times[i], texts[i]
        }
    }
}
