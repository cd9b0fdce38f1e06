#!/bin/sh
# quantize_safetensors.sh PROGRAM INPUT FOLDER: runs the example on INPUT in both formats and with
# both sets of names. What it writes stays in FOLDER.
set -e
rm -rf "$3"
for format in nvfp4 mxfp4; do
    for names in modelopt compressed-tensors; do
        mkdir -p "$3/$format-$names"
        "$1" --format $format --names $names "$2" "$3/$format-$names/model.safetensors"
    done
done
