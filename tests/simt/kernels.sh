#!/bin/sh
# kernels.sh FILE.cu: a line SIMT_KERNEL(name); for each kernel of the file, but for those of its
# main. A launch has only a kernel's address; this says how to call what is there. Kernels are
# functions, or what stands first where a macro with __global__ in it is used. The file's conditions
# stay around them.
sed '/^#if !defined(NO_MAIN)/,$d; s/__launch_bounds__([^)]*)//g' "$1" |
    sed -e ':a' -e '/\\$/N; s/\\\n//; ta' | awk '
    /^# *(if|ifdef|ifndef|elif|else|endif)/ { print; next }
    /^#define .*__global__/ { sub(/\(.*/, "", $2); maker[$2] = 1; next }
    /^#/ { next }
    /__global__/ { head = $0; while (head !~ /__global__.*\(/ && (getline more) > 0)
                       head = head " " more
                   sub(/.*__global__/, "", head); sub(/\(.*/, "", head)
                   words = split(head, word, /[^A-Za-z0-9_]+/)
                   print "SIMT_KERNEL(" (word[words] == "" ? word[words - 1] : word[words]) ");" }
    match($0, /^[A-Za-z0-9_]+\(/) && substr($0, 1, RLENGTH - 1) in maker {
        sub(/^[^(]*\(/, ""); sub(/,.*/, ""); print "SIMT_KERNEL(" $0 ");" }'
