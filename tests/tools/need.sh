#!/bin/sh
# need.sh THING...: makes sure that these are installed. Where one is missing: with apt-get on
# Debian and Ubuntu, elsewhere says what to install and fails. CC, CXX, CPPFLAGS are respected.
# THING is one of: libc c++ criterion cjson pkg-config cmake python3-venv
has_header() { echo "#include <$1>" | ${CC:-gcc} ${CPPFLAGS:-} -x c -fsyntax-only - 2>/dev/null; }

packages=
add() { "$@" >/dev/null 2>&1 || packages="$packages $package"; }
for thing in "$@"; do
    case $thing in
    libc) package=libc6-dev && add has_header stdio.h ;;
    c++) package=g++ && add command -v "${CXX:-g++}" ;;
    criterion) package=libcriterion-dev && add has_header criterion/criterion.h ;;
    cjson) package=libcjson-dev && add has_header cjson/cJSON.h ;;
    pkg-config) package=pkg-config && add command -v pkg-config ;;
    cmake) package=cmake && add command -v cmake ;;
    python3-venv) package=python3-venv && add python3 -c 'import venv, ensurepip' ;;
    *) echo "need.sh: what is $thing?" && exit 1 ;;
    esac
done
[ -n "$packages" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "Missing:$packages (Debian's names). Install them with your package manager and run again."
    exit 1
fi
sudo=
if [ "$(id -u)" -ne 0 ]; then
    sudo=sudo
    if ! command -v sudo >/dev/null; then
        echo "Missing:$packages. As root: apt-get install$packages, then run again."
        exit 1
    fi
fi
echo "Installing what is missing here, with apt-get:$packages"
log=$(mktemp)
if $sudo apt-get update >"$log" 2>&1 </dev/null &&
    $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends $packages >>"$log" 2>&1 </dev/null; then
    rm -f "$log"
else
    cat "$log"
    rm -f "$log"
    echo "apt-get could not install:$packages. Install them and run again."
    exit 1
fi
