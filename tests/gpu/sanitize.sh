#!/bin/sh
# sanitize.sh TOOL PROGRAM: the GPU tests, reduced, under compute-sanitizer's memcheck, initcheck or
# racecheck. Fails where a test fails or the tool reports anything, and where the tool does not find
# the bug that is planted for it (test_planted.c): then it would find nothing else either. Ends on
# `P passed, F failed`, counting tests.
tool=$1
program=$2
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export FP4_GPU_REDUCED=1 LC_ALL=C

# run FILTER: the tests' output to $scratch/out, the tool's to $scratch/log.
run() {
    : >"$scratch/log"
    "$sanitizer" --tool "$tool" --target-processes all --error-exitcode 9 \
        --log-file "$scratch/log" "$program" --filter "$1" >"$scratch/out" 2>&1
}
reports() { grep -cE 'SUMMARY: [1-9][0-9]* (error|hazard)' "$scratch/log"; }
clean() { grep -cE '(ERROR|RACECHECK) SUMMARY: 0 (errors|hazards)' "$scratch/log"; }

if ! "$sanitizer" --version >"$scratch/out" 2>&1; then
    cat "$scratch/out"
    echo "compute-sanitizer, of the CUDA toolkit, is needed."
    exit 1
fi
run "planted/$tool"
if [ "$(reports)" -eq 0 ]; then
    cat "$scratch/out" "$scratch/log"
    echo "$tool has not found the bug that is planted for it."
    exit 1
fi

# Left out: what is large or needs the timing of the real device. Races are in shared memory.
case $tool in
racecheck) suites='launch_@(shapes|columns)' ;;
*) suites='launch_@(shapes|columns|values)|memory|blocks|dequantize|dequantize_blocks|fake' ;;
esac
more='amax|gemv|experts|shuffle|kv_cache|kv_append|packbits|reduce|requant'
run "@($suites|launch_@(norm|gated|token)|$more)/*"
status=$?
cat "$scratch/out"
tested=$(sed -n 's/.*Synthesis: Tested: \([0-9]*\) |.*/\1/p' "$scratch/out")
failed=0
if [ $status -ne 0 ] || [ "$(reports)" -ne 0 ] || [ "$(clean)" -eq 0 ] ||
    [ "${tested:-0}" -eq 0 ]; then
    head -n 100 "$scratch/log"
    failed=1
fi
echo "$((${tested:-0} - failed)) passed, $failed failed"
[ $failed -eq 0 ]
