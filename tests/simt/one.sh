#!/bin/sh
# one.sh DIR FILE.cu [FLAG...]: compiles a CUDA file with a main of its own for the machine of
# simt.h and runs it on the CPU, under AddressSanitizer and UBSan or as track.cpp has it. What is
# made goes to DIR. SIMT_COMPILE is how kernels are compiled for it, SIMT_MACHINE its objects,
# SIMT_LINK the flags to link with: the Makefile says. CXX links.
#
# A launch by <<<grid, cta, bytes>>> becomes a call of simt_launch_of, whatever its stream: its
# arguments are looked at by each thread. Kernels that are launched by their address, which then
# stands behind (const void *) or (void *), are made known by kernels.sh, instances of templates
# where that stands. `extern __shared__ T x[];` becomes a pointer to the launch's bytes, `__shared__
# alignas(16)` what gcc knows. There is no texture, and of CUDA what the headers of this machine
# have, which are called as NVIDIA's (tests/simt/include).
set -eu

dir=$1
file=$2
shift 2
name=$(basename "$file" .cu | sed 's/[^A-Za-z0-9]/_/g')
mkdir -p "$dir"
{
    echo "#line 1 \"$file\""
    LC_ALL=C awk '
        { text = text $0 "\n" }

        # where the comment, string or character ends that begins at i; or i, where none begins
        function skipped(i,   two, quote) {
            two = substr(text, i, 2)
            quote = substr(two, 1, 1)
            if (two == "//") return i + index(substr(text, i), "\n") - 1
            if (two == "/*") return i + 1 + index(substr(text, i + 2), "*/") + 2
            if (quote != "\"" && quote != "\047") return i
            for (i++; i <= size && substr(text, i, 1) != quote; i++) {
                if (substr(text, i, 1) == "\\") i++
            }
            return i + 1
        }

        # where the bracket ends that begins at i
        function behind(i,   depth, c, next_i) {
            for (depth = 0; i <= size; ) {
                next_i = skipped(i)
                if (next_i != i) { i = next_i; continue }
                c = substr(text, i++, 1)
                depth += (c ~ /[({[]/) - (c ~ /[)}\]]/)
                if (depth == 0) return i
            }
            return 0
        }

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

        # a launch at i: 0, or where it ends, when it has been written
        function launch(i,   length_of, from, to, n, kernel, named) {
            length_of = index(substr(text, i + 3), ">>>") - 1
            if (length_of < 0 || !match(out, /[A-Za-z0-9_:]+(<[^;{}()]*>)?[ \t\r\n]*$/)) return 0
            kernel = substr(out, RSTART)
            n = split_at_commas(substr(text, i + 3, length_of))
            from = i + 3 + length_of + 3
            while (substr(text, from, 1) ~ /[ \t\r\n]/) from++
            to = substr(text, from, 1) == "(" ? behind(from) : 0
            if (n < 2 || to == 0) return 0
            named = kernel
            gsub(/[ \t\r\n"\\]+/, " ", named)
            out = substr(out, 1, length(out) - length(kernel)) "simt_launch_of(\"" named "\", " \
                part[1] ", " part[2] \
                ", [&]() SIMT_NOT_TRACKED { " kernel substr(text, from, to - from) "; }"
            out = out (n > 2 ? ", " part[3] : "") ")"
            return to
        }

        # the address of an instance of a template at i: 0, or where it ends, when it has been made
        # known
        function address(i,   kernel, depth, inner, c) {
            kernel = substr(text, i, 200)
            if (!match(kernel, /^\((const )?void ?\*\)[ \t\r\n]*&?[A-Za-z0-9_:]+</)) return 0
            kernel = substr(kernel, 1, RLENGTH)
            i += RLENGTH
            sub(/^\((const )?void ?\*\)[ \t\r\n]*&?/, "", kernel)
            for (depth = 1; i <= size && depth > 0; i++) {
                c = substr(text, i, 1)
                inner += (c == "(") - (c == ")")
                if (c ~ /[;{}]/ || inner < 0) return 0
                if (inner == 0) depth += (c == "<") - (c == ">")
                kernel = kernel c
            }
            c = kernel
            gsub(/[ \t\r\n"\\]+/, " ", c)
            out = out "(void *)simt_address(" kernel ", \"" c "\")"
            return i
        }

        # a declaration of dynamic shared memory at i, in a function or outside of all: 0, or where
        # it ends
        function dynamic(i,   from, end, type, name) {
            from = substr(text, i, 200)
            if (!match(from, /^extern[ \t\r\n]+__shared__[ \t\r\n][^;{}]*\[[ \t]*\][ \t\r\n]*;/))
                return 0
            end = i + RLENGTH
            type = substr(from, 1, RLENGTH)
            sub(/^extern[ \t\r\n]+__shared__/, "", type)
            gsub(/(__align__|alignas)[ \t]*\([^()]*\)/, "", type)
            sub(/[ \t\r\n]*\[[ \t]*\][ \t\r\n]*;$/, "", type)
            if (!match(type, /[A-Za-z0-9_]+$/)) return 0
            name = substr(type, RSTART)
            type = substr(type, 1, RSTART - 1)
            out = out (functions > 0 ? type "*" name " = (" type "*)simt_dynamic_shared();" \
                : "static const simt_dynamic_array<" type "> " name " = {};")
            return end
        }

        # an alignment behind __shared__ at i, where gcc takes no standard attribute: 0, or where
        # its word ends
        function alignment(i) {
            if (!match(substr(text, i, 100), /^__shared__[ \t\r\n]+alignas[ \t\r\n]*\(/)) return 0
            out = out "__shared__ __align__("
            return i + RLENGTH
        }

        # a brace: how many of those around are none of a namespace
        function brace(c) {
            if (c == "{") {
                opened[++depth] = out !~ \
                    /(namespace[ \t\r\n]*[A-Za-z0-9_:]*|extern[ \t\r\n]*"C")[ \t\r\n]*$/
                functions += opened[depth]
            } else if (depth > 0) functions -= opened[depth--]
        }
        END {
            size = length(text)
            for (i = 1; i <= size; ) {
                end = skipped(i)
                c = substr(text, i, 1)
                if (end == i && c == "<" && substr(text, i, 3) == "<<<") end = launch(i)
                else if (end == i && c == "(") end = address(i)
                else if (end == i && c == "e" && out !~ /[A-Za-z0-9_]$/) end = dynamic(i)
                else if (end == i && c == "_" && out !~ /[A-Za-z0-9_]$/) end = alignment(i)
                else if (end == i && (c == "{" || c == "}")) brace(c)
                else if (end > i) out = out substr(text, i, end - i)
                if (end <= i) { end = i + 1; out = out substr(text, i, 1) }
                i = end
                if (length(out) > 8192) { # what a launch looks back at is near
                    printf "%s", substr(out, 1, length(out) - 4096)
                    out = substr(out, length(out) - 4095)
                }
            }
            printf "%s", out
        }' "$file"
    sh "$(dirname "$0")/kernels.sh" "$file" all | awk -v file="$file" '
        BEGIN {
            while ((getline line <file) > 0) {
                while (match(line, /\((const )?void \*\) *[A-Za-z0-9_]+/)) {
                    name = substr(line, RSTART, RLENGTH); sub(/.*\) */, "", name); cast[name]
                    line = substr(line, RSTART + RLENGTH)
                }
            }
        }
        /^SIMT_KERNEL\(/ {
            name = $0; gsub(/SIMT_KERNEL\(|\);/, "", name)
            if (!(name in cast)) next
        }
        { print }'
} >"$dir/$name.cpp"
# shellcheck disable=SC2086
$SIMT_COMPILE -DSIMT_UNIT="$name" -I"$(dirname "$file")" "$@" -c "$dir/$name.cpp" -o "$dir/$name.o"
# shellcheck disable=SC2086
${CXX:-g++} $SIMT_LINK "$dir/$name.o" $SIMT_MACHINE -lm -o "$dir/$name"
ASAN_OPTIONS=detect_leaks=0:${ASAN_OPTIONS-} "$dir/$name"
