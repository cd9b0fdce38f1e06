#!/bin/sh
# demo.sh PROGRAM INPUT FOLDER [FAKE]: runs the demo on INPUT, then on what it must refuse: with a
# line that says why, exit status 1, and nothing written. FAKE is the demo with
# tests/demo_gpu_fake.c as its GPU. Ends on `P passed, F failed`. What the demo writes stays in
# FOLDER; whether its figures are right is verify_demo.py's to say.
program=$1 input=$2 folder=$3 fake=$4
passed=0 failed=0
rm -rf "$folder"
mkdir -p "$folder/sub"

expect() { # WHAT TEST...
    what=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "demo.sh: $what"
    fi
}

refuses() { # TEXT ARGUMENT...: the demo with these arguments, because of TEXT
    text=$1
    shift
    before=$(ls -lR "$folder/sub")
    "$program" "$@" >/dev/null 2>"$folder/errors"
    status=$?
    expect "$*: exit status $status, not 1" [ $status -eq 1 ]
    expect "$*: does not say '$text': $(cat "$folder/errors")" grep -q "$text" "$folder/errors"
    said=$(wc -l <"$folder/errors")
    expect "$*: $said lines, not $lines: $(cat "$folder/errors")" [ "$said" -eq "$lines" ]
    expect "$*: wrote something" [ "$before" = "$(ls -lR "$folder/sub")" ]
}

# A safetensors file of these members and so many bytes of zeros.
container() { # MEMBERS BYTES
    printf "\\$(printf %03o $((${#1} % 256)))\\$(printf %03o $((${#1} / 256)))\0\0\0\0\0\0%s" "$1"
    head -c "$2" /dev/zero
}
tensor() { # NAME DTYPE SHAPE BEGIN END
    printf '"embeddings.%s.weight":{"dtype":"%s","shape":[%s],"data_offsets":[%s,%s]}' "$@"
}

"$program" "$input" "$folder/rmsnorm.svg" >"$folder/output"
status=$?
expect "exit status $status" [ $status -eq 0 ]
cat "$folder/output"
lines=$(wc -l <"$folder/output")
expect "$lines lines" [ "$lines" -lt 30 ]
expect "a line of more than 100 columns" [ -z "$(awk 'length($0) > 100' "$folder/output")" ]
expect "does not say what it ran on" grep -q '^  ran on   .' "$folder/output"
expect "bytes of the GPU are wrong" [ -z "$(grep WRONG "$folder/output")" ]
expect "the picture has no end" [ "$(tail -n 1 "$folder/rmsnorm.svg")" = '</svg>' ]
expect "left more than a picture" [ "$(ls "$folder")" = "$(printf 'output\nrmsnorm.svg\nsub')" ]
"$program" "$input" "$folder/rmsnorm.svg" >"$folder/again"
expect "not over a picture that is there" [ $? -eq 0 ]

"$program" --help >"$folder/help"
expect "--help" grep -q '^usage: demo_rmsnorm' "$folder/help"
lines=$(wc -l <"$folder/help")
refuses '^usage: demo_rmsnorm' "$input" "$folder/sub/a.svg" more
refuses '^usage: demo_rmsnorm' --wrong
lines=1

out=$folder/sub/a.svg
bad=$folder/bad.safetensors
cp "$input" "$folder/sub/in.safetensors"
mkdir "$folder/sub/folder"
refuses 'absent: cannot be opened: No such file' "$folder/absent" "$out"
refuses 'sub: not a regular file' "$folder/sub" "$out"
refuses 'no/a.svg: cannot be created: No such file' "$input" "$folder/no/a.svg"
refuses 'folder: not a regular file' "$input" "$folder/sub/folder"
refuses 'would replace the input' "$folder/sub/in.safetensors" "$folder/sub/in.safetensors"
head -c 1000 "$input" >"$bad"
refuses 'bad.safetensors: .*truncated' "$bad" "$out"
: >"$bad"
refuses 'bad.safetensors: 0 bytes are too few' "$bad" "$out"
container '{}' 0 >"$bad"
refuses 'has no tensor embeddings.word_embeddings.weight' "$bad" "$out"
container "{$(tensor word_embeddings F32 2,32 0 256)}" 256 >"$bad"
refuses 'has no tensor embeddings.LayerNorm.weight' "$bad" "$out"
both() { # SHAPE BYTES, SHAPE BYTES: of the table and of the weight, as F32
    container "{$(tensor word_embeddings F32 "$1" 0 "$2"),$(tensor LayerNorm F32 "$3" "$2" \
        $(($2 + $4)))}" $(($2 + $4)) >"$bad"
}
both 2,48 384 48 192
refuses 'is 2 x 48, not tokens x blocks of 32' "$bad" "$out"
both 0,32 0 32 128
refuses 'is 0 x 32, not tokens' "$bad" "$out"
both 2,32 256 64 256
refuses 'has 64 elements, a token 32' "$bad" "$out"
both 64 256 64 256
refuses 'has 1 dimensions, not 2' "$bad" "$out"
typed() { # TYPE BYTES: of a table and a weight of 32 columns, the last bytes cut off
    container "{$(tensor word_embeddings "$1" 2,32 0 256),$(tensor LayerNorm F32 32 256 384)}" "$2"
}
typed I32 384 >"$bad"
refuses 'is I32, not F32, F16 or BF16' "$bad" "$out"
{ typed F32 380 && printf '\0\0\300\177'; } >"$bad" # ends on a NaN
refuses 'LayerNorm.weight holds what is not a finite bf16' "$bad" "$out"
both 2,32 256 32 128
"$program" "$bad" "$folder/zeros.svg" >"$folder/zeros"
expect "not of zeros" grep -q '^  NVFP4 per token .* exact ' "$folder/zeros"

if [ -n "$fake" ]; then
    "$fake" "$input" "$folder/fake.svg" >"$folder/fake"
    expect "a GPU whose bytes are right" [ $? -eq 0 ]
    expect "a GPU: $(wc -l <"$folder/fake") lines" [ "$(wc -l <"$folder/fake")" -lt 30 ]
    expect "a GPU: its name" grep -q '^  ran on   a GPU that is none$' "$folder/fake"
    expect "a GPU: equal" grep -q 'all equal to the host reference' "$folder/fake"
    expect "a GPU: speed" [ "$(grep -c ' 1000.0 *2000 *2500 GB/s *80.0 %$' "$folder/fake")" -eq 3 ]
    FP4_DEMO_FAULT=codes "$fake" "$input" "$folder/fault.svg" >"$folder/fault"
    expect "a wrong code" [ $? -eq 1 ]
    expect "a wrong code: which" grep -q 'WRONG *MXFP4; .* (0 scale bytes, 1 codes)' "$folder/fault"
    expect "a wrong code: where" grep -q 'first at row 1, col 11 ' "$folder/fault"
    expect "a wrong code: in sum" grep -q '1 of 3 ways NOT' "$folder/fault"
    export FP4_DEMO_FAULT=launch
    program=$fake
    refuses 'NVFP4 on the GPU: does not start' "$input" "$out"
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
