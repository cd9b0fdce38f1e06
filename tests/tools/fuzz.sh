#!/bin/sh
# fuzz.sh SOURCE SECONDS: builds SOURCE, a libFuzzer target fuzz_NAME.c, with clang and runs it from
# the seeds in tests/corpus/NAME. Exit status 77 where clang has no libFuzzer. CLANG, FLAGS, LIBS:
# how to compile.
set -e
name=$(basename "$1" .c)
dir=build/fuzz/${name#fuzz_}
mkdir -p "$dir/corpus"
cat >"$dir/try.c" <<'END'
#include <stddef.h>
#include <stdint.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return (void)data, (void)size, 0;
}
END
if ! $CLANG -fsanitize=fuzzer "$dir/try.c" -o "$dir/try" >"$dir/try.log" 2>&1; then
    echo "needs clang with libFuzzer (Debian: clang and libclang-rt-dev)"
    exit 77
fi
$CLANG -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all $FLAGS "$1" \
    $LIBS -o "$dir/$name"
# What it finds lands in $dir; new inputs that reach new code in $dir/corpus. (libFuzzer's own exit
# status for a crash, 77, would say that the check is left out.)
"$dir/$name" -max_total_time="$2" -timeout=10 -print_final_stats=1 -artifact_prefix="$dir/" \
    -error_exitcode=1 "$dir/corpus" "tests/corpus/${name#fuzz_}"
