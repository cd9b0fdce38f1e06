#!/bin/sh
# hygiene.sh WHAT FILE...: one check of the sources. Prints every offence as file: what, and then
# fails. Respects CC and CXX.
what=$1
shift
cc=${CC:-gcc}
cxx=${CXX:-g++}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
: >"$scratch/offences"
offence() { echo "$*" | tee -a "$scratch/offences"; }
# As NVRTC sees a header: no path but include/, and no header of its own.
nvrtc="$cxx -std=c++17 -x c++ -nostdinc -nostdinc++ -D__CUDACC__ -D__CUDACC_RTC__ \
    -D__CUDA_ARCH__=900"
each() { while IFS= read -r line; do offence "$1$line$2"; done; }

case $what in

# No macro that does not start with FP4_, beyond those of the standard headers it includes, itself
# or through other headers of fp4. CUDA headers are read as under NVRTC, where there is no other.
macros)
    for header in "$@"; do
        $cxx -std=c++17 -x c++ -Iinclude -MM "$header" | tr -d '\\' | tr ' ' '\n' |
            grep '^include/' | xargs sed -n '/^#include <[a-z]*\.h>/p' |
            sort -u >"$scratch/standard.h"
        set -- "$cc -std=c11 -x c" "$cc -std=c11 -fopenmp -x c" "$cxx -std=c++17 -x c++"
        case $header in
        include/fp4/host/*) ;;
        include/fp4/device/*) set -- "$nvrtc" ;;
        *) set -- "$@" "$nvrtc" ;;
        esac
        for mode in "$@"; do
            case $mode in
            "$nvrtc") : >"$scratch/standard.h" ;;
            esac
            $mode -Iinclude -dM -E "$scratch/standard.h" >"$scratch/before" 2>&1
            $mode -Iinclude -dM -E "$header" >"$scratch/after" 2>&1 || offence "$header: $mode"
            sort -o "$scratch/before" "$scratch/before"
            sort "$scratch/after" | comm -13 "$scratch/before" - | grep -v '^#define FP4_' |
                each "$header: "
        done
    done
    ;;

# Who may include whom: only what stands below it. Angle brackets only.
layers)
    rank() { # of a portable header; house rule: config < bits, types < elements, layout < scale
        case $1 in
        fp4/config.h) echo 0 ;;
        fp4/bits.h | fp4/types.h) echo 1 ;;
        fp4/e2m1.h | fp4/e4m3.h | fp4/e8m0.h | fp4/f16.h) echo 2 ;;
        fp4/layout.h | fp4/row.h | fp4/rope.h | fp4/activation.h) echo 2 ;;
        fp4/scale.h) echo 3 ;;
        fp4/fp4.h) echo 9 ;;
        *) echo 5 ;; # later additions stand above the scales, below the front door
        esac
    }
    for header in "$@"; do
        self=${header#include/}
        grep -n '^ *# *include' "$header" >"$scratch/includes"
        while IFS= read -r line; do
            target=$(echo "$line" | sed -n 's/.*include *<\([^>]*\)>.*/\1/p')
            case $self:$target in
            *:) offence "$header:$line: not in angle brackets" ;;
            fp4/config.h:stddef.h | fp4/config.h:stdint.h) ;;
            fp4/host/*:fp4/device/*) offence "$header:$line: host includes device" ;;
            fp4/host/*:fp4/*) ;;
            fp4/host/*:assert.h | fp4/host/*:math.h | fp4/host/*:stdio.h | fp4/host/*:string.h) ;;
            fp4/host/*:*) offence "$header:$line: not a standard header that host/ may use" ;;
            fp4/device/*:fp4/host/*) offence "$header:$line: device includes host" ;;
            fp4/device/*:fp4/*) ;;
            fp4/device/*:*) offence "$header:$line: a standard or CUDA header in device/" ;;
            *:fp4/device/* | *:fp4/host/*) offence "$header:$line: a portable header includes it" ;;
            *:fp4/*) [ "$(rank "$target")" -lt "$(rank "$self")" ] ||
                [ "$(rank "$self")" -eq 5 ] || offence "$header:$line: against the layering" ;;
            *) offence "$header:$line: a portable header includes it" ;;
            esac
        done <"$scratch/includes"
    done
    ;;

# Under NVRTC nothing but fp4/ may be reached: there is no other header there.
nvrtc)
    for header in "$@"; do
        $nvrtc -Iinclude -E "$header" >/dev/null 2>"$scratch/errors" ||
            each "$header: " <"$scratch/errors"
    done
    ;;

# What the text of a header may not hold.
text)
    for file in "$@"; do
        # What is left of a line after strings and /* */ has no //.
        case $file in
        *.h) awk '
            {
                rest = $0
                gsub(/"[^"]*"/, "", rest)
                text = ""
                while (rest != "") {
                    at = index(rest, inside ? "*/" : "/*")
                    if (!inside) text = text (at ? substr(rest, 1, at - 1) : rest)
                    rest = at ? substr(rest, at + 2) : ""
                    if (at) inside = !inside
                }
                if (text ~ /\/\//) print FNR ": // comment: " $0
            }' "$file" | each "$file:" ;;
        esac
        case $file in
        include/fp4/bits.h | include/fp4/device/arch.cuh) ;;
        *) grep -n '__CUDA_ARCH' "$file" | each "$file:" ": asks for the device or the arch" ;;
        esac
        case $file in
        include/fp4/device/ptx.cuh) ;;
        *) grep -nwE '(__)?asm(__)?' "$file" | each "$file:" ": assembly outside ptx.cuh" ;;
        esac
        guard=$(echo "${file#include/}" | tr 'a-z/.' 'A-Z__')
        grep -q "^#ifndef $guard\$" "$file" && grep -q "^#define $guard\$" "$file" ||
            offence "$file: its guard is not $guard"
    done
    ;;

# What no source file may hold.
lines)
    for file in "$@"; do
        case $file in
        *.md | tests/golden/*) ;;
        *) awk 'length($0) > 100 { print FNR ": " length($0) " columns" }' "$file" |
            each "$file:" ;;
        esac
        grep -nE '\b(TO[D]O|FIXM[E]|XX[X])\b' "$file" | each "$file:"
        grep -n ' $' "$file" | each "$file:" ": trailing space"
        case $file in
        Makefile | *.mk) ;;
        *) grep -n "$(printf '\t')" "$file" | each "$file:" ": tab" ;;
        esac
    done
    ;;

*)
    echo "hygiene.sh: what is $what?"
    exit 1
    ;;
esac

[ ! -s "$scratch/offences" ]
