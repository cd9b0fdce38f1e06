#!/bin/sh
# device.sh WHAT ...: one compile proof of the device code; it needs nvcc, but no GPU. NVCC is the
# compiler, TARGETS its -gencode options.
what=$1
shift
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
: >"$scratch/offences"
offence() { echo "$*" | tee -a "$scratch/offences"; }
wanted=$(echo "$TARGETS" | grep -o 'code=' | wc -l)

# compile SOURCE FOLDER FLAG...: for all TARGETS, in one call of nvcc; what it says is in
# $scratch/log. PTX and cubin of each target stay in FOLDER, as NAME.compute_TARGET.ptx and .cubin.
compile() {
    source=$1
    folder=$2
    shift 2
    rm -rf "$folder"
    mkdir -p "$folder"
    $NVCC -std=c++17 -O3 -Iinclude $TARGETS -Xptxas -v --threads 2 --keep --keep-dir "$folder" \
        "$@" -fatbin "$source" -o "$scratch/fatbin" >"$scratch/log" 2>&1 ||
        { cat "$scratch/log" && exit 1; }
    find "$folder" -type f ! -name '*.ptx' ! -name '*.cubin' -delete
    if [ "$wanted" -eq 1 ]; then # nvcc leaves the target out of the names
        target=$(echo "$TARGETS" | sed 's/.*arch=\(compute_[0-9]*[af]*\).*/\1/')
        for kind in ptx cubin; do
            file=$(find "$folder" -name "*.$kind")
            mv "$file" "${file%."$kind"}.$target.$kind"
        done
    fi
}

case $what in

# compile SOURCE FOLDER FLAG...: as above.
compile) compile "$@" ;;

# frames SOURCE FOLDER CHECK FLAG...: compiles it and looks at each kernel on each of the TARGETS:
# none may have a stack frame or a spill. Writes CHECK.d, what make's CHECK.ok depends on.
# (Launchers that nobody calls are no offence here.)
frames)
    source=$1
    folder=$2
    check=$3
    shift 3
    compile "$source" "$folder" -diag-suppress 177 -Werror all-warnings \
        -MD -MP -MT "$check.ok" -MF "$check.d" "$@"
    awk -F"'" '
        /Compiling entry function/ { kernel = $2; target = $4 }
        /bytes stack frame/ {
            kernels++
            targets[target]
            split($0, n, / +/)
            if (n[2] + n[6] + n[10] > 0) print target ": " kernel ":" $0
        }
        END { for (t in targets) count++; print kernels + 0, count + 0 >"/dev/stderr" }
    ' "$scratch/log" >"$scratch/spills" 2>"$scratch/counts"
    while IFS= read -r line; do offence "$line"; done <"$scratch/spills"
    read -r kernels targets <"$scratch/counts"
    echo "$kernels kernels, $targets targets"
    [ "$targets" -eq "$wanted" ] && [ "$kernels" -ge "$wanted" ] ||
        offence "ptxas speaks of $targets targets, not of $wanted"
    ;;

# complete SOURCE HEADER...: SOURCE uses every function of these headers that has a public name.
# (fp4_ptx_ functions are single instructions, and reached through the others.)
complete)
    source=$1
    shift
    ${CXX:-g++} -std=c++17 -x c++ -nostdinc -nostdinc++ -D__CUDACC__ -D__CUDACC_RTC__ \
        -Iinclude -E "$source" |
        awk -v source="$source" '
            /^# [0-9]+ "/ { mine = index($0, "\"" source "\"") > 0; next }
            mine' >"$scratch/text"
    grep -q '__global__' "$scratch/text" || offence "$source: no kernel after preprocessing"
    sed -n 's/^FP4_D [^(]*[ *]\(fp4_[a-z0-9_]*[a-z0-9]\)(.*/\1/p' "$@" | grep -v '^fp4_ptx_' |
        sort -u >"$scratch/functions"
    while read -r function; do
        grep -qw "$function" "$scratch/text" || offence "$source does not use $function"
    done <"$scratch/functions"
    echo "$(wc -l <"$scratch/functions") functions"
    [ -s "$scratch/functions" ] || offence "no function found"
    ;;

# ptx FOLDER [portable]: the kernels of blocks.cu have the conversions in their PTX where the
# target has them, exactly as many as it takes, and none elsewhere; fp4_is_native() says which.
# portable: compiled with the macros of arch.cuh forced to 0, no target has any. And where type and
# format are arguments, in kernels format_X, the instructions are those of named_X.
ptx)
    folder=$1
    portable=$2
    # pairs: the names X of which $file has two kernels, and how many of their instructions, without
    # registers and in any order, differ
    pairs() {
        awk '
            match($0, /\.entry (named|format)_[A-Za-z0-9_]+/) {
                name = substr($0, RSTART + 7, RLENGTH - 7)
                is_format = sub(/^format_/, "", name)
                sub(/^named_/, "", name)
                names[name]
            }
            name != "" {
                gsub(/(named|format)_[a-z0-9_]+/, "K"); gsub(/[%$][A-Za-z_]+[0-9]+(_[0-9]+)*/, "%")
                more[name, $0] += is_format ? 1 : -1
            }
            /^}/ { name = "" }
            END {
                for (i in more) { split(i, part, SUBSEP); bad[part[1]] += more[i] ? 1 : 0 }
                for (name in names) print name, bad[name]
            }' "$file"
    }
    # expect COUNT KERNEL REGEX: lines of that kernel of $file; `any` counts those of all.
    expect() {
        got=$(awk -v kernel="$2" -v regex="$3" '
            match($0, /\.entry [A-Za-z0-9_]+/) { now = substr($0, RSTART + 7, RLENGTH - 7) }
            now == kernel { found = 1 }
            (now == kernel || kernel == "any") && $0 ~ regex { count++ }
            END { print found || kernel == "any" ? count + 0 : "no kernel, so no" }' "$file")
        checked=$((checked + 1))
        [ "$got" = "$1" ] || offence "$target: $2 has $got $3, not $1"
    }
    checked=0
    for file in "$folder"/*.ptx; do
        target=$(echo "$file" | sed 's/.*compute_\([0-9]*[af]*\)\.ptx$/\1/')
        arch=${target%[af]}
        e2m1=0 e4m3=0 pdl=0
        case $target in
        *[af]) [ "$arch" -lt 100 ] || e2m1=1 ;;
        esac
        [ "$arch" -lt 89 ] || e4m3=1
        [ "$arch" -lt 90 ] || pdl=1
        [ -z "$portable" ] || e2m1=0 e4m3=0

        expect $((4 * e2m1)) to_e2m1x8 'cvt\.rn\.satfinite\.e2m1x2\.f32'
        expect $((1 * e2m1)) to_e2m1x2 'cvt\.rn\.satfinite\.e2m1x2\.f32'
        expect $((4 * e2m1)) from_e2m1x8 'cvt\.rn\.f16x2\.e2m1x2'
        expect $((1 * e2m1)) to_e8m0 'cvt\.rp\.satfinite\.ue8m0x2\.f32'
        expect $((4 * e4m3)) to_e4m3x8 'cvt\.rn\.satfinite\.e4m3x2\.f32'
        expect $((4 * e4m3)) from_e4m3x8 'cvt\.rn\.f16x2\.e4m3x2'
        expect $((8 * e2m1)) minimal 'cvt\.rn\.satfinite\.e2m1x2\.f32'
        [ $e2m1 -eq 1 ] || expect 0 any 'cvt.*(e2m1|e8m0)'
        [ $e4m3 -eq 1 ] || expect 0 any 'cvt.*e4m3'
        expect $pdl dependent_launch 'griddepcontrol\.wait'
        expect $pdl dependent_launch 'griddepcontrol\.launch_dependents'
        expect 0 minimal 'griddepcontrol'
        expect $e2m1 is_native 'e2m1 in hardware'
        expect $((1 - e2m1)) is_native 'e2m1 emulated'
        expect $e4m3 is_native 'e4m3 in hardware'
        expect $((1 - e4m3)) is_native 'e4m3 emulated'
        pairs >"$scratch/pairs"
        while read -r name differ; do
            [ "$differ" = 0 ] || offence "$target: format_$name is not named_$name:" \
                "$differ instructions"
        done <"$scratch/pairs"
        [ "$(wc -l <"$scratch/pairs")" = "$(grep -c '^PAIR(' tests/compile/blocks.cu)" ] ||
            offence "$target: not every pair of blocks.cu was found"
    done
    echo "$checked counts, of $wanted targets"
    [ "$(find "$folder" -name '*.ptx' | wc -l)" -eq "$wanted" ] ||
        offence "$folder has not the PTX of $wanted targets"
    ;;

# sass FOLDER THEIRS: blocks.cu and cuda_fp4.cu, compiled: the instructions of the minimal kernel,
# at most 80 on sm_100a; and conversions as NVIDIA's. Where there is no disassembler (which comes
# with CUDA, or in the wheel of triton) it is left out.
sass)
    folder=$1
    theirs=$2
    for tool in "$NVDISASM" "$(command -v nvdisasm)" "$(command -v cuobjdump)" \
        build/*/lib/python3*/site-packages/triton/backends/nvidia/bin/nvdisasm; do
        [ ! -x "$tool" ] || break
    done
    if [ ! -x "$tool" ]; then
        echo "no nvdisasm or cuobjdump here; set NVDISASM, or" \
            "python3 -m venv build/triton && build/triton/bin/pip install triton==3.5.1"
        exit 77
    fi
    case $tool in
    *cuobjdump) dump="$tool -sass" ;;
    *) dump="$tool -c -ndf" ;;
    esac
    # listing NAME CUBIN: empty where the tool does not know the target.
    listing() { $dump "$2" >"$scratch/$1" 2>/dev/null || : >"$scratch/$1"; }
    echo "disassembled by $tool"
    for target in 90 100a 120a; do
        [ -f "$folder/blocks.compute_$target.cubin" ] || continue
        listing ours "$folder/blocks.compute_$target.cubin"
        listing theirs "$theirs/cuda_fp4.compute_$target.cubin"
        if ! grep -q EXIT "$scratch/ours"; then
            echo "$tool does not know sm_$target; the one of CUDA 12.8 does"
            exit 77
        fi
        most=
        kernels='to_e2m1x2 to_e2m1x8 to_e4m3x8 to_e8m0'
        case $target in
        90) kernels=to_e4m3x8 ;;
        100a) most=80 ;;
        esac
        python3 tests/tools/sass.py count "$scratch/ours" $target $most ||
            offence "sm_$target: the count"
        python3 tests/tools/sass.py operands "$scratch/ours" "$scratch/theirs" $target $kernels ||
            offence "sm_$target: the operands"
        compared=1
    done
    if [ -z "$compared" ]; then
        echo "ARCHS has none of 90, 100a, 120a"
        exit 77
    fi
    ;;

# must-fail SOURCE: like compile.sh must-fail, for CUDA.
must-fail)
    source=$1
    expect=$(sed -n 's/.*expect: *\(.*[^ ]\) *\*\/$/\1/p' "$source")
    compile="$NVCC -std=c++17 -arch=sm_90 -Iinclude -diag-suppress 177 -Werror all-warnings"
    $compile -DRIGHT -cuda "$source" -o /dev/null || offence "With -DRIGHT it does not compile"
    if $compile -cuda "$source" -o /dev/null >"$scratch/message" 2>&1; then
        offence "It compiles, but must not: $source"
    elif [ -z "$expect" ] || ! grep -qE "$expect" "$scratch/message"; then
        offence "It is refused, but the message has no '$expect'"
        cat "$scratch/message"
    fi
    ;;

*)
    offence "device.sh: what is $what?"
    ;;
esac

[ ! -s "$scratch/offences" ]
