#!/bin/sh
# use.sh HEADER...: prints a translation unit that includes each header (a path below include/)
# twice and takes the address of every function in them, so that all are compiled: in a host table,
# and under CUDA in a kernel too. Host-only functions (static inline) stay out of the kernel,
# device-only ones (FP4_D) out of the host table. No function is listed by hand anywhere.
set -e
for header in "$@"; do
    echo "#include <${header#include/}>"
    echo "#include <${header#include/}>"
done
functions=$(for header in "$@"; do
    # A function starts with one of these words in column 0 and has its name before the first
    # parenthesis; its body starts with a brace in column 0. Their numbers must agree.
    awk -v header="$header" '
        /^(FP4_HD|FP4_HD_CONST|FP4_D|static inline) / {
            kind = $1
            open = 1
            text = ""
        }
        open {
            text = text " " $0
            if (index(text, "(")) {
                sub(/ *\(.*/, "", text)
                sub(/.*[ *]/, "", text)
                print (kind == "FP4_D" ? "device " : kind == "static" ? "host " : "both ") text
                open = 0
                names++
            }
        }
        /^\{/ { bodies++ }
        END {
            if (names != bodies) {
                print header ": " bodies " functions, but only " names " start with FP4_HD, " \
                    "FP4_HD_CONST, FP4_D or static inline in column 0" >"/dev/stderr"
                exit 1
            }
        }' "$header" || exit 1
done)
echo "$functions" | awk '
    !NF { next }
    $1 != "device" { host = host ",\n    (void (*)(void))" $2 }
    $1 != "host" { device = device "    out[" ++n "] = (void *)" $2 ";\n" }
    { count++ }
    END {
        print "#if !defined(__CUDACC_RTC__)"
        print "void (*fp4_use[])(void) = {0" host "};"
        print "#endif"
        print "#if defined(__CUDACC__)"
        print "extern \"C\" __global__ void fp4_use_device(void **out)\n{\n    out[0] = out;"
        print device "}"
        print "#endif"
        print "/* " count + 0 " functions */"
    }'
