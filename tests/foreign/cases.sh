# What the bash suites share (sourced): the form in which a case is reported, and waiting with a deadline.
# A suite sets nothing first; it gets BROKER, WORK (a scratch folder, removed at exit), FAILED and MEMBERS.

BROKER=${1:-${KLAMM_BOOTSTRAP:?}}
DEADLINE_S=45
WORK=$(mktemp -d)
FAILED=0
MEMBERS=() # background processes that must not outlive the suite

end_members() {
    local member
    for member in "${MEMBERS[@]}"; do kill -9 "$member" 2>/dev/null; done
    rm -rf "$WORK"
}
trap end_members EXIT

# case_ NAME COMMAND…: runs one case in the form that the runner reads; the last line of its errors is the reason.
case_() {
    local name=$1 started=$EPOCHREALTIME seconds
    shift
    "$@" 2>"$WORK/why"
    local status=$?
    seconds=$(awk "BEGIN { printf \"%.2f\", $EPOCHREALTIME - $started }")
    cat "$WORK/why" >&2
    if ((status == 0)); then
        printf 'ok\t%s\t%s\n' "$name" "$seconds"
    else
        FAILED=1
        printf 'FAILED\t%s\t%s\t%s\n' "$name" "$seconds" "$(grep . "$WORK/why" | tail -n 1 | tr '\t' ' ')"
    fi
}

fail() {
    echo "$*" >&2
    return 1
}

# within WHAT COMMAND…: until the command succeeds.
within() {
    local what=$1 deadline=$((SECONDS + DEADLINE_S))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || { fail "not within $DEADLINE_S s: $what"; return; }
        sleep 0.05
    done
}

# same WHAT FOUND WANTED
same() { [[ $2 == "$3" ]] || fail "$1: found '${2:0:300}', wanted '${3:0:300}'"; }
