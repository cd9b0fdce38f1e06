#!/bin/sh
# planted.sh san|track: plants faults into copies of the sources, one at a time, and runs the tests
# on them: they must fail and say what is wrong. Those for this kind of program; COMPILE: how to
# compile a kernel for it, OBJECTS: what it is linked from. CXX, LIBS: how to link.
only=$1
out=build/simt/planted
passed=0
failed=0
bad() { failed=$((failed + 1)) && echo "planted: $1: $2"; }

# plant NAME san|track FILE 's/what/fault/' OBJECT TESTS 'message'...
# OBJECT: the one that holds the kernel, compiled from a copy in which FILE is edited.
plant() {
    name=$1 kind=$2 file=$3 edit=$4 object=$5 tests=$6
    [ "$kind" = "$only" ] || return 0
    shift 6
    copy=$out/$name-$kind
    rm -rf "$copy"
    mkdir -p "$copy/tests" && cp -R include examples "$copy" && cp -R tests/gpu tests/simt \
        "$copy/tests"
    sed "$edit" "$file" >"$copy/$file"
    if cmp -s "$file" "$copy/$file"; then
        bad "$name" "$file has no such line any more: $edit"
        return
    fi
    unit=$(echo "$object" | sed 's/-.*//')
    words=$(echo "$object" | sed 's/^[^-]*-*//')
    third=$(echo "$words" | cut -d- -f3)
    source=$unit
    [ -z "$words" ] || source=launch_$unit
    first=INPUT second=FORMAT last=RULE
    case $unit in
    dequantize) first=FORMAT second=OUTPUT last=NONE ;;
    fake) second=OUTPUT ;;
    gemv) last=OUTPUT ;;
    esac
    compile=$COMPILE sanitizers=-fsanitize=address,undefined
    [ "$kind" = san ] || sanitizers=
    # much to compile, and nothing in it for a sanitizer to find
    [ "$object" != parts ] || compile="$compile -O0 -fno-sanitize=all"
    set -f
    # shellcheck disable=SC2086
    if ! $compile -USIMT_UNIT -DSIMT_UNIT="$(echo "$object" | tr - _)" \
        -I"$copy/tests/simt/include" -Ibuild/simt -I"$copy/include" \
        -D$first="$(echo "$words" | cut -d- -f1)" -D$second="$(echo "$words" | cut -d- -f2)" \
        -DLAYOUT=FP4_LAYOUT_"$third" -DNORM="$third" -DACTIVATION="$third" -D$last="$third" \
        -c "$copy/tests/simt/$source.cu" -o "$copy/planted.o"; then
        bad "$name" "does not compile"
        return
    fi
    set +f
    # shellcheck disable=SC2046,SC2086
    $CXX $sanitizers $(echo "$OBJECTS" | tr ' ' '\n' | grep -v "/$object.o$") "$copy/planted.o" \
        $LIBS -o "$copy/tests.exe" || bad "$name" "does not link"
    env FP4_GPU_REDUCED=1 CRITERION_TEST_PATTERN="$tests" "$copy/tests.exe" >"$copy/log" 2>&1 &&
        bad "$name" "no test has failed"
    for message in "$@"; do
        if grep -qF -e "$message" "$copy/log"; then
            passed=$((passed + 1))
        else
            bad "$name" "nothing says \"$message\":"
            head -n 30 "$copy/log"
        fi
    done
    echo "planted: $name ($kind):"
    grep -F -m 3 -e "$1" -e "${2:-$1}" "$copy/log" | cut -c 1-400
}

columns=examples/02_quantize_colmajor.cu

plant byte_past_the_scales san $columns \
    's/first_block + b < sf_cols/first_block + b <= sf_cols/' \
    columns-bf16-nvfp4-LINEAR 'launch_columns/bf16' \
    'heap-buffer-overflow' 'simt: in kernel quantize_colmajor' 'of columns_bf16_nvfp4_LINEAR' \
    'in store_scales'
plant byte_past_the_scales track $columns \
    's/first_block + b < sf_cols/first_block + b <= sf_cols/' \
    columns-bf16-nvfp4-LINEAR 'launch_columns/bf16' \
    'with no barrier between' 'simt: in kernel quantize_colmajor' 'of columns_bf16_nvfp4_LINEAR' \
    '02_quantize_colmajor.cu:'
plant missing_barrier track $columns 's/^    fp4_ptx_barrier();//' \
    columns-f32-mxfp8-128X4 'launch_columns/f32' \
    'static shared memory, which' \
    'simt: in kernel quantize_colmajor of columns_f32_mxfp8_128X4' \
    '02_quantize_colmajor.cu:'
plant missing_barrier san $columns 's/^    fp4_ptx_barrier();//' \
    columns-f32-mxfp8-128X4 'launch_columns/f32' 'MXFP8: differ in'
plant wrong_mask san include/fp4/device/reduce.cuh \
    's/0xffffffffu, x, lanes/0x0000ffffu, x, lanes/' \
    rows-bf16-mxfp4-128X4 'launch_shapes/bf16_to_mxfp4' \
    'has mask 0000ffff, without lane 16' 'of rows_bf16_mxfp4_128X4'
plant int32_index san $columns \
    's/(x + i \* step)/(x + i * (int)step)/' \
    columns-bf16-nvfp4-8X4 'simt_large/columns*' \
    'signed integer overflow' 'simt: in kernel quantize_colmajor of columns_bf16_nvfp4_8X4'
plant unwritten_padding san $columns 's/row < fp4_sf_rows_padded(LAYOUT, a.rows)/row < a.rows/' \
    columns-e4m3-mxfp4-128X4 'launch_columns/e4m3' 'padding bytes'
plant codes_of_a_neighbour san $columns 's/= staged\[i\];/= staged[i ^ 1];/' \
    columns-f16-nvfp4-8X4 'launch_columns/f16' 'NVFP4: differ in'
plant wrong_tie san include/fp4/device/cvt.cuh \
    's|0x3bfb3bfbu|0x3bfc3bfcu|' \
    parts 'convert/all_floats_to_e2m1' 'f32x8_to_e2m1x8'

norm=examples/03_rmsnorm.cu
reduce=include/fp4/device/reduce.cuh
store=include/fp4/device/store.cuh

plant sum_without_barrier track $reduce 's/^ *fp4_ptx_barrier();//' \
    rmsnorm-f32-nvfp4-rmsnorm 'launch_norm/rmsnorm_of_f32' \
    'static shared memory, which' 'of rmsnorm_f32_nvfp4_rmsnorm' 'reduce.cuh:'
plant amax_without_barrier track $reduce 's/^ *fp4_ptx_barrier();//' \
    per_token-bf16-nvfp4 'launch_token/bf16' \
    'static shared memory, which' 'of per_token_bf16_nvfp4' 'reduce.cuh:'
plant sum_of_reversed_elements san $reduce \
    's/fp4_fma_rn(x.v\[i\], x.v\[i\], sum)/fp4_fma_rn(x.v[7 - i], x.v[7 - i], sum)/' \
    rmsnorm-f32-nvfp4-rmsnorm 'launch_norm/rmsnorm_of_f32' \
    'rmsnorm of f32 to nvfp4' '; y, row '
plant sum_of_neighbours_first san $reduce \
    '/fp4_group_sum(float/,/^}/s#width / 2; lanes > 0; lanes /= 2#1; lanes < width; lanes *= 2#' \
    rmsnorm-f32-nvfp4-rmsnorm 'launch_norm/rmsnorm_of_f32' \
    'rmsnorm of f32 to nvfp4' '; y, row '
plant unwritten_padding_rows san $norm 's/fp4_sf_rows_padded(a->layout, a->rows)/a->rows/' \
    rmsnorm-bf16-mxfp8-add_rmsnorm 'launch_norm/add_rmsnorm_of_bf16' 'padding bytes'
plant word_of_wrong_lanes san $store 's/bytes, lanes);/bytes, 2 * lanes);/' \
    silu_mul-bf16-mxfp4-silu 'launch_gated/silu_of_bf16' 'MXFP4: differ in'
plant word_of_no_piece san include/fp4/device/row.cuh 's|/ lanes % 4 < c.each|/ lanes % 4 < 4|' \
    rmsnorm-f32-nvfp4-rmsnorm 'launch_norm/rmsnorm_of_f32' 'heap-buffer-overflow'
plant word_of_wrong_pairs san $store 's/pairs, 2 \* lanes);/pairs, 4 * lanes);/' \
    per_token-f16-nvfp4 'launch_token/f16' 'NVFP4: differ in'
plant padding_over_a_row san $store 's/is_aligned \&\& row >= rows/is_aligned/' \
    parts 'memory/padding_is_zeroed*' 'of the scales of'
plant ragged_rows_as_words san examples/05_per_token.cu 's/return WHOLE \&\& (a/return 0 \&\& (a/' \
    per_token-bf16-nvfp4 'launch_token/bf16' 'simt: in kernel '
plant short_row_beside_another san $norm \
    's/blockIdx.x : blockIdx.x \* beside + threadIdx.y/blockIdx.x : blockIdx.x * beside/' \
    rmsnorm-f32-nvfp4-rmsnorm 'launch_norm/rmsnorm_of_f32' 'NVFP4: differ in'

back=examples/06_dequantize.cu
fake=examples/07_fake_quant.cu

plant rows_that_share_a_sum track $norm 's/smem + i % 2 \* 32, 32, words/smem, 32, words/' \
    rmsnorm-f32-nvfp4-rmsnorm 'launch_norm/rmsnorm_of_f32' \
    'static shared memory, which' 'simt: in kernel four_' 'reduce.cuh:'
plant rows_that_share_a_maximum track examples/05_per_token.cu \
    's/smem\[i % 2\], words/smem[0], words/' \
    per_token-bf16-nvfp4 'launch_token/bf16' \
    'static shared memory, which' 'simt: in kernel four_' 'reduce.cuh:'
plant rows_beside_of_one_maximum track examples/05_per_token.cu \
    's/smem\[i\], words/smem[0], words/' \
    per_token-bf16-nvfp4 'launch_token/bf16' \
    'static shared memory, which' 'simt: in kernel four_' 'reduce.cuh:'
plant maximum_where_the_sum_is track $norm \
    's/threads, smem, smem + smem_each);/threads, smem, smem);/' \
    rmsnorm-f32-nvfp4-rmsnorm 'launch_norm/rmsnorm_of_f32' \
    'static shared memory, which' 'simt: in kernel ' 'row.cuh:'
plant last_piece_that_nobody_lacks san include/fp4/device/row.cuh \
    's/return j < c.sure || fp4_row_piece/return j < c.sure + (c.sure != 0) || fp4_row_piece/' \
    per_token-bf16-nvfp4 'launch_token/bf16' 'heap-buffer-overflow' 'simt: in kernel four_'
plant row_beside_behind_the_last san examples/05_per_token.cu \
    's/beside == 1 || k.row < fp4_sf_rows_padded(a.layout, a.rows)/1/' \
    per_token-bf16-nvfp4 'launch_token/bf16' 'heap-buffer-overflow' 'simt: in kernel one_'
plant row_behind_the_fours san include/fp4/device/row.cuh \
    's/3 \* fours + cta/3 * fours + cta + 1/' \
    rmsnorm-bf16-mxfp4-rmsnorm 'launch_norm/rmsnorm_of_bf16' \
    'heap-buffer-overflow' 'simt: in kernel four_'
plant what_a_row_lacks_counts san examples/04_silu_mul.cu \
    's/fp4_row_has(c.cut, 0, j) ? \(.*\) : amax;/\1;/' \
    silu_mul-bf16-nvfp4-swiglu_oai 'launch_gated/swiglu_oai_values_of_bf16' \
    'token_dec, row 19'
plant teams_of_one_maximum track examples/04_silu_mul.cu \
    's/smem\[i\]\[threadIdx.y\], o/smem[i][0], o/' \
    silu_mul-bf16-nvfp4-swiglu_oai 'launch_gated/swiglu_oai_of_bf16' \
    'static shared memory, which' 'simt: in kernel token_' 'reduce.cuh:'
plant team_that_takes_its_last_maximum track examples/04_silu_mul.cu \
    's/smem\[i\]\[threadIdx.y\], o/smem[0][threadIdx.y], o/' \
    silu_mul-bf16-nvfp4-swiglu_oai 'launch_gated/swiglu_oai_of_bf16' \
    'static shared memory, which' 'simt: in kernel token_' 'reduce.cuh:'
plant four_rows_without_barrier track examples/05_per_token.cu \
    '/while (fp4_row_in_four/{n;s/fp4_ptx_barrier();//}' \
    per_token-bf16-nvfp4 'launch_token/bf16' \
    'static shared memory, which' 'simt: in kernel four_' 'row.cuh:'
plant row_past_the_codes san $back 's/(row + j \* step < a.rows ? j : 0)/j/' \
    dequantize-mxfp4-bf16 'dequantize/mxfp4' \
    'heap-buffer-overflow' 'simt: in kernel dequantize_rows of dequantize_mxfp4_bf16' 'load_codes'
plant row_past_the_end san $back 's/if (r < a.rows) {/if (r < a.rows + 1) {/' \
    dequantize-nvfp4-f16 'dequantize/nvfp4' 'heap-buffer-overflow' 'fp4_store_u32x4'
plant scale_of_another_column san $back 's/8 \* (sf_col % 4)/8 * (sf_col % 2)/' \
    dequantize-nvfp4-f32 'dequantize/nvfp4' 'NVFP4 128x4'
plant scale_of_the_first_row san $back 's/j > 0 && a.global.row_step != 0/j > 4/' \
    dequantize-nvfp4_32-bf16 'dequantize/nvfp4_32' 'NVFP4_32' 'global all'
plant other_association san $back 's/w.scales_first ? fp4_mul_rn/!w.scales_first ? fp4_mul_rn/' \
    dequantize-nvfp4-f32 'dequantize_blocks/to_f32' 'scales first'
plant second_block_left_out san $back 's/i < p.left ? factor : others/factor/' \
    dequantize-nvfp4-bf16 'dequantize_blocks/of_any_global' 'codes to bf16, blocks of 12'
plant dec_of_any_size san $back 's/fp4_ptx_abs(w.dec) < 0x1p+114f/1/' \
    dequantize-nvfp4-f32 'dequantize_blocks/of_any_global' 'blocks of 16, scales e4m3, code first'
plant block_one_late san $back 's/left == i \&\& i < here/left == i + 1 \&\& i < here/' \
    dequantize-mxfp8-bf16 'dequantize_blocks/to_bf16' 'heap-buffer-overflow' 'in blocks_scale_bits'
plant long_blocks_not_cut san $back \
    's/(behind < c.block ? (uint32_t)behind : c.block)/(uint32_t)behind/' \
    dequantize-nvfp4-bf16 'dequantize_blocks/to_bf16' 'SEGV on unknown address' 'dequantize_any of'
plant codes_past_the_end san $back 's/2 \* i < here/2 * i <= here/' \
    dequantize-mxfp8-f16 'dequantize_blocks/to_f16' 'heap-buffer-overflow' 'load_some_codes'
plant amax_of_the_first_block san $fake 's/ \* g.blocks + amax_col/ * g.blocks/' \
    fake-bf16-f32-mxfp4 'fake/mxfp4' 'mxfp4 of bf16 to f32' 'static'
plant quads_too_many san $fake \
    's/r < a.rows \&\& four < pieces ? pieces - four : 0/r < a.rows ? 4 : 0/' \
    fake-f32-f32-nvfp4 'fake/nvfp4' 'heap-buffer-overflow' 'fp4_store_u32x16_by_four'
plant number_of_another_row san $fake 's/if (a.global_rows != 0) {/if (a.global_rows > 1) {/' \
    fake-f16-f16-modelopt 'fake/modelopt*' 'modelopt of f16 to f16'
plant clipped_at_six san include/fp4/device/modelopt.cuh \
    's/(q.v\[i\]) > FP4_E2M1_MAX/(q.v[i]) >= FP4_E2M1_MAX/' \
    fake-bf16-bf16-modelopt 'fake/clipped_bits' 'modelopt of bf16 to bf16, byte 0 of bits'
plant every_divisor_is_moderate san include/fp4/device/modelopt.cuh \
    's/fp4_is_moderate_(divisor)/1/' \
    fake-f32-f32-modelopt 'fake/modelopt_divisors*' 'modelopt of f32 to f32' 'static'
plant lanes_of_one_piece san $fake 's/is_long ? (int)(a.block \/ 16) : LANES/LANES/' \
    fake-f32-f32-modelopt 'fake/modelopt_with_long_blocks*' 'modelopt of f32 to f32' 'dynamic'
plant zero_for_nothing_but_nan san $fake 's/fp4_amax_of_numbers_x16/fp4_amax_x16/' \
    fake-bf16-bf16-modelopt 'fake/modelopt_blocks_of_nothing*' 'modelopt of bf16 to bf16' 'dynamic'
plant every_number_is_moderate san include/fp4/device/quant.cuh \
    's/if (!fp4_is_moderate_(global_enc)) {/if (0) {/' \
    fake-f16-bf16-nvfp4_32 'fake/scales_at_the_ends_of_their_range' 'nvfp4_32 of f16' 'static'
plant in_place_of_another_stride san $fake 's/|| a->x_stride != a->y_stride)/)/' \
    fake-bf16-bf16-modelopt 'fake_errors/in_place' 'in place, of another stride: modelopt'
plant in_place_of_another_size san $fake 's/(int)ELEMENT != (int)OUT_ELEMENT/0/' \
    fake-bf16-f32-mxfp4 'fake_errors/in_place' 'in place, of another size: mxfp4 of bf16 to f32'

modelopt=include/fp4/device/modelopt.cuh
tensors=examples/15_modelopt.cu

plant ties_to_even san include/fp4/device/cvt.cuh 's/FP4_E2M1_BELOW_, 1)/FP4_E2M1_MOVED_, 0)/' \
    parts 'blocks/modelopt_tensors_next_to_boundaries' 'byte '
plant nan_of_any_sign san $modelopt \
    's/fp4_ptx_max(fp4_ptx_min(x.v\[i\], most), -most)/fp4_ptx_max(x.v[i], -most)/' \
    parts 'blocks/modelopt_tensors_next_to_boundaries' 'byte '
plant nothing_is_clipped san $modelopt 's/if (!(amax <= most)) {/if (fp4_is_nan(amax)) {/' \
    parts 'blocks/modelopt_tensors_at_the_ends_of_their_range' 'byte '
plant nothing_is_tiny san $modelopt 's/care |= fp4_modelopt_has_tiny_(x)/care |= 0/' \
    parts 'blocks/modelopt_tensors_at_the_ends_of_their_range' 'byte '
plant zero_with_a_sign san $modelopt \
    's/+ 0x77777777u) | 0x77777777u/+ 0x77777777u) | 0xffffffffu/' \
    parts 'blocks/modelopt_tensors_back' 'modelopt_dequantize_x8'
plant amax_of_the_first_block_of_all san $tensors 's/block_amax\[block\]/block_amax[0]/' \
    modelopt-bf16-nvfp4 'tensors/nvfp4' 'nvfp4 of bf16' 'static'
plant scales_without_padding san $tensors 's/row < rows_padded/row < a.rows/' \
    modelopt-f16-mxfp8 'tensors/mxfp8' 'mxfp8 of f16'
plant words_of_other_rows san $tensors 's/row = first + lane \* step/row = first + lane/' \
    modelopt-bf16-mxfp4 'tensors/mxfp4' 'mxfp4 of bf16'

mma=include/fp4/device/mma.cuh
plant scale_of_another_lane san $mma 's/% 8 \* 4 + b/% 8 * 4 + (b ^ 1)/' \
    parts 'blocks/nvfp4' 'nvfp4_quantize_quad' 'code byte'
plant words_of_another_block san $mma 's/is_upper ? second : first/is_upper ? first : second/' \
    parts 'blocks/mxfp8' 'mxfp8_quantize_quad' 'code byte'
plant scale_with_a_sign san include/fp4/device/quant.cuh 's/fp4_ptx_abs(mul), scaled/mul, scaled/' \
    parts 'blocks/nvfp4_scaled' 'nvfp4_quantize_scaled' 'scale byte'
plant factor_without_its_sign san include/fp4/device/format.cuh \
    's/if (scaled \&\& (fp4_f32_bits(mul) >> 31) != 0)/if (0)/' \
    parts 'blocks/nvfp4_32_scaled' 'quantize_scaled_x16 to nvfp4_32' 'code byte'

amax=examples/08_amax.cu

plant workspace_not_reset san $reduce \
    's/fp4_ptx_atomic_exchange(&workspace\[0\], 0)/workspace[0]/' \
    amax-bf16 'amax/each_output_alone' 'bf16, 37 x 96'
plant the_last_ones_own_amax san $reduce \
    's/= fp4_bits_f32(fp4_ptx_atomic_exchange(&workspace\[0\], 0));/= x;/' \
    amax-f32 'amax/one_element_anywhere' 'f32, '
plant row_left_out san $amax 's/r < a.rows ? fp4_amax_x16/r + 1 < a.rows ? fp4_amax_x16/' \
    amax-f16 'amax/one_element_anywhere' 'f16, '
plant row_past_the_last san $amax 's/row < a.rows ? ONE(/row <= a.rows ? ONE(/' \
    amax-bf16 'amax/tensors_of_odd_sizes' 'heap-buffer-overflow' \
    'simt: in kernel amax_elements of amax_bf16'
plant column_past_the_last san $amax 's/col >= a.cols - right/col > a.cols - right/' \
    amax-f32 'amax/tensors_of_odd_sizes' 'heap-buffer-overflow' \
    'simt: in kernel amax_elements of amax_f32'

gemv=examples/09_gemv.cu

plant digits_without_barrier track $gemv 's/^    fp4_ptx_barrier();$//' \
    gemv-f32-nvfp4-f32 'gemv/nvfp4' \
    'static shared memory, which' 'simt: in kernel gemv_rows of gemv_f32_nvfp4_f32' '09_gemv.cu:'
plant digit_without_sign san $gemv 's/fp4_ptx_dot_u8s8/fp4_ptx_dot_u8u8/g' \
    gemv-f32-nvfp4-f32 'gemv/nvfp4' 'nvfp4 times f32 to f32' '; element '

experts=examples/10_experts.cu

plant count_not_bounded san $experts \
    's/= fp4_experts_bounded(count, t.rows);/= (uint32_t)count;/' \
    experts-f32-nvfp4-none 'experts/masked_by_anything' 'of experts_f32_nvfp4_none'
plant source_past_the_last san $experts 's/source >= t.x_rows/source > t.x_rows/' \
    experts-bf16-mxfp8-none 'experts/packed_by_anything' 'heap-buffer-overflow' \
    'simt: in kernel gathered_'
plant scales_past_the_end san $experts \
    's/at.has_sf = t.is_masked || at.band < t.bands;/at.has_sf = 1;/' \
    experts-f16-mxfp4-none 'experts/packed*' 'heap-buffer-overflow'
plant padding_not_written san $experts 's/if (at.has_sf \&\& !t.leaves) {/if (0) {/' \
    experts-f32-nvfp4-none 'experts/packed' 'scales of f32 to nvfp4, none'
plant scales_staged_without_barrier track $experts 's/^    fp4_ptx_barrier();$//' \
    experts-f16-mxfp4-none 'experts/masked' 'static shared memory, which' \
    'of experts_f16_mxfp4_none'
plant scales_staged_in_one_place track $experts 's/staged\[now\]/staged[0]/' \
    experts-f16-mxfp4-none 'experts/*' 'static shared memory, which' 'with no barrier between'

plant sources_in_one_place track $experts 's/&sources\[1 - now\]/\&sources[now]/' \
    experts-bf16-mxfp8-none 'experts/packed*' 'static shared memory, which' \
    'of experts_bf16_mxfp8_none'

append=examples/13_kv_append.cu

plant angles_of_another_position san $append \
    's/load_angles(w, r, (uint32_t)told.position)/load_angles(w, r, 0)/' \
    kv_append-bf16 'kv_append/bf16' 'bf16, ' 'order 1'
plant next_head_not_waited_for san $append 's/^            fp4_ptx_copies_wait();$//' \
    kv_append-f16 'kv_append/f16' 'copies to shared memory under way' 'simt: in kernel append_'

packbits=examples/14_packbits.cu

plant window_without_barrier track $packbits 's/^        fp4_ptx_warp_barrier();$//' \
    packbits-all 'packbits/segments_of_any_lengths' 'static shared memory, which' \
    'simt: in kernel pack_segments of packbits_all'
plant copies_not_waited_for san $packbits 's/^    fp4_ptx_copies_wait();//' \
    packbits-all 'packbits/segments_of_any_lengths' 'copies to shared memory under way' \
    'simt: in kernel pack_segments of packbits_all'
plant words_not_put_back san $packbits 's/fp4_ptx_store_relaxed_u64(&words\[i\], 0);/;/' \
    packbits-all 'packbits/segments_many_in_a_row' ': the workspace'
plant segment_past_the_end san $packbits 's/i < end ? i : end\]/i]/' \
    packbits-all 'packbits/segments_of_any_lengths' 'heap-buffer-overflow' \
    'simt: in kernel pack_segments of packbits_all'

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
