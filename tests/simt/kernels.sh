#!/bin/sh
# kernels.sh FILE.cu [all]: a line SIMT_KERNEL(name); for each kernel of the file, but for those of
# its main unless all are asked for. A launch has only a kernel's address; this says how to call
# what is there. The file's conditions stay around them. Of a macro with __global__ in it another is
# made, which names the kernel instead, and what uses it, itself or by other macros, stands there
# once more. Templates are left out.
cut='/^#if !defined(NO_MAIN)/,$d'
[ "${2-}" != all ] || cut=
sed "$cut" "$1" | sed -e ':a' -e '/\\$/N; s/\\\n//; ta' | awk '
    function is_maker(text,   i, n, word) {
        n = split(text, word, /[^A-Za-z0-9_]+/)
        for (i = 1; i <= n; i++) if (word[i] in maker) return 1
        return 0
    }
    # what stands in front of the parameters, which are in front of the first brace
    function name_in(head) {
        sub(/\{.*/, "", head); sub(/ *\([^()]*\) *$/, "", head)
        match(head, /[A-Za-z0-9_#]+$/); return substr(head, RSTART)
    }
    /^# *(if|ifdef|ifndef|elif|else|endif)/ { print; next }
    /^#define [A-Za-z0-9_]+\(/ {
        macro = substr($0, 9, index($0, "(") - 9); head = substr($0, 1, index($0, ")"))
        body = substr($0, index($0, ")") + 1)
        if (body ~ /__global__/) {
            print "#undef " macro; print head " SIMT_KERNEL(" name_in(body) ");"; maker[macro]
        } else if (is_maker(body)) maker[macro]
        next
    }
    /^#/ { next }
    /^ *template *</ && !/__global__/ { is_template = 1; next }
    # known when it is launched
    /__global__/ && (is_template || /^ *template *</) { is_template = 0; next }
    { is_template = 0 }
    /__global__/ {
        head = $0; while (head !~ /\{/ && (getline more) > 0) head = head " " more
        print "SIMT_KERNEL(" name_in(head) ");"
    }
    /^[A-Za-z0-9_]+\(/ {
        call = $0; while (call !~ /\)$/ && (getline more) > 0) call = call " " more
        if (is_maker(call)) print call
    }'
