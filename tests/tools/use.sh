#!/bin/sh
# use.sh HEADER...: prints a translation unit that includes each header (a path below include/)
# twice and takes the address of every function in them, so that all are compiled: in a host table,
# and under CUDA in a kernel too. Host-only functions (static inline) stay out of the kernel,
# device-only ones (FP4_D) out of the host table, and each stands under the #if of its definition.
# No function is listed by hand anywhere.
set -e
for header in "$@"; do
    echo "#include <${header#include/}>"
    echo "#include <${header#include/}>"
done

# The functions of all headers, as lines `both|host|device NAME`, and the conditionals as they are.
# A function starts with one of the words below in column 0 and has its name before the first
# parenthesis; its body starts with a brace in column 0. Their numbers must agree.
functions=$(for header in "$@"; do
    awk -v header="$header" '
        /^#if|^#el|^#endif/ { conditional = 1 }
        conditional {
            if (/^#if/ && depth++ == 0 || /^#endif/ && --depth == 0) guard = 1 # not to be repeated
            conditional = sub(/\\$/, "") # goes on: one line of both
            if (!guard) printf "%s%s", $0, conditional ? "" : "\n"
            guard = conditional && guard
            next
        }
        /^(FP4_HD|FP4_HD_CONST|FP4_D|static inline) / {
            kind = $1 == "FP4_D" ? "device" : $1 == "static" ? "host" : "both"
            open = 1
            text = ""
        }
        open {
            text = text " " $0
            if (index(text, "(")) {
                sub(/ *\(.*/, "", text)
                sub(/.*[ *]/, "", text)
                print kind, text
                open = 0
                names++
            }
        }
        /^\{/ { bodies++ }
        END {
            if (names != bodies) {
                print header ": " bodies + 0 " functions, but " names + 0 " start with FP4_HD, " \
                    "FP4_HD_CONST, FP4_D or static inline in column 0" >"/dev/stderr"
                exit 1
            }
        }' "$header" || exit 1
done)

echo "#if !defined(__CUDACC_RTC__)"
echo "void (*fp4_use[])(void) = {0"
echo "$functions" | awk '/^#/ { print } /^(both|host) / { print "    , (void (*)(void))" $2 }'
echo "};"
echo "#endif"
echo "#if defined(__CUDACC__)"
echo 'extern "C" __global__ void fp4_use_device(void **out)'
echo "{"
echo "    out[0] = out;"
echo "$functions" |
    awk '/^#/ { print } /^(both|device) / { print "    out[" ++n "] = (void *)" $2 ";" }'
echo "}"
echo "#endif"
