# The lines that cluster-tests/chaos.rs keeps, as a table. A line is there only if no promise was broken.
{
    kind = $1
    count[kind]++
    for (field = 2; field <= NF; field++) {
        split($field, part, "=")
        sum[kind, part[1]] += part[2]
        if (part[2] > most[kind, part[1]]) most[kind, part[1]] = part[2]
    }
}
END {
    print "| fault | times | writes | lost, as `async` allows | deletes | errors at clients | slowest answer | copies alike after, at most | later than 5 s |"
    print "|---|---|---|---|---|---|---|---|---|"
    kinds = split("Kill Stall Split RollingRestart JoinAndLeave", order, " ")
    for (number = 1; number <= kinds; number++) {
        kind = order[number]
        if (!count[kind]) continue
        printf "| %s | %d | %d | %d | %d | %d | %d ms | %d ms | %d |\n", kind, count[kind], sum[kind, "writes"], \
            sum[kind, "excused"], sum[kind, "deletes"], sum[kind, "errors"], most[kind, "slowest_ms"], \
            most[kind, "alike_ms"], sum[kind, "is_late"]
    }
}
