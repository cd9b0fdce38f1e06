#!/bin/sh
# readme.sh list FILE: names the snippets of a Markdown file, one a line: LINE-LANGUAGE.
# readme.sh check FILE LINE-LANGUAGE: compiles that snippet, and runs it where it needs no GPU.
#
# A snippet is a fenced block. Its language must be one of
#   c      compiled as C11, warnings are errors; linked and run if it has a main
#   cuda   compiled by nvcc for sm_90
#   cmake  built and run as the lines of a consumer's CMakeLists.txt, whose program is called `app`
#   make   read by make
#   sh     every `make` target must exist, every other command be known; or run, see below
#   text   not looked at
#
# An HTML comment on the lines before the fence says what a reader need not see:
#   <!-- snippet: OPTION...
#   further lines of code, put before those of the snippet
#   -->
#   wrap=main  the lines are the body of main(), in a file that includes all of fp4 for the host
#   prints     the program prints what stands in the next text block
#   no-run     compiled and linked, not run
#   in=FILE    (cuda) FILE has the same lines, but for those of #include, in one piece
#   file=NAME  the snippet also stands under NAME in the folder where `run` snippets work
#   run        (sh) the lines are run, in a folder with those files and this tree as `fp4`
#
# Respects CC, CXX, NVCC, CUDA_HOME. Exit status 77 where the tool it needs is missing.
set -eu

if [ "$1" = list ]; then
    awk '
        /^```/ && !inside { inside = 1; if ($0 != "```text") print FNR "-" substr($0, 4); next }
        /^```/ { inside = 0 }' "$2"
    exit
fi

file=$2
snippet=$3
line=${snippet%%-*}
language=${snippet#*-}
dir=$PWD/build/readme/$snippet
rm -rf "$dir"
mkdir -p "$dir"

# Takes the block whose fence is on the line `want`: its options, hidden lines and lines.
extract() {
    awk -v want="$1" -v out="$2" '
        BEGIN { printf "" >(out ".options"); printf "" >(out ".hidden"); printf "" >(out ".lines") }
        /^<!-- snippet:/ { options = $0; hidden = ""; fresh = FNR; comment = !/-->/; next }
        comment { fresh = FNR; if (/^-->/) comment = 0; else hidden = hidden $0 "\n"; next }
        /^```/ && !inside {
            inside = 1
            mine = FNR == want
            if (mine && fresh == FNR - 1) {
                sub(/^<!-- snippet: */, "", options)
                sub(/ *-->.*/, "", options)
                print options >(out ".options")
                printf "%s", hidden >(out ".hidden")
            }
            next
        }
        /^```/ { inside = mine = 0 }
        mine { print >(out ".lines") }' "$file"
}
has() { grep -qw -- "$1" "$dir/s.options"; }

extract "$line" "$dir/s"
[ -s "$dir/s.lines" ] || { echo "$file:$line: no snippet" && exit 1; }
for option in $(cat "$dir/s.options"); do
    case $option in
    wrap=main | prints | no-run | run | file=*) ;;
    in=*) [ "$language" = cuda ] || { echo "$file:$line: $option is for cuda" && exit 1; } ;;
    *) echo "$file:$line: unknown option $option" && exit 1 ;;
    esac
done

# The file as the compiler gets it; #line makes it complain about the README itself.
assemble() {
    if has wrap=main; then
        for header in include/fp4/fp4.h include/fp4/host/*.h; do
            echo "#include <${header#include/}>"
        done
        printf '#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint main(void)\n{\n'
    fi
    cat "$dir/s.hidden"
    echo "#line $((line + 1)) \"$file\""
    cat "$dir/s.lines"
    if has wrap=main; then
        printf '    return 0;\n}\n'
    fi
}

# Fails where FILE has other lines.
stands_in() {
    grep -v '^#include' "$dir/s.lines" | sed '/./,$!d' >"$dir/s.body"
    awk '
        NR == FNR { body = body $0 "\n"; next }
        { all = all $0 "\n" }
        END { exit !(body != "" && index(all, body)) }' "$dir/s.body" "$1" ||
        { echo "$file:$line: $1 has other lines" && exit 1; }
}

warnings='-Wall -Wextra -Wpedantic -Werror'
case $language in
c)
    assemble >"$dir/snippet.c"
    compiler="${CC:-gcc} -std=c11 -O2 $warnings -Iinclude"
    if grep -q '\<main *(' "$dir/snippet.c"; then
        $compiler "$dir/snippet.c" -lm -o "$dir/program"
        has no-run || "$dir/program" | tee "$dir/printed"
        if has prints; then
            awk -v after="$line" 'FNR > after && /^```text/ { inside = 1; next }
                /^```/ && inside { exit } inside' "$file" | diff - "$dir/printed"
        fi
    else
        $compiler -c "$dir/snippet.c" -o "$dir/snippet.o"
    fi
    ;;
cuda)
    for option in $(cat "$dir/s.options"); do
        case $option in in=*) stands_in "${option#in=}" ;; esac
    done
    nvcc=${NVCC:-nvcc}
    command -v "$nvcc" >/dev/null || { echo "no nvcc" && exit 77; }
    assemble >"$dir/snippet.cu"
    $nvcc -arch=sm_90 -Werror all-warnings -Iinclude -c "$dir/snippet.cu" -o "$dir/snippet.o"
    ;;
cmake)
    cat "$dir/s.hidden" "$dir/s.lines" >"$dir/readme-$line.cmake"
    sh tests/consumer/consumer.sh "$dir/readme-$line.cmake"
    ;;
make)
    cat "$dir/s.hidden" "$dir/s.lines" >"$dir/snippet.mk"
    printf '\nreadme-snippet-is-read:;\n' >>"$dir/snippet.mk"
    make -f "$dir/snippet.mk" readme-snippet-is-read
    ;;
sh)
    sh -n "$dir/s.lines"
    if has run; then
        mkdir "$dir/run"
        ln -s "$PWD" "$dir/run/fp4"
        awk '
            /^<!-- snippet:.*file=/ { sub(/.*file=/, ""); sub(/ .*/, ""); name = $0 }
            /^```./ { if (name != "") print FNR, name; name = "" }' "$file" |
            while read -r at name; do
                extract "$at" "$dir/f"
                cat "$dir/f.hidden" "$dir/f.lines" >"$dir/run/$name"
            done
        (cd "$dir/run" && env -u MAKEFLAGS sh -ex ../s.lines)
        exit
    fi
    # One command a line: comments off, joined lines apart, assignments and sudo before it off.
    sed -e 's/#.*//' -e 's/&&/\n/g; s/||/\n/g; s/[|;]/\n/g' "$dir/s.lines" |
        sed -E -e 's/^ *(\$ )?//' -e 's/^(sudo +)?([A-Z_]+=[^ ]* +)*//' -e '/^ *$/d' |
        while read -r command arguments; do
            case $command in
            make)
                for argument in $arguments; do
                    case $argument in
                    -* | *=* | [0-9]*) ;;
                    *) grep -q "^$argument:" Makefile ||
                        { echo "$file:$line: make has no target $argument" && exit 1; } ;;
                    esac
                done
                ;;
            cd | git | cc | gcc | g++ | clang | nvcc | cmake | pkg-config) ;;
            *) echo "$file:$line: unknown command $command" && exit 1 ;;
            esac
        done
    ;;
*)
    echo "$file:$line: the language '$language' is none of c, cuda, cmake, make, sh, text"
    exit 1
    ;;
esac
