#!/bin/sh
# criterion.sh PROGRAM [as-one]: runs a Criterion program and ends on `P passed, F failed`, or
# counts as one check (the same tests built in another way). A sanitizer's report is a failure even
# where Criterion calls the test passed: leaks are reported at exit.
output=$(mktemp)
trap 'rm -f "$output"' EXIT
LC_ALL=C "$1" >"$output" 2>&1
status=$?
cat "$output"
if grep -qE 'Sanitizer: |runtime error: ' "$output"; then
    echo "A sanitizer has reported the above."
    [ $status -ne 0 ] || status=1
fi
counts=$(sed -n 's/.*Synthesis: Tested: \([0-9]*\) | Passing: \([0-9]*\) |.*/\1 \2/p' "$output")
tested=${counts% *}
passing=${counts#* }
if [ "${tested:-0}" -eq 0 ]; then
    echo "No test has run."
    exit 1
fi
[ "$2" = as-one ] || echo "$passing passed, $((tested - passing)) failed"
exit $status
