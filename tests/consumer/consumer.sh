#!/bin/sh
# consumer.sh WAY: builds and runs main.c as a user's project would, from build/consumer/WAY.
#   install         make install DESTDIR= PREFIX= copies what it should, make uninstall removes it
#   pkg-config      a staged install found through pkg-config
#   find_package    an install found by CMake
#   add_subdirectory, FetchContent    the source tree itself
#   FILE.cmake      the same with the lines of a CMake snippet of the README
# VERSION is the version config.h states. Respects CC.
set -eu
way=$1
source=$PWD
dir=$PWD/build/consumer/$(basename "$way")
rm -rf "$dir"
mkdir -p "$dir"
unset MAKEFLAGS MFLAGS DESTDIR
install() { make -s --no-print-directory "$@"; }

case $way in
install)
    install install DESTDIR="$dir/stage" PREFIX=/opt/fp4
    prefix=$dir/stage/opt/fp4
    diff -r include/fp4 "$prefix/include/fp4"
    (cd "$prefix" && find . -type f ! -path './include/*' | LC_ALL=C sort) >"$dir/others"
    cat >"$dir/expected" <<'END'
./share/cmake/fp4/fp4-config-version.cmake
./share/cmake/fp4/fp4-config.cmake
./share/pkgconfig/fp4.pc
END
    diff "$dir/expected" "$dir/others"
    grep -q '^prefix=/opt/fp4$' "$prefix/share/pkgconfig/fp4.pc"
    if grep -rF "$dir" "$prefix"; then
        echo "DESTDIR has got into an installed file"
        exit 1
    fi
    # A neighbour's files stay.
    mkdir -p "$prefix/include/other"
    touch "$prefix/include/other/other.h"
    install uninstall DESTDIR="$dir/stage" PREFIX=/opt/fp4
    left=$(cd "$prefix" && find . -type f)
    if [ "$left" != ./include/other/other.h ] || [ -e "$prefix/include/fp4" ]; then
        echo "uninstall leaves: $left"
        exit 1
    fi
    ;;
pkg-config)
    install install DESTDIR="$dir/stage" PREFIX=/opt/fp4
    export PKG_CONFIG_PATH="$dir/stage/opt/fp4/share/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$dir/stage"
    [ "$(pkg-config --modversion fp4)" = "$VERSION" ]
    # shellcheck disable=SC2046
    ${CC:-gcc} -std=c11 tests/consumer/main.c $(pkg-config --cflags --libs fp4) -o "$dir/app"
    "$dir/app"
    ;;
*)
    case $way in
    find_package | *.cmake) install install PREFIX="$dir/prefix" ;;
    esac
    ln -s "$source" "$dir/fp4"
    cp tests/consumer/main.c tests/consumer/CMakeLists.txt "$dir"
    cmake -S "$dir" -B "$dir/build" -DWAY="$way" -DFP4="$source" -DEXPECT_VERSION="$VERSION" \
        -DCMAKE_C_COMPILER="${CC:-gcc}" -DCMAKE_PREFIX_PATH="$dir/prefix" \
        -DFETCHCONTENT_SOURCE_DIR_FP4="$source"
    cmake --build "$dir/build"
    "$dir/build/app"
    ;;
esac
