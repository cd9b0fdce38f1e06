#!/bin/sh
# fuzz.sh PROGRAM SECONDS: runs a libFuzzer program from the seeds in tests/corpus/launch. What it
# finds lands beside the program; inputs that reach new code in the folder corpus there. (Its own
# exit status for a crash, 77, would say that the check is left out.)
dir=$(dirname "$1")
mkdir -p "$dir/corpus"
"$1" -max_total_time="$2" -timeout=20 -max_len=512 -len_control=0 -error_exitcode=1 \
    -print_final_stats=1 -artifact_prefix="$dir/" "$dir/corpus" tests/corpus/launch
