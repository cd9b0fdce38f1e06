#!/bin/sh
# check.sh NAME COMMAND...: one check of `make test`. Prints one line; if it fails, its output too.
#
# The outcome stays in $CHECKS (build/checks):
#   NAME.ok    exit status 0. Holds "passed failed": 1 0, or, where the last line of the output is
#              `P passed, F failed`, those counts.
#   NAME.fail  any other status; the same two numbers.
#   NAME.skip  exit status 77: left out. Holds the last line of the output, which says why.
#   NAME.log   the output.
# LIVE=1 shows the output as it comes. Exits 0 in all cases: summary.sh decides.
name=$1
shift
out=${CHECKS:-build/checks}/$name
mkdir -p "$(dirname "$out")"
rm -f "$out.ok" "$out.fail" "$out.skip"

begin=$(date +%s)
if [ -n "$LIVE" ]; then
    { "$@" 2>&1; echo $? >"$out.status"; } | tee "$out.log"
else
    "$@" >"$out.log" 2>&1
    echo $? >"$out.status"
fi
status=$(cat "$out.status")
rm -f "$out.status"
seconds=$(($(date +%s) - begin))

last=$(tail -n 1 "$out.log")
counts=$(echo "$last" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p')
if [ "$status" -eq 0 ]; then
    echo "ok    $name$([ $seconds -lt 2 ] || echo "  ($seconds s)")"
    echo "${counts:-1 0}" >"$out.ok"
elif [ "$status" -eq 77 ]; then
    echo "----  $name: left out: $last"
    echo "$last" >"$out.skip"
else
    echo "FAIL  $name (exit status $status)"
    if [ -z "$LIVE" ]; then
        head -n 200 "$out.log" | sed 's/^/      | /'
        [ "$(wc -l <"$out.log")" -le 200 ] || echo "      | ... all of it: $out.log"
    fi
    case $counts in
    '' | *' 0') counts='0 1' ;; # it failed, whatever it counted
    esac
    echo "$counts" >"$out.fail"
fi
exit 0
