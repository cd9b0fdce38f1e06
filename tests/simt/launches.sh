#!/bin/sh
# launches.sh DIR: launches.cu by one.sh, as it is, and with each of its three faults, which have to
# be found, by kernel and thread. And halves.cu.
set -eu

run() { sh tests/simt/one.sh "$dir" tests/simt/launches.cu "$@"; }

# found WORD THREAD REPORT
found() {
    if run "-D$1" 2>"$dir/$1"; then
        echo "$1 was not found"
        exit 1
    fi
    grep "in kernel .* of launches, CTA (0, 0, 0).* thread ($2, 0, 0)" "$dir/$1"
    grep "$3" "$dir/$1"
}

dir=$1
run
sh tests/simt/one.sh "$dir" tests/simt/halves.cu
found BEYOND 100 heap-buffer-overflow
found SHARED 8 global-buffer-overflow
found DYNAMIC 8 heap-buffer-overflow
