#!/bin/sh
# one.sh DIR FILE.cu [FLAG...]: compiles a CUDA file with a main of its own for the machine of
# simt.h, under AddressSanitizer and UBSan, and runs it on the CPU. The machine's objects stand in
# build/simt/san/machine. What is made goes to DIR. Respects CXX, and CPU_ARCH: 750, 900 or 1000,
# the target to be.
#
# A launch by <<<grid, cta>>> becomes a call of simt_launch, whatever its stream. Kernels that are
# launched by their address are made known by kernels.sh. There is no dynamic shared memory (extern
# __shared__), no texture, no cuda_fp16.h or cuda_bf16.h, and of the runtime what
# cuda_runtime_api.h of this machine has.
set -eu

dir=$1
file=$2
shift 2
arch=${CPU_ARCH:-900}
name=$(basename "$file" .cu | sed 's/[^A-Za-z0-9]/_/g')
mkdir -p "$dir"
{
    echo "#line 1 \"$file\""
    awk '
        { text = text $0 "\n" }
        # the arguments of a launch, at the commas that stand in no bracket
        function split_at_commas(s,   i, c, depth, n) {
            n = 1; part[1] = ""
            for (i = 1; i <= length(s); i++) {
                c = substr(s, i, 1)
                depth += (c ~ /[({[]/) - (c ~ /[)}\]]/)
                if (c == "," && depth == 0) part[++n] = ""
                else part[n] = part[n] c
            }
            return n
        }
        END {
            while ((at = index(text, "<<<")) > 0) {
                before = substr(text, 1, at - 1); rest = substr(text, at + 3)
                end = index(rest, ">>>")
                if (end == 0) { # no launch
                    printf "%s<<<", before; text = rest
                    continue
                }
                n = split_at_commas(substr(rest, 1, end - 1))
                match(before, /[A-Za-z0-9_:]+(<[^;{}()]*>)?[ \n]*$/)
                kernel = substr(before, RSTART); rest = substr(rest, end + 3)
                if (n < 2 || (n > 2 && part[3] !~ /^[ \n]*0[uU]?[ \n]*$/)) {
                    print "#error \"a launch with dynamic shared memory: not on this machine\""
                }
                sub(/^[ \n]*\(/, "", rest)
                printf "%s", substr(before, 1, RSTART - 1)
                printf "simt_launch(\"%s\", %s, %s, %s", kernel, kernel, part[1], part[2]
                text = (rest ~ /^[ \n]*\)/ ? "" : ", ") rest
            }
            printf "%s", text
        }' "$file"
    sh "$(dirname "$0")/kernels.sh" "$file"
} >"$dir/$name.cpp"
special=
[ "$arch" != 1000 ] || special=-D__CUDA_ARCH_SPECIFIC__=1000
${CXX:-g++} -std=c++17 -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all \
    -fno-omit-frame-pointer -include cuda_runtime.h -ffp-contract=off -Wall -Wno-unused \
    -Wno-unknown-pragmas -DSIMT_UNIT="$name" -D__CUDA_ARCH__="$arch" $special \
    -Itests/simt/include -Iinclude -I"$(dirname "$file")" "$@" "$dir/$name.cpp" \
    build/simt/san/machine/simt.o build/simt/san/machine/cuda.o build/simt/san/machine/memory.o \
    -lm -o "$dir/$name"
ASAN_OPTIONS=detect_leaks=0:${ASAN_OPTIONS-} "$dir/$name"
