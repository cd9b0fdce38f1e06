#!/bin/sh
# check_vectorised.sh [INCLUDE]: does gcc -O3 -march=x86-64-v3 vectorise the loops in which the host
# reference spends its time? Every `for` in the functions below, found in the source by name, must
# be among the loops that gcc reports. Prints ok, or FAIL and the loops that are missing. Exit
# status 77: cannot tell here. CC is respected.
include=${1:-include}
source=$include/fp4/host/quant.h
functions='fp4_ref_load_ fp4_ref_amax_ fp4_ref_pack_ fp4_ref_encode_'
cc=${CC:-gcc}

if [ "$(uname -m)" != x86_64 ] || ! $cc -dM -E -x c /dev/null | grep -q __GNUC__ ||
    $cc -dM -E -x c /dev/null | grep -q __clang__; then
    echo "needs gcc on x86-64"
    exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Each function on its own, with a length that the compiler does not know.
cat >"$scratch/loops.c" <<'END'
#include <fp4/host/quant.h>

void load(float *out, const fp4_matrix *x, size_t row, size_t col, size_t n);
float amax(const float *x, size_t n);
void encode(uint8_t *q, const float *x, size_t n, fp4_format format);

void load(float *out, const fp4_matrix *x, size_t row, size_t col, size_t n)
{
    fp4_ref_load_(out, x, row, col, n);
}
float amax(const float *x, size_t n)
{
    return fp4_ref_amax_(x, n);
}
void encode(uint8_t *q, const float *x, size_t n, fp4_format format)
{
    fp4_ref_encode_(q, x, n, format);
}
END
if ! $cc -std=c11 -O3 -march=x86-64-v3 -fopt-info-vec -I"$include" -c "$scratch/loops.c" \
    -o "$scratch/loops.o" >"$scratch/report" 2>&1; then
    cat "$scratch/report"
    echo "FAIL: does not compile"
    exit 1
fi

loops=0
missing=0
for function in $functions; do
    # The lines of its loops, from its definition (calls are indented) to its closing brace.
    awk -v name="$function" '
        /^[a-z]/ && index($0, " " name "(") { inside = 1 }
        inside && /for \(/ { print FNR }
        inside && /^}/ { exit }' "$source" >"$scratch/lines"
    if [ ! -s "$scratch/lines" ]; then
        echo "FAIL: no loop of $function found in $source"
        exit 1
    fi
    while read -r line; do
        loops=$((loops + 1))
        if ! grep -q "quant.h:$line:[0-9]*: optimized: *loop vectorized" "$scratch/report"; then
            missing=$((missing + 1))
            echo "$source:$line: in $function, not vectorised:$(sed -n "${line}p" "$source")"
        fi
    done <"$scratch/lines"
done
if [ $missing -ne 0 ]; then
    echo "FAIL: $missing of $loops loops are not vectorised by $($cc --version | head -n 1)"
    exit 1
fi
echo "ok: $loops loops of $functions are vectorised"
