#!/bin/sh
# toolkit.sh VERSION ARCHS FILE...: compiles each FILE, a translation unit of device code, with the
# NVRTC of that CUDA Toolkit (from PyPI, into build/toolkits), for each of the ARCHS ("90 100a").
# The compiler behind nvcc is the same. CC compiles tests/compile/nvrtc.c against it.
set -eu

version=$1
archs=$2
shift 2
case $version in
11.* | 12.*) package=nvidia-cuda-nvrtc-cu${version%%.*} ;;
*) package=nvidia-cuda-nvrtc ;;
esac
folder=build/toolkits/$version
sh tests/tools/venv.sh "$folder" "$package==$version"
header=$(find "$folder" -name nvrtc.h)
library=$(find "$folder" -name 'libnvrtc.so.*')
${CC:-gcc} -std=c11 -isystem "$(dirname "$header")" tests/compile/nvrtc.c "$library" \
    -Wl,-rpath,"$PWD/$(dirname "$library")" -o "$folder/nvrtc"
"$folder/nvrtc" "$archs" "$@"
