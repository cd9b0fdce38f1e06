#!/bin/sh
# summary.sh MAKE_STATUS NAME...: adds up the outcomes that check.sh left for these checks.
# Prints what failed, what was left out (LEFT_OUT holds further lines), and last
# `N passed, N failed`. A check without an outcome never ran and counts as failed.
# Exit status 1 if anything failed.
make_status=$1
shift
checks=${CHECKS:-build/checks}
passed=0
failed=0
skipped=
failures=
newline='
'
for name in "$@"; do
    counts=
    if [ -f "$checks/$name.fail" ]; then
        counts=$(cat "$checks/$name.fail")
        failures="$failures${newline}FAILED: $name (output: $checks/$name.log)"
    elif [ -f "$checks/$name.skip" ]; then
        skipped="$skipped${newline}LEFT OUT: $name: $(cat "$checks/$name.skip")"
        continue
    elif [ -f "$checks/$name.ok" ]; then
        counts=$(cat "$checks/$name.ok")
    else
        counts='0 1'
        failures="$failures${newline}FAILED: $name (did not run: see the errors above)"
    fi
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
done
if [ "$make_status" -ne 0 ] && [ "$failed" -eq 0 ]; then
    failures="$failures${newline}FAILED: the build (make stopped with status $make_status)"
    failed=1
fi
echo "$skipped${LEFT_OUT:+$newline$LEFT_OUT}$failures" | sed '/^$/d'
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
