#!/bin/sh
# need.sh THING...: makes sure that these are installed. Where one is missing: with apt-get on
# Debian and Ubuntu, elsewhere says what to install and fails. CC, CXX, CPPFLAGS are respected.
# THING is one of: libc c++ criterion cjson pkg-config cmake python3-venv
has_header() { echo "#include <$1>" | ${CC:-gcc} ${CPPFLAGS:-} -x c -fsyntax-only - 2>/dev/null; }

packages=
missing=
add() { # NAME PACKAGE TEST...: unless the test succeeds
    name=$1 package=$2
    shift 2
    "$@" >/dev/null 2>&1 || { packages="$packages $package" missing="$missing$name ($package), "; }
}
for thing in "$@"; do
    case $thing in
    libc) add 'the C library headers' libc6-dev has_header stdio.h ;;
    c++) add 'a C++ compiler' g++ command -v "${CXX:-g++}" ;;
    criterion) add Criterion libcriterion-dev has_header criterion/criterion.h ;;
    cjson) add cJSON libcjson-dev has_header cjson/cJSON.h ;;
    pkg-config) add pkg-config pkg-config command -v pkg-config ;;
    cmake) add CMake cmake command -v cmake ;;
    python3-venv) add 'Python 3 with venv' python3-venv python3 -c 'import venv, ensurepip' ;;
    *) echo "need.sh: what is $thing?" && exit 1 ;;
    esac
done
[ -n "$packages" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "Missing here, with their Debian packages: ${missing%, }."
    echo "There is no apt-get: install them as your system does, then run this again."
    exit 1
fi
sudo=
if [ "$(id -u)" -ne 0 ]; then
    sudo=sudo
    if ! command -v sudo >/dev/null; then
        echo "Missing here: ${missing%, }."
        echo "There is no sudo: as root, run apt-get install$packages, then run this again."
        exit 1
    fi
fi
echo "Missing here: ${missing%, }. Installing:${sudo:+ sudo} apt-get install$packages"
log=$(mktemp)
if $sudo apt-get update >"$log" 2>&1 </dev/null &&
    $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends $packages >>"$log" 2>&1 </dev/null; then
    rm -f "$log"
else
    cat "$log"
    rm -f "$log"
    echo "apt-get could not install$packages. Install them yourself, then run this again."
    exit 1
fi
