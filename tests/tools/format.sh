#!/bin/sh
# format.sh FILE...: clang-format finds nothing to change. Versions differ in what they find, so
# that only the one the sources were formatted with is asked.
want=14
found=$(clang-format --version 2>/dev/null | sed -n 's/.*version \([0-9]*\)\..*/\1/p')
if [ "$found" != $want ]; then
    echo "needs clang-format $want, here is ${found:-none}"
    exit 77
fi
clang-format --dry-run --Werror "$@"
