#!/bin/sh
# races.sh DIR: races.cu by one.sh as track.cpp has it, as it is, and with each of its three faults,
# which have to be found; and what README.md shows, in which there is none.
set -eu

dir=$1
mkdir -p "$dir"

# found WORD MESSAGE
found() {
    if sh tests/simt/one.sh "$dir" tests/simt/races.cu "-D$1" 2>"$dir/$1"; then
        echo "$1 was not found"
        exit 1
    fi
    grep "$2" "$dir/$1"
    grep "in kernel .* of races, CTA" "$dir/$1"
}

sh tests/simt/one.sh "$dir" tests/simt/races.cu | tee "$dir/out"
case " $SIMT_COMPILE " in
*' -mfma '*) grep -q 'rounded once' "$dir/out" ;;
esac
found RACE 'static shared memory, which'
found UNWRITTEN 'reads byte 767 of a buffer of 768 bytes, which nobody has written'
found ACROSS 'writes byte 252 of a buffer of 768 bytes'
sh tests/simt/one.sh "$dir" examples/00_first.cu
sh tests/simt/one.sh "$dir" examples/16_epilogue.cu
sh tests/simt/one.sh "$dir" examples/17_gated_norm.cu
