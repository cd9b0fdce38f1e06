#!/bin/sh
# kernels.sh FILE.cu: a line SIMT_KERNEL(name); for each kernel of the file, but for those of its
# main. A launch has only a kernel's address; this says how to call what is there.
sed '/^#if !defined(NO_MAIN)/,$d; s/__launch_bounds__([^)]*)//g' "$1" | tr '\n' ' ' |
    grep -oE '__global__[^;(){]*\(' | sed 's/.*[^A-Za-z0-9_]\([A-Za-z0-9_]*\)($/SIMT_KERNEL(\1);/'
