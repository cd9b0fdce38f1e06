#!/bin/sh
# sanitize.sh TOOL PROGRAM: the GPU tests, reduced, under compute-sanitizer's memcheck, initcheck or
# racecheck. Each test is a process of its own and leaves a log of its own. Fails where a test
# fails, where a log holds an error, and where there are fewer clean logs than tests. Ends on
# `P passed, F failed`, counting tests.
tool=$1
program=$2
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# Left out: what is large or needs the timing of the real device. Races are in shared memory.
case $tool in
racecheck) suites='launch_shapes|launch_columns|reduce' ;;
*) suites='launch_shapes|launch_columns|launch_values|launch_errors|convert|memory|reduce|blocks' ;;
esac

FP4_GPU_REDUCED=1 LC_ALL=C "$sanitizer" --tool "$tool" --target-processes all --error-exitcode 9 \
    --log-file "$logs/%p" "$program" --filter "@($suites)/*" >"$logs.out" 2>&1
status=$?
cat "$logs.out"
tested=$(sed -n 's/.*Synthesis: Tested: \([0-9]*\) |.*/\1/p' "$logs.out")
rm -f "$logs.out"

# memcheck and initcheck say ERROR SUMMARY: N errors; racecheck N hazards displayed (...).
clean=$(grep -lE '(ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards)' "$logs"/* | wc -l)
dirty=$(grep -lE 'SUMMARY: [1-9][0-9]* (error|hazard)' "$logs"/*)
for log in $dirty; do
    echo "== $log"
    head -n 40 "$log"
done
echo "$tool: ${tested:-0} tests, $clean clean logs"
if [ -n "$dirty" ] || [ "${tested:-0}" -eq 0 ] || [ "$clean" -lt "$tested" ]; then
    [ $status -ne 0 ] || status=1
fi
failed=0
[ $status -eq 0 ] || failed=1
echo "$((${tested:-0} - failed)) passed, $failed failed"
exit $status
