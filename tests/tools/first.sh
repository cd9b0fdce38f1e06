#!/bin/sh
# first.sh DIR ARCH [run]: compiles examples/00_first.cu for ARCH as it stands, and once for each
# row of the table under the kernel in README.md, with the words changed as it says; and runs them.
# And 16_epilogue.cu and 17_gated_norm.cu, for each format. For the ARCH cpu tests/simt/one.sh
# compiles and runs.
#
# A cell has `WORD` by `WORD`, and maybe more of them. The first row and the last are also taken
# together. The programs and their sources go to DIR.
# Respects NVCC.
set -eu

dir=$1
arch=$2
mkdir -p "$dir"
cp examples/00_first.cu "$dir/first.0.cu"
awk '
    /^\| for \| replace \|/ { inside = 1; next }
    inside && /^\|---/ { next }
    inside && !/^\|/ { exit }
    inside { sub(/^\|[^|]*\| /, ""); sub(/ \|$/, ""); print }' README.md >"$dir/rows"
[ -s "$dir/rows" ] || { echo "README.md: no words to change" && exit 1; }
rows=$(wc -l <"$dir/rows")
for row in $(seq "$rows"); do
    sed -n "${row}p" "$dir/rows" | awk '
        function literal(s) { gsub(/[][\\.*^$&|]/, "\\\\&", s); return s }
        {
            while (match($0, /`[^`]*` by `[^`]*`/)) {
                split(substr($0, RSTART, RLENGTH), part, "`")
                print "s|" literal(part[2]) "|" literal(part[4]) "|g"
                $0 = substr($0, RSTART + RLENGTH)
            }
        }' >"$dir/first.$row.sed"
    while read -r command; do # each of them must have something to do
        sed "$command" examples/00_first.cu | cmp -s - examples/00_first.cu || continue
        echo "README.md: nothing of 00_first.cu is changed by $command" && exit 1
    done <"$dir/first.$row.sed"
    sed -f "$dir/first.$row.sed" examples/00_first.cu >"$dir/first.$row.cu"
done
cat "$dir/first.1.sed" "$dir/first.$rows.sed" >"$dir/both.sed"
sed -f "$dir/both.sed" examples/00_first.cu >"$dir/first.both.cu"
# build FILE [FLAG...]
build() {
    if [ "$arch" = cpu ]; then
        sh tests/simt/one.sh "$dir" "$@"
        return
    fi
    program=$dir/$(basename "$1" .cu)
    "${NVCC:-nvcc}" -O3 -arch="$arch" -Werror all-warnings -Iinclude "$@" -o "$program"
    [ "$run" != run ] || "$program"
}
run=${3-}
for row in $(seq 0 "$rows"); do
    echo "row $row: $([ "$row" = 0 ] && echo 'as it stands' || sed -n "${row}p" "$dir/rows")"
    build "$dir/first.$row.cu"
done
echo "rows 1 and $rows"
build "$dir/first.both.cu"
for words in nvfp4-128x4 mxfp4-8x4 mxfp8-linear; do
    build examples/16_epilogue.cu -DFORMAT="${words%-*}" -DLAYOUT="${words#*-}"
done
for words in BF16-NVFP4-128X4 F16-MXFP4-8X4 F32-MXFP8-LINEAR F32-NVFP4_32-8X4 \
    BF16-MXFP4_16-LINEAR; do
    rest=${words#*-}
    build examples/17_gated_norm.cu -DINPUT="FP4_${words%%-*}" -DFORMAT="FP4_${rest%-*}" \
        -DLAYOUT="FP4_LAYOUT_${rest#*-}"
done
