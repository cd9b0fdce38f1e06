#!/bin/sh
# compile.sh WHAT ...: one compile proof with the compilers CC and CXX and the flags FLAGS.
set -e
what=$1
source=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
c11="$CC -std=c11 $FLAGS"
cxx11="$CXX -std=c++11 $FLAGS -x c++"
cxx17="$CXX -std=c++17 $FLAGS -x c++"

case $what in

# standards SOURCE CHECK: as C11, C++11 and C++17, and as C11 under UBSan, where gcc warns of more
# conversions. Writes CHECK.d, what make's CHECK.ok depends on.
standards)
    set -x
    $c11 -MMD -MP -MT "$3.ok" -MF "$3.d" -c "$source" -o /dev/null
    $cxx11 -c "$source" -o /dev/null
    $cxx17 -c "$source" -o /dev/null
    $c11 -fsanitize=undefined -c "$source" -o /dev/null
    ;;

# cxx SOURCE CHECK: the same for what is C++.
cxx)
    set -x
    $cxx11 -MMD -MP -MT "$3.ok" -MF "$3.d" -c "$source" -o /dev/null
    $cxx17 -c "$source" -o /dev/null
    ;;

# openmp SOURCE: with the OpenMP pragmas at work.
openmp)
    set -x
    $c11 -fopenmp -x c -c "$source" -o /dev/null
    ;;

# symbols SOURCE: no symbol that does not start with fp4_, no global one, and no call of a function
# that allocates, prints or exits. SOURCE uses everything (its table is fp4_use).
symbols)
    for compiler in "$c11 -x c" "$cxx11"; do
        $compiler -O0 -c "$source" -o "$scratch/object.o"
        nm -C "$scratch/object.o" >"$scratch/symbols"
        grep -q ' fp4_f32_to_e2m1' "$scratch/symbols"
        # Static variables of a function are called name.N, constants of the compiler .Lname.
        sed -n 's/^[0-9a-f]* *\([a-zA-Z]\) /\1 /p' "$scratch/symbols" |
            grep -Ev '^U |^[a-z] fp4_|^[a-z] [A-Za-z_]+\.[0-9]+$|^[a-z] \.L|^[BDd] fp4_use$' |
            sed 's/^/symbol: /' >"$scratch/offences" || true
        sed -n 's/^ *U //p' "$scratch/symbols" | grep -xE \
            '_?exit|abort|[cm]alloc|realloc|free|operator.*|f?printf|f?puts|f?putc(har)?|fwrite' |
            sed 's/^/calls: /' >>"$scratch/offences" || true
        if [ -s "$scratch/offences" ]; then
            echo "$compiler:"
            cat "$scratch/offences"
            exit 1
        fi
    done
    ;;

# two-tu A B: two translation units that include everything link and agree.
two-tu)
    for compiler in "$c11 -x c" "$cxx11"; do
        for level in -O0 -O2; do
            $compiler $level -c "$2" -o "$scratch/a.o"
            $compiler $level -c "$3" -o "$scratch/b.o"
            ${compiler%% *} "$scratch/a.o" "$scratch/b.o" -lm -o "$scratch/two"
            "$scratch/two"
        done
    done
    ;;

# nvcc-two-tu A B: the same under nvcc, as whole programs and as relocatable device code.
nvcc-two-tu)
    for rdc in false true; do
        "$NVCC" -std=c++17 -arch=sm_90 -rdc=$rdc -Iinclude -Ibuild/use -x cu "$2" "$3" \
            -o "$scratch/two"
        "$scratch/two"
    done
    ;;

# must-fail SOURCE: does not compile, as C11 and as C++11, for the reason it names in a comment
# `expect: REGEX` (extended; found in the compiler's message). With -DRIGHT, which selects the
# correct line beside the wrong one, it compiles. A comment `flags: ...` adds flags; of several
# each is tried alone.
must-fail)
    expect=$(sed -n 's/.*expect: *\(.*[^ ]\) *\*\/$/\1/p' "$source")
    sed -n 's/.*flags: *\(.*[^ ]\) *\*\/$/\1/p' "$source" >"$scratch/flags"
    [ -s "$scratch/flags" ] || echo >"$scratch/flags"
    sed "h;s|^|$c11 |;p;g;s|^|$cxx11 |" "$scratch/flags" >"$scratch/compilers"
    while IFS= read -r compiler; do
        if $compiler -c "$source" -o /dev/null >"$scratch/message" 2>&1; then
            echo "It compiles, but must not: $compiler $source"
            exit 1
        fi
        if [ -z "$expect" ] || ! grep -qE "$expect" "$scratch/message"; then
            echo "It is refused, but the message has no '$expect': $compiler $source"
            cat "$scratch/message"
            exit 1
        fi
        $compiler -DRIGHT -c "$source" -o /dev/null
    done <"$scratch/compilers"
    ;;

*)
    echo "compile.sh: what is $what?"
    exit 1
    ;;
esac
