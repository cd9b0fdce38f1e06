/*
 * tests/gpu/test_shuffle.c - the launchers of 11_shuffle against the host reference: scales of one
 * and two bytes from linear to tiled and back, rows, whole tensors, batches, any alignment of what
 * is linear; what is refused; and between other kernels.
 */
#include <fp4/host/shuffle.h>

#include "bytes.h"

static cudaError_t call_interleave(const void *args, int pdl, cudaStream_t stream)
{
    return launch_interleave((const launch_interleave_args *)args, pdl, stream);
}

static cudaError_t call_shuffle(const void *args, int pdl, cudaStream_t stream)
{
    return launch_shuffle((const launch_shuffle_args *)args, pdl, stream);
}

static cudaError_t call_tensor(const void *args, int pdl, cudaStream_t stream)
{
    return launch_shuffle_tensor((const launch_shuffle_tensor_args *)args, pdl, stream);
}

/* ---------------------------------------------------------------- scales */

static const char *const layout_names[] = {"128x4", "8x4"};

/* Without pointers; shift: of the linear side, in bytes. */
static launch_interleave_args scales_of(fp4_layout layout, size_t element, size_t batches,
                                        size_t rows, size_t sf_cols)
{
    launch_interleave_args a;

    memset(&a, 0, sizeof a);
    a.layout = (int)layout;
    a.element = element;
    a.batches = batches;
    a.rows = rows;
    a.sf_cols = sf_cols;
    return a;
}

static size_t linear_bytes(const launch_interleave_args *a)
{
    return a->batches * a->rows * a->sf_cols * a->element;
}

static size_t tiled_bytes(const launch_interleave_args *a)
{
    return a->batches * host_sf_bytes((fp4_layout)a->layout, a->rows, a->sf_cols) * a->element;
}

/* What the host makes of it. */
static uint8_t *scales_expected(const launch_interleave_args *a, const uint8_t *in)
{
    const size_t from = a->reverse ? tiled_bytes(a) : linear_bytes(a);
    const size_t to = a->reverse ? linear_bytes(a) : tiled_bytes(a);
    const fp4_layout layout = (fp4_layout)a->layout;
    uint8_t *out = (uint8_t *)host_zeros(to);
    fp4_status status;

    if (a->epilogue_tile_m == 0) {
        status = a->reverse ? fp4_ref_sf_unswizzle(layout, in, from, out, to, a->element,
                                                   a->batches, a->rows, a->sf_cols)
                            : fp4_ref_sf_swizzle(layout, in, from, out, to, a->element, a->batches,
                                                 a->rows, a->sf_cols);
    } else {
        status = a->reverse ? fp4_ref_unshuffle_sf(in, from, out, to, a->element, a->batches,
                                                   a->rows, a->sf_cols, a->epilogue_tile_m)
                            : fp4_ref_shuffle_sf(in, from, out, to, a->element, a->batches, a->rows,
                                                 a->sf_cols, a->epilogue_tile_m);
    }
    cr_assert(status == FP4_OK);
    return out;
}

static bytes_call scales_call(launch_interleave_args *a, const uint8_t *in, size_t shift)
{
    bytes_call call;

    memset(&call, 0, sizeof call);
    snprintf(call.text, sizeof call.text,
             "%zu x %zu x %zu scales of %zu, %s, tile %zu, reverse %d, shift %zu", a->batches,
             a->rows, a->sf_cols, a->element, layout_names[a->layout], a->epilogue_tile_m,
             a->reverse, shift);
    a->in = bytes_in(&call, 0, in, a->reverse ? tiled_bytes(a) : linear_bytes(a),
                     a->reverse ? 0 : shift);
    a->out =
        bytes_out(&call, 0, a->reverse ? linear_bytes(a) : tiled_bytes(a), a->reverse ? shift : 0);
    call.launch = call_interleave;
    call.args = a;
    return call;
}

static void run_scales(launch_interleave_args a, size_t shift, int pdl, uint64_t *state)
{
    uint8_t *in = bytes_random(a.reverse ? tiled_bytes(&a) : linear_bytes(&a), state);
    uint8_t *out = scales_expected(&a, in);
    const void *const ins[GPU_COPIES] = {in}, *const outs[GPU_COPIES] = {out};
    bytes_call call = scales_call(&a, in, shift);

    bytes_run(&call, ins, outs, pdl);
    bytes_free(&call);
    free(in);
    free(out);
}

/* Half of the time nothing is misaligned. */
static void run_scales_drawn(fp4_layout layout, size_t element, size_t rows, size_t cols,
                             uint64_t *state)
{
    const size_t batches = 1 + host_below(state, 3);
    launch_interleave_args a = scales_of(layout, element, batches, rows, cols);
    const size_t shift = host_below(state, 2) ? 0 : host_below(state, 19);

    a.reverse = (int)host_below(state, 2);
    if (layout == FP4_LAYOUT_128X4 && host_below(state, 2) != 0) {
        const size_t tile = host_below(state, 2) ? 128 : 64;
        a.rows = fp4_round_up_(rows, fp4_shuffle_block(tile));
        a.epilogue_tile_m = tile;
    }
    run_scales(a, shift, (int)host_below(state, 2), state);
}

static const size_t all_rows[] = {1, 2, 5, 8, 9, 31, 32, 33, 127, 128, 129, 300, 1000};
static const size_t few_rows[] = {1, 9, 33, 129};
static const size_t all_cols[] = {1,  2,  3,  4,  5,  7,  8,   15,  16,
                                  17, 24, 32, 48, 64, 90, 128, 129, 180};
static const size_t few_cols[] = {1, 4, 7, 8, 16, 18, 24, 72, 144};

static void run_layout(fp4_layout layout)
{
    const int few = gpu_is_reduced();
    const size_t row_count =
        few ? sizeof few_rows / sizeof(size_t) : sizeof all_rows / sizeof(size_t);
    const size_t col_count =
        few ? sizeof few_cols / sizeof(size_t) : sizeof all_cols / sizeof(size_t);
    uint64_t state = 1100 + (uint64_t)layout;

    for (size_t i = 0; i < row_count * col_count; i++) {
        const size_t rows = (few ? few_rows : all_rows)[i / col_count];
        const size_t cols = (few ? few_cols : all_cols)[i % col_count];
        for (size_t turn = 0; turn < (few ? 2 : 8); turn++) {
            run_scales_drawn(layout, 1 + turn % 2, rows, cols, &state);
        }
    }
}

GPU_TEST(shuffle, scales_128x4)
{
    run_layout(FP4_LAYOUT_128X4);
}

GPU_TEST(shuffle, scales_8x4)
{
    run_layout(FP4_LAYOUT_8X4);
}

/* There and back, and shuffled there and back, where all ways of a kernel are taken. */
GPU_TEST(shuffle, scales_each_way)
{
    static const size_t cols[] = {64, 20, 22, 13};
    uint64_t state = 1110;

    for (size_t i = 0; i < 2 * 2 * 2 * 3 * 4; i++) {
        launch_interleave_args a = scales_of(i / 4 % 2 ? FP4_LAYOUT_8X4 : FP4_LAYOUT_128X4,
                                             1 + i / 8 % 2, 2, 160, cols[i % 4]);
        a.reverse = (int)(i / 16 % 2);
        a.epilogue_tile_m = i / 32 == 0 || a.layout != FP4_LAYOUT_128X4 ? 0 : i / 32 * 64;
        run_scales(a, 0, 0, &state);
        run_scales(a, 2, 1, &state);
    }
}

/* ---------------------------------------------------------------- rows */

static launch_shuffle_args rows_of(size_t batches, size_t rows, size_t row_bytes, size_t tile,
                                   int reverse)
{
    launch_shuffle_args a;

    memset(&a, 0, sizeof a);
    a.batches = batches;
    a.rows = rows;
    a.row_bytes = row_bytes;
    a.epilogue_tile_m = tile;
    a.reverse = reverse;
    return a;
}

static uint8_t *rows_expected(const launch_shuffle_args *a, const uint8_t *in)
{
    const size_t bytes = a->batches * a->rows * a->row_bytes;
    uint8_t *out = (uint8_t *)host_zeros(bytes);
    const fp4_status status =
        a->reverse ? fp4_ref_unshuffle_rows(in, bytes, out, bytes, a->batches, a->rows,
                                            a->row_bytes, a->epilogue_tile_m)
                   : fp4_ref_shuffle_rows(in, bytes, out, bytes, a->batches, a->rows, a->row_bytes,
                                          a->epilogue_tile_m);

    cr_assert(status == FP4_OK);
    return out;
}

static bytes_call rows_call(launch_shuffle_args *a, const uint8_t *in, size_t in_shift,
                            size_t out_shift)
{
    const size_t bytes = a->batches * a->rows * a->row_bytes;
    bytes_call call;

    memset(&call, 0, sizeof call);
    snprintf(call.text, sizeof call.text,
             "%zu x %zu rows of %zu bytes, tile %zu, reverse %d, shifts %zu, %zu", a->batches,
             a->rows, a->row_bytes, a->epilogue_tile_m, a->reverse, in_shift, out_shift);
    a->in = bytes_in(&call, 0, in, bytes, in_shift);
    a->out = bytes_out(&call, 0, bytes, out_shift);
    call.launch = call_shuffle;
    call.args = a;
    return call;
}

static void run_rows(launch_shuffle_args a, size_t in_shift, size_t out_shift, int pdl,
                     uint64_t *state)
{
    uint8_t *in = bytes_random(a.batches * a.rows * a.row_bytes, state);
    uint8_t *out = rows_expected(&a, in);
    const void *const ins[GPU_COPIES] = {in}, *const outs[GPU_COPIES] = {out};
    bytes_call call = rows_call(&a, in, in_shift, out_shift);

    bytes_run(&call, ins, outs, pdl);
    bytes_free(&call);
    free(in);
    free(out);
}

GPU_TEST(shuffle, rows)
{
    static const size_t lengths[] = {1,  2,  3,  4,   7,   8,    15,   16,
                                     17, 32, 48, 100, 256, 1000, 4096, 4112};
    static const size_t tiles[] = {16, 64, 128, 192, 256};
    const size_t most = gpu_is_reduced() ? 3 : 40;
    uint64_t state = 1120;

    for (size_t i = 0; i < 16 * 5; i++) {
        const size_t tile = tiles[i % 5], batches = 1 + host_below(&state, 3);
        const size_t rows = fp4_shuffle_block(tile) * (1 + host_below(&state, (uint32_t)most));
        for (int turn = 0; turn < 4; turn++) {
            run_rows(rows_of(batches, rows, lengths[i / 5], tile, turn % 2),
                     turn < 2 ? 0 : host_below(&state, 17), turn < 2 ? 0 : host_below(&state, 17),
                     turn / 2, &state);
        }
    }
}

/* ---------------------------------------------------------------- tensors */

/* Arguments, and what the inputs and outputs of one call are, one round behind the other. */
typedef struct tensor_case {
    launch_shuffle_tensor_args args;
    size_t in_bytes[GPU_COPIES], out_bytes[GPU_COPIES];
    uint8_t *in[GPU_COPIES], *out[GPU_COPIES];
} tensor_case;

static tensor_case tensor_case_new(size_t batches, size_t rows, size_t cols, size_t tile,
                                   int has_row_dec, size_t rounds, uint64_t *state)
{
    tensor_case t;

    memset(&t, 0, sizeof t);
    t.args.batches = batches;
    t.args.rows = rows;
    t.args.q_row_bytes = cols / 2;
    t.args.sf_cols = cols / 16;
    t.args.epilogue_tile_m = tile;
    t.in_bytes[0] = t.out_bytes[0] = batches * rows * cols / 2;
    t.in_bytes[1] = batches * rows * (cols / 16);
    t.out_bytes[1] = batches * host_sf_bytes(FP4_LAYOUT_128X4, rows, cols / 16);
    t.in_bytes[2] = t.out_bytes[2] = has_row_dec ? batches * rows * sizeof(float) : 0;
    for (int i = 0; i < GPU_COPIES; i++) {
        t.in[i] = bytes_random(rounds * t.in_bytes[i], state);
        t.out[i] = (uint8_t *)host_zeros(rounds * t.out_bytes[i]);
    }
    for (size_t one = 0; one < rounds * batches; one++) { /* each matrix by the host's function */
        const size_t q = rows * cols / 2, sf = rows * (cols / 16), dec = rows * sizeof(float);
        const size_t tiled = t.out_bytes[1] / batches;
        fp4_tensor from = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_LINEAR, rows, cols,
                                          t.in[0] + one * q, q, t.in[1] + one * sf, sf);
        fp4_tensor to = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_128X4, rows, cols, t.out[0] + one * q,
                                        q, t.out[1] + one * tiled, tiled);
        if (has_row_dec) {
            from.row_dec = (float *)(void *)(t.in[2] + one * dec);
            to.row_dec = (float *)(void *)(t.out[2] + one * dec);
            from.row_dec_bytes = to.row_dec_bytes = dec;
        }
        cr_assert(fp4_ref_shuffle(&from, tile, &to) == FP4_OK);
    }
    return t;
}

static bytes_call tensor_call(tensor_case *t, size_t shift)
{
    launch_shuffle_tensor_args *a = &t->args;
    bytes_call call;

    memset(&call, 0, sizeof call);
    snprintf(call.text, sizeof call.text, "%zu x %zu x %zu NVFP4, tile %zu, shift %zu", a->batches,
             a->rows, a->sf_cols * 16, a->epilogue_tile_m, shift);
    a->q = (const uint8_t *)bytes_in(&call, 0, t->in[0], t->in_bytes[0], shift);
    a->sf = (const uint8_t *)bytes_in(&call, 1, t->in[1], t->in_bytes[1], shift);
    a->q_out = (uint8_t *)bytes_out(&call, 0, t->out_bytes[0], shift);
    a->sf_out = (uint8_t *)bytes_out(&call, 1, t->out_bytes[1], 0);
    if (t->in_bytes[2] != 0) {
        a->row_dec = (const float *)bytes_in(&call, 2, t->in[2], t->in_bytes[2], 4);
        a->row_dec_out = (float *)bytes_out(&call, 2, t->out_bytes[2], 8);
    }
    call.launch = call_tensor;
    call.args = a;
    return call;
}

static void tensor_case_free(tensor_case *t)
{
    for (int i = 0; i < GPU_COPIES; i++) {
        free(t->in[i]);
        free(t->out[i]);
    }
}

GPU_TEST(shuffle, tensors)
{
    static const size_t shapes[][2] = {{128, 256}, {256, 1056}, {32, 16}, {160, 48}, {384, 2048}};
    uint64_t state = 1130;

    for (size_t i = 0; i < 5 * 2 * 2 * 2; i++) {
        const size_t *s = shapes[i % 5], batches = 1 + i / 5 % 2 * 2;
        tensor_case t =
            tensor_case_new(batches, s[0], s[1], i / 10 % 2 ? 64 : 128, (int)(i / 20), 1, &state);
        const void *const in[GPU_COPIES] = {t.in[0], t.in[1], t.in[2]};
        const void *const out[GPU_COPIES] = {t.out[0], t.out[1], t.out[2]};
        bytes_call call = tensor_call(&t, i % 3);
        bytes_run(&call, in, out, (int)(i % 2));
        bytes_free(&call);
        tensor_case_free(&t);
    }
}

/* ---------------------------------------------------------------- between other kernels */

/* Scales by each kernel, in all rounds. */
static void run_scales_rounds(launch_interleave_args a, uint64_t *state)
{
    launch_interleave_args all = a;
    const void *ins[GPU_COPIES] = {NULL}, *outs[GPU_COPIES] = {NULL};
    uint8_t *in, *out;
    bytes_call call;

    all.batches *= BYTES_ROUNDS;
    in = bytes_random(a.reverse ? tiled_bytes(&all) : linear_bytes(&all), state);
    out = scales_expected(&all, in);
    call = scales_call(&a, in, 0);
    ins[0] = in;
    outs[0] = out;
    bytes_chain(&call, ins, outs);
    bytes_graph(&call, ins, outs, a.reverse);
    bytes_free(&call);
    free(in);
    free(out);
}

Test(shuffle, scales_between_other_kernels, .init = gpu_begin, .timeout = 300)
{
    static const size_t cols[] = {64, 18};
    uint64_t state = 1140;

    for (size_t i = 0; i < 2 * 2 * 2; i++) {
        launch_interleave_args a = scales_of(FP4_LAYOUT_128X4, 1 + i / 2 % 2, 2, 130, cols[i % 2]);
        a.reverse = (int)(i / 4);
        run_scales_rounds(a, &state);
    }
}

Test(shuffle, rows_and_tensors_between_other_kernels, .init = gpu_begin, .timeout = 300)
{
    uint64_t state = 1150;

    for (int i = 0; i < 2; i++) {
        launch_shuffle_args a = rows_of(3, 64, i == 0 ? 256 : 50, 128, i), all = a;
        const void *ins[GPU_COPIES] = {NULL}, *outs[GPU_COPIES] = {NULL};
        uint8_t *in, *out;
        bytes_call call;
        all.batches *= BYTES_ROUNDS;
        in = bytes_random(all.batches * all.rows * all.row_bytes, &state);
        out = rows_expected(&all, in);
        call = rows_call(&a, in, 0, 0);
        ins[0] = in;
        outs[0] = out;
        bytes_chain(&call, ins, outs);
        bytes_graph(&call, ins, outs, i);
        bytes_free(&call);
        free(in);
        free(out);
    }
    for (int i = 0; i < 2; i++) {
        tensor_case t = tensor_case_new(2, 128, i == 0 ? 256 : 96, 128, i, BYTES_ROUNDS, &state);
        const void *const in[GPU_COPIES] = {t.in[0], t.in[1], t.in[2]};
        const void *const out[GPU_COPIES] = {t.out[0], t.out[1], t.out[2]};
        bytes_call call = tensor_call(&t, 0);
        bytes_chain(&call, in, out);
        bytes_graph(&call, in, out, i);
        bytes_free(&call);
        tensor_case_free(&t);
    }
}

/* ---------------------------------------------------------------- what is refused */

#define EXPECT(type, call, error, launches, what, change) \
    do { \
        type args = *(const type *)(call).args; \
        change; \
        bytes_expect_call(&(call), &args, error, launches, what); \
    } while (0)
#define REFUSED(type, call, what, change) EXPECT(type, call, cudaErrorInvalidValue, 0, what, change)
#define ACCEPTED(type, call, what, change) EXPECT(type, call, cudaSuccess, 1, what, change)
#define NOTHING(type, call, what, change) EXPECT(type, call, cudaSuccess, 0, what, change)

/* Outputs as they were before. */
static void expect_unwritten(const bytes_call *call)
{
    gpu_finish(call->text);
    for (int i = 0; i < GPU_COPIES; i++) {
        if (call->out[i].memory != NULL) {
            uint8_t *poison = (uint8_t *)host_zeros(call->out[i].size);
            memset(poison, 0x7f, call->out[i].size);
            bytes_expect(call->out[i], poison, call->text);
            free(poison);
        }
    }
}

static void poison_outputs(const bytes_call *call)
{
    for (int i = 0; i < GPU_COPIES; i++) {
        if (call->out[i].memory != NULL) {
            gpu_poison(call->out[i], 0x7f);
        }
    }
}

#define SCALES_REFUSED(what, change) REFUSED(launch_interleave_args, call, what, change)
#define SCALES_ACCEPTED(what, change) ACCEPTED(launch_interleave_args, call, what, change)
#define SCALES_NOTHING(what, change) NOTHING(launch_interleave_args, call, what, change)

GPU_TEST(shuffle_errors, scales)
{
    for (int reverse = 0; reverse < 2; reverse++) {
        launch_interleave_args a = scales_of(FP4_LAYOUT_128X4, 1, 2, 64, 32);
        uint8_t *in = (uint8_t *)host_zeros(tiled_bytes(&a));
        bytes_call call;
        a.reverse = reverse;
        call = scales_call(&a, in, 0);
        poison_outputs(&call);
        SCALES_ACCEPTED("as it is", (void)args);
        SCALES_REFUSED("no input", args.in = NULL);
        SCALES_REFUSED("no output", args.out = NULL);
        SCALES_REFUSED("no element", args.element = 0);
        SCALES_REFUSED("elements of 3 bytes", args.element = 3);
        SCALES_REFUSED("elements of 4 bytes", args.element = 4);
        SCALES_REFUSED("linear", args.layout = FP4_LAYOUT_LINEAR);
        SCALES_REFUSED("an unknown layout", args.layout = 3);
        SCALES_REFUSED("shuffled 8x4", args.layout = FP4_LAYOUT_8X4; args.epilogue_tile_m = 64);
        SCALES_REFUSED("no whole shuffle blocks of 16", args.rows = 40; args.epilogue_tile_m = 64);
        SCALES_REFUSED("no whole shuffle blocks of 32", args.rows = 48; args.epilogue_tile_m = 128);
        SCALES_ACCEPTED("shuffle blocks of 16", args.rows = 48; args.epilogue_tile_m = 64);
        SCALES_REFUSED("too many rows", args.rows = 0xffffffffu);
        SCALES_REFUSED("rows without end", args.rows = (size_t)-1);
        SCALES_REFUSED("columns without end", args.sf_cols = (size_t)-1);
        SCALES_REFUSED("too many columns", args.sf_cols = 0xffffffffu);
        SCALES_REFUSED("batches without end", args.batches = (size_t)-1);
        SCALES_REFUSED("too many matrices", args.batches = (size_t)1 << 30);
        for (size_t off = 1; off < 16; off++) {
            SCALES_REFUSED("tiled, misaligned",
                           if (reverse) args.in = (const uint8_t *)args.in + off;
                           else args.out = (uint8_t *)args.out + off);
        }
        SCALES_ACCEPTED("linear, misaligned", if (reverse) args.out = (uint8_t *)args.out + 1;
                        else args.in = (const uint8_t *)args.in + 1);
        SCALES_NOTHING("no matrices", args.batches = 0; args.in = NULL);
        SCALES_NOTHING("no rows", args.rows = 0; args.out = NULL);
        SCALES_NOTHING("no columns", args.sf_cols = 0; args.element = 9);
        expect_unwritten(&call);
        bytes_free(&call);
        free(in);
    }
}

#define ROWS_REFUSED(what, change) REFUSED(launch_shuffle_args, call, what, change)
#define ROWS_ACCEPTED(what, change) ACCEPTED(launch_shuffle_args, call, what, change)
#define ROWS_NOTHING(what, change) NOTHING(launch_shuffle_args, call, what, change)

GPU_TEST(shuffle_errors, rows)
{
    launch_shuffle_args a = rows_of(2, 64, 48, 128, 0);
    uint8_t *in = (uint8_t *)host_zeros(2 * 64 * 48);
    bytes_call call = rows_call(&a, in, 0, 0);

    poison_outputs(&call);
    ROWS_ACCEPTED("as it is", (void)args);
    ROWS_REFUSED("no input", args.in = NULL);
    ROWS_REFUSED("no output", args.out = NULL);
    ROWS_REFUSED("no tile", args.epilogue_tile_m = 0);
    ROWS_REFUSED("no whole shuffle blocks of 32", args.rows = 48);
    ROWS_REFUSED("no whole shuffle blocks of 16", args.rows = 40; args.epilogue_tile_m = 64);
    ROWS_ACCEPTED("shuffle blocks of 16", args.rows = 48; args.epilogue_tile_m = 64);
    ROWS_REFUSED("rows without end", args.rows = (size_t)0 - 32);
    ROWS_REFUSED("bytes without end", args.row_bytes = (size_t)-1);
    ROWS_REFUSED("batches without end", args.batches = (size_t)-1);
    ROWS_REFUSED("more than a grid has", args.rows = (size_t)1 << 50);
    ROWS_NOTHING("no matrices", args.batches = 0; args.in = NULL);
    ROWS_NOTHING("no rows", args.rows = 0; args.out = NULL);
    ROWS_NOTHING("no bytes", args.row_bytes = 0; args.epilogue_tile_m = 0);
    expect_unwritten(&call);
    bytes_free(&call);
    free(in);
}

#define TENSOR_REFUSED(what, change) REFUSED(launch_shuffle_tensor_args, call, what, change)
#define TENSOR_ACCEPTED(what, change) ACCEPTED(launch_shuffle_tensor_args, call, what, change)
#define TENSOR_NOTHING(what, change) NOTHING(launch_shuffle_tensor_args, call, what, change)

GPU_TEST(shuffle_errors, tensors)
{
    uint64_t state = 1160;
    tensor_case t = tensor_case_new(2, 64, 64, 128, 1, 1, &state);
    bytes_call call = tensor_call(&t, 0);

    poison_outputs(&call);
    TENSOR_ACCEPTED("as it is", (void)args);
    TENSOR_REFUSED("no q", args.q = NULL);
    TENSOR_REFUSED("no sf", args.sf = NULL);
    TENSOR_REFUSED("no q_out", args.q_out = NULL);
    TENSOR_REFUSED("no sf_out", args.sf_out = NULL);
    TENSOR_REFUSED("no row_dec_out", args.row_dec_out = NULL);
    TENSOR_ACCEPTED("no row_dec", args.row_dec = NULL; args.row_dec_out = NULL);
    TENSOR_REFUSED("no tile", args.epilogue_tile_m = 0);
    TENSOR_REFUSED("no whole shuffle blocks", args.rows = 48);
    TENSOR_REFUSED("sf_out misaligned", args.sf_out += 4);
    TENSOR_REFUSED("no scales", args.sf_cols = 0);
    TENSOR_REFUSED("no codes", args.q_row_bytes = 0);
    TENSOR_REFUSED("codes without end", args.q_row_bytes = (size_t)-1);
    TENSOR_REFUSED("batches without end", args.batches = (size_t)-1);
    TENSOR_NOTHING("no matrices", args.batches = 0; args.q = NULL);
    TENSOR_NOTHING("no rows", args.rows = 0; args.sf = NULL);
    TENSOR_NOTHING("no columns", args.q_row_bytes = args.sf_cols = 0; args.epilogue_tile_m = 0);
    expect_unwritten(&call);
    bytes_free(&call);
    tensor_case_free(&t);
}
