#!/bin/sh
# venv.sh FOLDER PACKAGE...: a Python virtual environment with these packages. Where no package
# index can be reached it is left out (exit status 77), but a failure in CI (CI=true).
set -e
folder=$1
shift
[ "$(cat "$folder/packages" 2>/dev/null)" != "$*" ] || exit 0
rm -rf "$folder"
python3 -m venv "$folder"
export PIP_DISABLE_PIP_VERSION_CHECK=1
if ! "$folder/bin/pip" install --quiet --timeout 20 --retries 2 "$@"; then
    echo "pip could not install $*"
    [ "$CI" = true ] || exit 77
    exit 1
fi
echo "$*" >"$folder/packages"
