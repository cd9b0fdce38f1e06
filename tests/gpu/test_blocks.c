/*
 * tests/gpu/test_blocks.c - every function that quantizes or dequantizes a block, in every way it
 * can be compiled, against the scalar rules on the host.
 */
#include <fp4/host/modelopt.h>
#include <fp4/host/quant.h>

#include "paths.h"
#include "values.h"

#include <float.h>

/* ---------------------------------------------------------------- the functions */

typedef struct quantizer {
    parts_quantizer how;
    fp4_format format;
    size_t lanes;
    int is_scaled;
    const char *name;
} quantizer;

static const quantizer quantizers[] = {
    {QUANTIZE_NVFP4, FP4_NVFP4, 1, 0, "nvfp4_quantize"},
    {QUANTIZE_NVFP4_X8, FP4_NVFP4, 2, 0, "nvfp4_quantize_x8"},
    {QUANTIZE_NVFP4_X4, FP4_NVFP4, 4, 0, "nvfp4_quantize_x4"},
    {QUANTIZE_NVFP4_SCALED, FP4_NVFP4, 1, 1, "nvfp4_quantize_scaled"},
    {QUANTIZE_NVFP4_SCALED_X8, FP4_NVFP4, 2, 1, "nvfp4_quantize_scaled_x8"},
    {QUANTIZE_NVFP4_SCALED_X4, FP4_NVFP4, 4, 1, "nvfp4_quantize_scaled_x4"},
    {QUANTIZE_NVFP4_QUAD, FP4_NVFP4, 1, 0, "nvfp4_quantize_quad"},
    {QUANTIZE_NVFP4_SCALED_QUAD, FP4_NVFP4, 1, 1, "nvfp4_quantize_scaled_quad"},
    {QUANTIZE_MXFP4, FP4_MXFP4, 1, 0, "mxfp4_quantize"},
    {QUANTIZE_MXFP4_X16, FP4_MXFP4, 2, 0, "mxfp4_quantize_x16"},
    {QUANTIZE_MXFP4_X8, FP4_MXFP4, 4, 0, "mxfp4_quantize_x8"},
    {QUANTIZE_MXFP4_SCALED, FP4_MXFP4, 1, 1, "mxfp4_quantize_scaled"},
    {QUANTIZE_MXFP4_SCALED_X16, FP4_MXFP4, 2, 1, "mxfp4_quantize_scaled_x16"},
    {QUANTIZE_MXFP4_SCALED_X8, FP4_MXFP4, 4, 1, "mxfp4_quantize_scaled_x8"},
    {QUANTIZE_MXFP4_QUAD, FP4_MXFP4, 1, 0, "mxfp4_quantize_quad"},
    {QUANTIZE_MXFP4_SCALED_QUAD, FP4_MXFP4, 1, 1, "mxfp4_quantize_scaled_quad"},
    {QUANTIZE_MXFP8, FP4_MXFP8, 1, 0, "mxfp8_quantize"},
    {QUANTIZE_MXFP8_X16, FP4_MXFP8, 2, 0, "mxfp8_quantize_x16"},
    {QUANTIZE_MXFP8_X8, FP4_MXFP8, 4, 0, "mxfp8_quantize_x8"},
    {QUANTIZE_MXFP8_SCALED, FP4_MXFP8, 1, 1, "mxfp8_quantize_scaled"},
    {QUANTIZE_MXFP8_SCALED_X16, FP4_MXFP8, 2, 1, "mxfp8_quantize_scaled_x16"},
    {QUANTIZE_MXFP8_SCALED_X8, FP4_MXFP8, 4, 1, "mxfp8_quantize_scaled_x8"},
    {QUANTIZE_MXFP8_QUAD, FP4_MXFP8, 1, 0, "mxfp8_quantize_quad"},
    {QUANTIZE_MXFP8_SCALED_QUAD, FP4_MXFP8, 1, 1, "mxfp8_quantize_scaled_quad"},
    {QUANTIZE_TO_NVFP4, FP4_NVFP4, 1, 0, "quantize_x16 to nvfp4"},
    {QUANTIZE_SCALED_TO_NVFP4, FP4_NVFP4, 1, 1, "quantize_scaled_x16 to nvfp4"},
    {QUANTIZE_TO_MXFP4, FP4_MXFP4, 2, 0, "quantize_x16 to mxfp4"},
    {QUANTIZE_SCALED_TO_MXFP4, FP4_MXFP4, 2, 1, "quantize_scaled_x16 to mxfp4"},
    {QUANTIZE_TO_MXFP8, FP4_MXFP8, 2, 0, "quantize_x16 to mxfp8"},
    {QUANTIZE_SCALED_TO_MXFP8, FP4_MXFP8, 2, 1, "quantize_scaled_x16 to mxfp8"},
    {QUANTIZE_TO_NVFP4_32, FP4_NVFP4_32, 2, 0, "quantize_x16 to nvfp4_32"},
    {QUANTIZE_SCALED_TO_NVFP4_32, FP4_NVFP4_32, 2, 1, "quantize_scaled_x16 to nvfp4_32"},
    {QUANTIZE_TO_MXFP4_16, FP4_MXFP4_16, 1, 0, "quantize_x16 to mxfp4_16"},
    {QUANTIZE_SCALED_TO_MXFP4_16, FP4_MXFP4_16, 1, 1, "quantize_scaled_x16 to mxfp4_16"}};

enum { QUANTIZERS = sizeof quantizers / sizeof quantizers[0] };

/* ---------------------------------------------------------------- the host's bytes */

/* Blocks in a format, each with a global_enc and a mul. */
typedef struct batch {
    fp4_format format;
    size_t blocks, block, code_bytes;
    float *x, *global_enc, *mul; /* mul: all 1 where the functions are not scaled */
    uint8_t *q, *sf;             /* expected */
} batch;

/* The scale rules of scale.h; with `flush` as --use_fast_math has them. */
static fp4_scale scale_of(fp4_format format, float amax, float global_enc, int flush)
{
    fp4_scale scale;
    float quotient, dec;

    if (!flush) {
        return fp4_format_is_nvfp4(format) ? fp4_nvfp4_scale(amax, global_enc)
               : format == FP4_MXFP8       ? fp4_mxfp8_scale(amax)
                                           : fp4_mxfp4_scale(amax);
    }
    if (!fp4_format_is_nvfp4(format)) {
        const float reciprocal =
            format == FP4_MXFP8 ? FP4_E4M3_MAX_RECIPROCAL : FP4_E2M1_MAX_RECIPROCAL;
        return fp4_scale_from_e8m0_(fp4_f32_to_e8m0_up(path_mul(amax, reciprocal, 1)));
    }
    quotient = path_mul(amax, path_mul(global_enc, FP4_E2M1_MAX_RECIPROCAL, 1), 1);
    scale.bits = fp4_f32_to_e4m3(fp4_min(quotient, FP4_F32_MAX));
    dec = path_mul(fp4_e4m3_to_f32(scale.bits), path_reciprocal(global_enc, 1), 1);
    scale.enc = fp4_min(path_reciprocal(dec, 1), FP4_F32_MAX);
    return scale;
}

/* The codes of block i, of its elements times enc. */
static void expect_codes(const batch *b, size_t i, float enc, int flush)
{
    const float *x = b->x + i * b->block;
    uint8_t *q = b->q + i * b->code_bytes;

    memset(q, 0, b->code_bytes);
    for (size_t k = 0; k < b->block; k++) {
        const float scaled = path_mul(x[k], enc, flush);
        if (b->format == FP4_MXFP8) {
            q[k] = fp4_f32_to_e4m3(scaled);
        } else {
            q[k / 2] |= (uint8_t)(fp4_f32_to_e2m1(scaled) << k % 2 * 4);
        }
    }
}

/* t * mul, quantized as the _scaled functions promise: the scale of fl(amax * |mul|), the elements
   times fl(mul * enc), FLT_MAX at most. With mul = 1 it is the plain rule. Where mul makes the amax
   NaN it counts as 0, and a factor that is NaN stays it (host/ops.h). */
static void expect_block(const batch *b, size_t i, int flush)
{
    const float *x = b->x + i * b->block;
    uint32_t key = 0;
    fp4_scale scale;
    float amax, enc;

    for (size_t k = 0; k < b->block; k++) {
        key = fp4_max_u32(key, fp4_amax_key(x[k]));
    }
    amax = path_mul(host_bits(key), fabsf(b->mul[i]), flush);
    amax = isnan(amax) ? 0.0f : amax;
    scale = scale_of(b->format, amax, b->global_enc[i], flush);
    enc = path_mul(scale.enc, b->mul[i], flush);
    enc = isnan(enc) ? enc : fmaxf(fminf(enc, FP4_F32_MAX), -FP4_F32_MAX);
    b->sf[i] = scale.bits;
    expect_codes(b, i, enc, flush);
}

/* The blocks of a list, two in each where a block is of 16. Scales: the caller's to fill. */
static batch batch_of(fp4_format format, const values_list *list)
{
    batch b;

    b.format = format;
    b.block = fp4_format_block(format);
    b.blocks = list->blocks * VALUES_BLOCK / b.block;
    b.code_bytes = fp4_q_bytes(format, 1, b.block);
    b.x = list->x;
    b.global_enc = (float *)host_zeros(b.blocks * sizeof(float));
    b.mul = (float *)host_zeros(b.blocks * sizeof(float));
    b.q = (uint8_t *)host_zeros(b.blocks * b.code_bytes);
    b.sf = (uint8_t *)host_zeros(b.blocks);
    return b;
}

static void batch_free(batch b)
{
    free(b.global_enc);
    free(b.mul);
    free(b.q);
    free(b.sf);
}

static void batch_expect(const batch *b, int flush)
{
#pragma omp parallel for schedule(static)
    for (ptrdiff_t i = 0; i < (ptrdiff_t)b->blocks; i++) {
        expect_block(b, (size_t)i, flush);
    }
}

/* Plain functions are also what host/quant.h says. */
static void batch_expect_plain(const batch *b)
{
    const fp4_matrix x = fp4_matrix_f32(b->x, b->blocks, b->block, b->block);
    uint8_t *q = (uint8_t *)host_zeros(b->blocks * b->code_bytes);
    uint8_t *sf = (uint8_t *)host_zeros(b->blocks);
    float *row_dec = (float *)host_zeros(b->blocks * sizeof(float));
    fp4_tensor t = fp4_tensor_view(b->format, FP4_LAYOUT_LINEAR, b->blocks, b->block, q,
                                   b->blocks * b->code_bytes, sf, b->blocks);
    fp4_status status;

    if (fp4_format_is_nvfp4(b->format)) {
        t.row_dec = row_dec;
        t.row_dec_bytes = b->blocks * sizeof(float);
        status = fp4_ref_nvfp4_quantize_rows(x, b->global_enc, &t);
    } else {
        status =
            b->format == FP4_MXFP8 ? fp4_ref_mxfp8_quantize(x, &t) : fp4_ref_mxfp4_quantize(x, &t);
    }
    cr_assert(status == FP4_OK, "%s", fp4_status_text(status));
    host_expect_bytes(b->q, q, b->blocks * b->code_bytes, "two host references: codes");
    host_expect_bytes(b->sf, sf, b->blocks, "two host references: scales");
    free(q);
    free(sf);
    free(row_dec);
}

/* ---------------------------------------------------------------- the device's */

static void expect_bytes_of_block(const batch *b, size_t i, const quantizer *how, const char *path,
                                  const uint8_t *q, const uint8_t *sf)
{
    for (size_t lane = 0; lane < how->lanes; lane++) {
        CHECK_EQ(sf[i * how->lanes + lane], b->sf[i],
                 "%s, %s: scale byte of lane %zu, block %zu, global_enc %a, mul %a, first element "
                 "%a",
                 how->name, path, lane, i, (double)b->global_enc[i], (double)b->mul[i],
                 (double)b->x[i * b->block]);
    }
    for (size_t k = 0; k < b->code_bytes; k++) {
        const size_t element = i * b->block + k * b->block / b->code_bytes;
        CHECK_EQ(q[i * b->code_bytes + k], b->q[i * b->code_bytes + k],
                 "%s, %s: code byte %zu, block %zu, scale byte %02x, global_enc %a, mul %a, "
                 "elements %a %a",
                 how->name, path, k, i, b->sf[i], (double)b->global_enc[i], (double)b->mul[i],
                 (double)b->x[element], (double)b->x[(element + 1) % (b->blocks * b->block)]);
    }
}

static void run_quantizer(const batch *b, const quantizer *how, const gpu_parts *path,
                          const gpu_buffer in[3])
{
    const gpu_buffer q = gpu_buffer_new(b->blocks * b->code_bytes, 0);
    const gpu_buffer sf = gpu_buffer_new(b->blocks * how->lanes, 0);
    uint8_t *got_q, *got_sf;

    gpu_poison(q, 0x7f);
    gpu_poison(sf, 0x7f);
    GPU_OK(path->quantize(how->how, path_floats(in[0]), path_floats(in[1]), path_floats(in[2]),
                          b->blocks, q.bytes, sf.bytes));
    gpu_finish(how->name);
    got_q = (uint8_t *)gpu_copy_of(q);
    got_sf = (uint8_t *)gpu_copy_of(sf);
    for (size_t i = 0; i < b->blocks; i++) {
        expect_bytes_of_block(b, i, how, path->name, got_q, got_sf);
    }
    gpu_buffer_free(q);
    gpu_buffer_free(sf);
    free(got_q);
    free(got_sf);
}

/* All functions of a batch's format, scaled or not, on paths from first to last. */
static void run_batch(const batch *b, int is_scaled, size_t first, size_t last)
{
    const gpu_buffer in[3] = {gpu_buffer_of(b->x, b->blocks * b->block * sizeof(float), 0),
                              gpu_buffer_of(b->global_enc, b->blocks * sizeof(float), 0),
                              gpu_buffer_of(b->mul, b->blocks * sizeof(float), 0)};

    for (size_t k = 0; k < QUANTIZERS; k++) {
        for (size_t p = first; p <= last; p++) {
            if (quantizers[k].format == b->format && quantizers[k].is_scaled == is_scaled) {
                run_quantizer(b, &quantizers[k], paths[p], in);
            }
        }
    }
    for (size_t i = 0; i < 3; i++) {
        gpu_buffer_free(in[i]);
    }
}

/* ---------------------------------------------------------------- data */

/* Random blocks of all kinds behind the blocks of values.h. */
static values_list all_blocks(void)
{
    values_list list = values_all();
    const size_t random_blocks = gpu_is_reduced() ? 100 : 30000;
    float *x = (float *)host_zeros(random_blocks * VALUES_BLOCK * sizeof(float));
    uint64_t state = 33;

    if (gpu_is_reduced()) {
        values_reduce(&list, 200);
    }
    for (int data = 0; data < HOST_DATA; data++) {
        const size_t rows = random_blocks / HOST_DATA;
        fp4_matrix m = fp4_matrix_f32(x, rows, VALUES_BLOCK, VALUES_BLOCK);
        host_fill((uint8_t *)x, m, &state, (host_data)data, data % 2 ? 16 : 32);
        for (size_t i = 0; i < rows; i++) {
            memcpy(values_add(&list), x + i * VALUES_BLOCK, VALUES_BLOCK * sizeof(float));
        }
    }
    free(x);
    return list;
}

/* Global scales and factors: the extremes, next to where the code takes another way, ordinary. */
static const float scales[] = {1.0f,      2688.0f,         0x1.000008p-128f, 0x1p-127f,
                               0x1p-126f, 0x1.fffffep-65f, 0x1p-64f,         0x1.fffffep63f,
                               0x1p64f,   0x1p126f,        0x1.000002p126f,  FP4_F32_MAX};
static const float muls[] = {1.0f, 0x1p-149f, 0x1p-126f, 0x1p127f, FP4_F32_MAX, 0x1.8p-130f,
                             0.3f, 7.7f,      NAN,       0.0f,     -0.0f,       -FP4_F32_MAX};

enum { SCALES = sizeof scales / sizeof scales[0], MULS = sizeof muls / sizeof muls[0] };

/* Round r of the scales of a batch: one for all blocks, then random ones. */
static void fill_scales(const batch *b, size_t round, int is_scaled, uint64_t *state)
{
    for (size_t i = 0; i < b->blocks; i++) {
        b->global_enc[i] = round < SCALES ? scales[round] : host_random_scale(state, -127, 127);
        b->mul[i] = !is_scaled       ? 1.0f
                    : round % 3 == 0 ? host_random_scale(state, -100, 100)
                    : round % 3 == 1 ? host_random_scale(state, -3, 3)
                                     : muls[i % MULS];
        b->mul[i] = is_scaled && host_below(state, 2) ? -b->mul[i] : b->mul[i];
    }
}

static void run_format(fp4_format format, int is_scaled)
{
    values_list list = all_blocks();
    const batch b = batch_of(format, &list);
    const size_t all = fp4_format_is_nvfp4(format) ? SCALES + 4 : is_scaled ? 6 : 1;
    const size_t rounds = gpu_is_reduced() && all > 3 ? 3 : all;
    uint64_t state = 55;

    for (size_t round = 0; round < rounds; round++) {
        fill_scales(&b, round, is_scaled, &state);
        batch_expect(&b, 0);
        if (!is_scaled) {
            batch_expect_plain(&b);
        }
        run_batch(&b, is_scaled, 0, FAST_MATH - 1);
        if (FAST_MATH < PATHS) {
            run_batch(&b, is_scaled, FAST_MATH + 1, PATHS - 1);
            batch_expect(&b, 1);
            run_batch(&b, is_scaled, FAST_MATH, FAST_MATH);
        }
    }
    batch_free(b);
    free(list.x);
}

GPU_TEST(blocks, nvfp4)
{
    run_format(FP4_NVFP4, 0);
}

GPU_TEST(blocks, nvfp4_scaled)
{
    run_format(FP4_NVFP4, 1);
}

GPU_TEST(blocks, mxfp4)
{
    run_format(FP4_MXFP4, 0);
}

GPU_TEST(blocks, mxfp4_scaled)
{
    run_format(FP4_MXFP4, 1);
}

GPU_TEST(blocks, mxfp8)
{
    run_format(FP4_MXFP8, 0);
}

GPU_TEST(blocks, mxfp8_scaled)
{
    run_format(FP4_MXFP8, 1);
}

GPU_TEST(blocks, nvfp4_32)
{
    run_format(FP4_NVFP4_32, 0);
}

GPU_TEST(blocks, nvfp4_32_scaled)
{
    run_format(FP4_NVFP4_32, 1);
}

GPU_TEST(blocks, mxfp4_16)
{
    run_format(FP4_MXFP4_16, 0);
}

GPU_TEST(blocks, mxfp4_16_scaled)
{
    run_format(FP4_MXFP4_16, 1);
}

/* ---------------------------------------------------------------- the amax known in advance */

/* Both functions of a format, as expect_bytes_of_block has names. */
static const quantizer any_of[] = {{PARTS_QUANTIZERS, FP4_NVFP4, 1, 1, "nvfp4_quantize_any_x16"},
                                   {PARTS_QUANTIZERS, FP4_MXFP4, 2, 1, "mxfp4_quantize_any_x16"},
                                   {PARTS_QUANTIZERS, FP4_MXFP8, 2, 1, "mxfp8_quantize_any_x16"},
                                   {PARTS_QUANTIZERS, FP4_NVFP4_32, 2, 1, "nvfp4_32, any"},
                                   {PARTS_QUANTIZERS, FP4_MXFP4_16, 1, 1, "mxfp4_16, any"}};
static const quantizer known_of[] = {
    {PARTS_QUANTIZERS, FP4_NVFP4, 1, 1, "nvfp4_quantize_known_x16"},
    {PARTS_QUANTIZERS, FP4_MXFP4, 2, 1, "mxfp4_quantize_known_x16"},
    {PARTS_QUANTIZERS, FP4_MXFP8, 2, 1, "mxfp8_quantize_known_x16"},
    {PARTS_QUANTIZERS, FP4_NVFP4_32, 2, 1, "nvfp4_32, known"},
    {PARTS_QUANTIZERS, FP4_MXFP4_16, 1, 1, "mxfp4_16, known"}};

/* What any leaves is expected of all blocks, what known leaves of those that want no care; without
   a factor unless `scaled`. Returns how many do. */
static size_t run_row(const batch *b, const gpu_parts *path, int scaled)
{
    const quantizer *any = &any_of[b->format], *known = &known_of[b->format];
    const size_t lanes = b->blocks * any->lanes;
    const gpu_buffer in[3] = {gpu_buffer_of(b->x, b->blocks * b->block * sizeof(float), 0),
                              gpu_buffer_of(b->global_enc, b->blocks * sizeof(float), 0),
                              gpu_buffer_of(b->mul, b->blocks * sizeof(float), 0)};
    const gpu_buffer q[2] = {gpu_buffer_new(b->blocks * b->code_bytes, 0),
                             gpu_buffer_new(b->blocks * b->code_bytes, 0)};
    const gpu_buffer sf[2] = {gpu_buffer_new(lanes, 0), gpu_buffer_new(lanes, 0)};
    const gpu_buffer care = gpu_buffer_new(lanes * sizeof(uint32_t), 0);
    const float *const mul = scaled ? path_floats(in[2]) : NULL;
    uint8_t *got_q[2], *got_sf[2];
    uint32_t *got_care;
    size_t careful = 0;

    for (size_t k = 0; k < 2; k++) {
        gpu_poison(q[k], 0x7f);
        gpu_poison(sf[k], 0x7f);
    }
    gpu_poison(care, 0x7f);
    GPU_OK(path->quantize_any((int)b->format, path_floats(in[0]), path_floats(in[1]), mul,
                              b->blocks, q[0].bytes, sf[0].bytes));
    GPU_OK(path->quantize_known((int)b->format, path_floats(in[0]), path_floats(in[1]), mul,
                                b->blocks, q[1].bytes, sf[1].bytes, path_words(care)));
    gpu_finish(known->name);
    for (size_t k = 0; k < 2; k++) {
        got_q[k] = (uint8_t *)gpu_copy_of(q[k]);
        got_sf[k] = (uint8_t *)gpu_copy_of(sf[k]);
    }
    got_care = (uint32_t *)gpu_copy_of(care);
    for (size_t i = 0; i < b->blocks; i++) {
        const uint32_t wants = got_care[i * any->lanes];
        CHECK(wants <= 1, "%s, %s: care %x, block %zu", known->name, path->name, wants, i);
        for (size_t lane = 1; lane < any->lanes; lane++) {
            CHECK_EQ(got_care[i * any->lanes + lane], wants, "%s, %s: care of lane %zu, block %zu",
                     known->name, path->name, lane, i);
        }
        careful += wants != 0;
        expect_bytes_of_block(b, i, any, path->name, got_q[0], got_sf[0]);
        if (wants == 0) {
            expect_bytes_of_block(b, i, known, path->name, got_q[1], got_sf[1]);
        }
    }
    for (size_t k = 0; k < 3; k++) {
        gpu_buffer_free(in[k]);
    }
    for (size_t k = 0; k < 2; k++) {
        gpu_buffer_free(q[k]);
        gpu_buffer_free(sf[k]);
        free(got_q[k]);
        free(got_sf[k]);
    }
    gpu_buffer_free(care);
    free(got_care);
    return careful;
}

/* What a row can say: nothing, ordinary and extreme factors, zero, NaN. */
static const float row_muls[] = {1.0f, 0.3f, 1e-20f, 1e20f, 0.0f, NAN};

enum { ROW_MULS = sizeof row_muls / sizeof row_muls[0] };

/* Round r: all factors in turn, each block another one than in the round before, or none; six
   rounds of moderate global scales, then such as have a way of their own. */
static void fill_row_scales(const batch *b, size_t round, int scaled, uint64_t *state)
{
    for (size_t i = 0; i < b->blocks; i++) {
        b->mul[i] = scaled ? row_muls[(i + round) % ROW_MULS] : 1.0f;
        b->global_enc[i] = round >= ROW_MULS ? scales[(i / ROW_MULS + round) % SCALES]
                           : i % 2           ? 2688.0f
                                             : host_random_scale(state, -60, 60);
    }
}

static void run_row_format(fp4_format format, int scaled)
{
    values_list list = all_blocks();
    batch b = batch_of(format, &list);
    const size_t moderate = scaled ? ROW_MULS : 1;
    const size_t all = fp4_format_is_nvfp4(format) ? 2 * ROW_MULS : moderate;
    uint64_t state = 77;

    for (size_t round = ROW_MULS - moderate; round < ROW_MULS - moderate + all;
         round += gpu_is_reduced() ? 5 : 1) {
        fill_row_scales(&b, round, scaled, &state);
        batch_expect(&b, 0);
        for (size_t p = 0; p < PATHS; p++) {
            const size_t careful = p == FAST_MATH ? 1 : run_row(&b, paths[p], scaled);
            CHECK(careful > 0, "%s: no block of these wants care", paths[p]->name);
        }
        if (FAST_MATH < PATHS) {
            batch_expect(&b, 1);
            run_row(&b, paths[FAST_MATH % PATHS], scaled);
        }
    }
    batch_free(b);
    free(list.x);
}

GPU_TEST(blocks, nvfp4_known)
{
    run_row_format(FP4_NVFP4, 0);
}

GPU_TEST(blocks, nvfp4_scaled_known)
{
    run_row_format(FP4_NVFP4, 1);
}

GPU_TEST(blocks, nvfp4_32_known)
{
    run_row_format(FP4_NVFP4_32, 0);
}

GPU_TEST(blocks, nvfp4_32_scaled_known)
{
    run_row_format(FP4_NVFP4_32, 1);
}

GPU_TEST(blocks, mxfp4_known)
{
    run_row_format(FP4_MXFP4, 0);
}

GPU_TEST(blocks, mxfp4_scaled_known)
{
    run_row_format(FP4_MXFP4, 1);
}

GPU_TEST(blocks, mxfp4_16_known)
{
    run_row_format(FP4_MXFP4_16, 0);
}

GPU_TEST(blocks, mxfp4_16_scaled_known)
{
    run_row_format(FP4_MXFP4_16, 1);
}

GPU_TEST(blocks, mxfp8_known)
{
    run_row_format(FP4_MXFP8, 0);
}

GPU_TEST(blocks, mxfp8_scaled_known)
{
    run_row_format(FP4_MXFP8, 1);
}

/* Blocks as they are: of numbers within 2^8 of each other, zeros among them, or nothing but zeros,
   with a factor like 1/rms and a global scale that fits. Where these want care, every kernel goes
   the slow way. */
GPU_TEST(blocks, ordinary_ones_want_no_care)
{
    for (int format = FP4_NVFP4; format <= FP4_MXFP4_16; format++) {
        const size_t blocks = gpu_is_reduced() ? 300 : 30000;
        values_list list = {NULL, 0, 0};
        uint64_t state = 88;
        batch b;

        for (size_t i = 0; i < blocks; i++) {
            float *x = values_add(&list);
            for (size_t k = 0; k < VALUES_BLOCK && i % 8 != 0; k++) {
                const float magnitude = host_random_scale(&state, -4, 3);
                x[k] = host_below(&state, 4) == 0 ? 0.0f : magnitude;
                x[k] = host_below(&state, 2) == 0 ? -x[k] : x[k];
            }
        }
        b = batch_of((fp4_format)format, &list);
        for (size_t i = 0; i < b.blocks; i++) {
            b.mul[i] = i % 2 ? 1.0f : host_random_scale(&state, -6, 6);
            b.global_enc[i] = host_div(2688.0f, host_mul(b.mul[i], 16.0f));
        }
        batch_expect(&b, 0);
        for (size_t p = 0; p < PATHS; p++) {
            CHECK_EQ(run_row(&b, paths[p], 1), 0, "%s: ordinary blocks that want care",
                     known_of[format].name);
        }
        for (size_t i = 0; i < b.blocks; i++) {
            b.mul[i] = 1.0f;
            b.global_enc[i] = 2688.0f / 16.0f;
        }
        batch_expect(&b, 0);
        for (size_t p = 0; p < PATHS; p++) {
            CHECK_EQ(run_row(&b, paths[p], 0), 0, "%s, no factor: ordinary blocks that want care",
                     known_of[format].name);
        }
        batch_free(b);
        free(list.x);
    }
}

/* ---------------------------------------------------------------- the amax given */

static const quantizer given_of[] = {
    {PARTS_QUANTIZERS, FP4_NVFP4, 1, 1, "nvfp4_quantize_given_x16"},
    {PARTS_QUANTIZERS, FP4_MXFP4, 2, 1, "mxfp4_quantize_given_x16"},
    {PARTS_QUANTIZERS, FP4_MXFP8, 2, 1, "mxfp8_quantize_given_x16"},
    {PARTS_QUANTIZERS, FP4_NVFP4_32, 2, 1, "nvfp4_32, given"},
    {PARTS_QUANTIZERS, FP4_MXFP4_16, 1, 1, "mxfp4_16, given"}};

/* An amax for each block, in mul: its own, more, less, the ends; global scales as they come. */
static void fill_amaxes(const batch *b, size_t round, uint64_t *state)
{
    static const float of[] = {1.0f, 0.5f, 2.0f, 0.9f, 0x1p-10f};

    for (size_t i = 0; i < b->blocks; i++) {
        const uint32_t which = host_below(state, 16);
        b->mul[i] = which == 0   ? 0.0f
                    : which == 1 ? INFINITY
                    : which == 2 ? FP4_F32_MAX
                    : which == 3 ? host_bits(host_below(state, 0x7f800000u))
                                 : host_amax(b->x + i * b->block, b->block) * of[which % 5];
        b->global_enc[i] = round == 0   ? host_random_scale(state, -20, 20)
                           : round == 1 ? scales[i % SCALES]
                                        : host_random_scale(state, -127, 127);
    }
}

/* Bytes of blocks, and of each of their pieces what was clipped with the block's factor. */
static void run_given(const batch *b, const gpu_parts *path, int flush)
{
    const quantizer *how = &given_of[b->format];
    const size_t lanes = b->blocks * how->lanes;
    const float most = b->format == FP4_MXFP8 ? FP4_E4M3_MAX : FP4_E2M1_MAX;
    float *enc = (float *)host_zeros(lanes * sizeof(float));
    const gpu_buffer in[3] = {gpu_buffer_of(b->x, b->blocks * b->block * sizeof(float), 0),
                              gpu_buffer_of(b->global_enc, b->blocks * sizeof(float), 0),
                              gpu_buffer_of(b->mul, b->blocks * sizeof(float), 0)};
    const gpu_buffer q = gpu_buffer_new(b->blocks * b->code_bytes, 0);
    const gpu_buffer sf = gpu_buffer_new(lanes, 0), bits = gpu_buffer_new(lanes * 4, 0);
    gpu_buffer encs;
    uint8_t *got_q, *got_sf;
    uint32_t *got_bits;

    for (size_t i = 0; i < b->blocks; i++) {
        const fp4_scale scale = scale_of(b->format, b->mul[i], b->global_enc[i], flush);
        b->sf[i] = scale.bits;
        expect_codes(b, i, scale.enc, flush);
        for (size_t lane = 0; lane < how->lanes; lane++) {
            enc[i * how->lanes + lane] = scale.enc;
        }
    }
    encs = gpu_buffer_of(enc, lanes * sizeof(float), 0);
    gpu_poison(q, 0x7f);
    gpu_poison(sf, 0x7f);
    GPU_OK(path->quantize_given((int)b->format, path_floats(in[0]), path_floats(in[1]),
                                path_floats(in[2]), b->blocks, q.bytes, sf.bytes));
    GPU_OK(path->clipped(path_floats(in[0]), path_floats(encs), most, lanes, path_words(bits)));
    gpu_finish(how->name);
    got_q = (uint8_t *)gpu_copy_of(q);
    got_sf = (uint8_t *)gpu_copy_of(sf);
    got_bits = (uint32_t *)gpu_copy_of(bits);
    for (size_t i = 0; i < b->blocks; i++) {
        expect_bytes_of_block(b, i, how, path->name, got_q, got_sf);
    }
    for (size_t i = 0; i < lanes; i++) {
        uint32_t expected = 0;
        for (size_t k = 0; k < 16; k++) {
            expected |= (uint32_t)(fabsf(path_mul(b->x[16 * i + k], enc[i], flush)) > most) << k;
        }
        CHECK_EQ(got_bits[i], expected, "clipped_x16, %s: piece %zu, enc %a", path->name, i,
                 (double)enc[i]);
    }
    for (size_t i = 0; i < 3; i++) {
        gpu_buffer_free(in[i]);
    }
    gpu_buffer_free(q);
    gpu_buffer_free(sf);
    gpu_buffer_free(bits);
    gpu_buffer_free(encs);
    free(enc);
    free(got_q);
    free(got_sf);
    free(got_bits);
}

GPU_TEST(blocks, with_a_given_amax)
{
    for (int format = FP4_NVFP4; format <= FP4_MXFP4_16; format++) {
        values_list list = all_blocks();
        const batch b = batch_of((fp4_format)format, &list);
        uint64_t state = 99;
        for (size_t round = 0; round < (fp4_format_is_nvfp4(b.format) ? 3 : 1); round++) {
            fill_amaxes(&b, round, &state);
            for (size_t p = 0; p < PATHS; p++) {
                run_given(&b, paths[p], p == FAST_MATH);
            }
        }
        batch_free(b);
        free(list.x);
    }
}

/* ---------------------------------------------------------------- ModelOpt's fake quantization */

/* Scales that count as 1, on both sides of what is quick (2^-64 up to 2^64), and at the ends. */
static const uint32_t odd_scales[] = {0u,          0x80000000u, 1u,          0x00400000u,
                                      0x007fffffu, 0x00800000u, 0x1f7fffffu, 0x1f800000u,
                                      0x1f800001u, 0x5f7fffffu, 0x5f800000u, 0x5f800001u,
                                      0x7f7fffffu, 0x7f800000u, 0x7fc00000u, 0x3f800000u};

/* Pieces of 16 by one path, in both ways, against the scalar rule. */
static void run_modelopt(const float *x, const float *scale, size_t pieces, const gpu_parts *path)
{
    const size_t n = 16 * pieces;
    const gpu_buffer in = gpu_buffer_of(x, n * sizeof(float), 0);
    const gpu_buffer in_scale = gpu_buffer_of(scale, pieces * sizeof(float), 0);
    const gpu_buffer out = gpu_buffer_new(n * sizeof(float), 0);
    const gpu_buffer bits = gpu_buffer_new(pieces * sizeof(uint32_t), 0);
    float *expected = (float *)host_zeros(n * sizeof(float));

    for (size_t i = 0; i < n; i++) {
        expected[i] = fp4_modelopt_fake_static(x[i], scale[i / 16]);
    }
    for (int wants = 0; wants < 2; wants++) {
        uint32_t *got;
        gpu_poison(out, 0x7f);
        gpu_poison(bits, 0x7f);
        GPU_OK(path->modelopt_fake(path_floats(in), path_floats(in_scale), wants, pieces,
                                   path_floats(out), path_words(bits)));
        gpu_finish("modelopt_fake_x16");
        path_expect_floats(out, expected, "modelopt_fake_x16", path->name);
        got = (uint32_t *)gpu_copy_of(bits);
        for (size_t i = 0; i < pieces; i++) {
            uint32_t clipped = 0;
            for (size_t k = 0; k < 16 && wants; k++) {
                clipped |=
                    (uint32_t)fp4_modelopt_is_clipped(x[16 * i + k], fp4_modelopt_divisor(scale[i]))
                    << k;
            }
            CHECK_EQ(got[i], clipped, "modelopt_fake_x16, %s: bits of piece %zu, scale %a",
                     path->name, i, (double)scale[i]);
        }
        free(got);
    }
    gpu_buffer_free(in);
    gpu_buffer_free(in_scale);
    gpu_buffer_free(out);
    gpu_buffer_free(bits);
    free(expected);
}

/* Scales that make ties of the elements and of what is next to them, any, and odd ones. */
GPU_TEST(blocks, modelopt_fake)
{
    values_list list = all_blocks();
    const size_t pieces = 2 * list.blocks;
    float *scale = (float *)host_zeros(pieces * sizeof(float));
    uint64_t state = 111;

    for (size_t round = 0; round < (gpu_is_reduced() ? 2 : 6); round++) {
        for (size_t i = 0; i < pieces; i++) {
            const float sixth = fp4_modelopt_scale_f32(host_amax(list.x + 16 * i, 16));
            const uint32_t which = host_below(&state, 4);
            scale[i] = which == 0   ? host_random_scale(&state, -127, 127)
                       : which == 1 ? host_bits(odd_scales[host_below(&state, 16)])
                       : which == 2 ? sixth
                                    : values_power((int)host_below(&state, 277) - 149);
        }
        for (size_t p = 0; p < PATHS; p++) {
            if (p != FAST_MATH) {
                run_modelopt(list.x, scale, pieces, paths[p]);
            }
        }
    }
    free(scale);
    free(list.x);
}

/* Quotients at and next to the boundaries of e2m1, and to 6, where x is no product: what the step
   of Newton's is for. */
GPU_TEST(blocks, modelopt_fake_next_to_boundaries)
{
    static const float boundary[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f, 6.0f};
    const size_t pieces = gpu_is_reduced() ? 2000 : 1000000;
    float *x = (float *)host_zeros(16 * pieces * sizeof(float));
    float *scale = (float *)host_zeros(pieces * sizeof(float));
    uint64_t state = 112;

    for (size_t i = 0; i < pieces; i++) {
        scale[i] = host_random_scale(&state, -40, 40);
        for (size_t k = 0; k < 16; k++) {
            x[16 * i + k] =
                values_moved(host_mul(scale[i], boundary[k % 8]), (int)host_below(&state, 7) - 3);
            x[16 * i + k] = host_below(&state, 2) ? x[16 * i + k] : -x[16 * i + k];
        }
    }
    for (size_t p = 0; p < PATHS; p++) {
        run_modelopt(x, scale, pieces, paths[p]); /* nothing here is subnormal */
    }
    free(x);
    free(scale);
}

/* ---------------------------------------------------------------- ModelOpt's quantized tensors */

static void run_modelopt_tensor(fp4_format format, const values_list *list)
{
    const size_t block = fp4_format_block(format), blocks = list->blocks * VALUES_BLOCK / block;
    const size_t code_bytes = fp4_q_bytes(format, 1, block);
    const gpu_buffer in = gpu_buffer_of(list->x, blocks * block * sizeof(float), 0);
    const gpu_buffer q = gpu_buffer_new(blocks * code_bytes, 0), sf = gpu_buffer_new(blocks, 0);
    uint8_t *expected = (uint8_t *)host_zeros(blocks * (code_bytes + 1));
    float *dec = (float *)host_zeros(blocks * sizeof(float));
    gpu_buffer in_dec;
    uint64_t state = 113;

    for (size_t i = 0; i < blocks; i++) {
        const fp4_matrix m = fp4_matrix_f32(list->x + i * block, 1, block, block);
        fp4_tensor t =
            fp4_tensor_view(format, FP4_LAYOUT_LINEAR, 1, block, expected + i * code_bytes,
                            code_bytes, expected + blocks * code_bytes + i, 1);
        dec[i] = host_random_scale(&state, -60, 60);
        CHECK_EQ(format == FP4_NVFP4   ? fp4_ref_modelopt_nvfp4_quantize(m, dec[i], &t)
                 : format == FP4_MXFP4 ? fp4_ref_modelopt_mxfp4_quantize(m, &t)
                                       : fp4_ref_modelopt_mxfp8_quantize(m, &t),
                 FP4_OK, "block %zu", i);
    }
    in_dec = gpu_buffer_of(dec, blocks * sizeof(float), 0);
    for (size_t p = 0; p < PATHS; p++) {
        uint8_t *got_q, *got_sf;
        if (p == FAST_MATH) {
            continue; /* subnormals */
        }
        gpu_poison(q, 0x7f);
        gpu_poison(sf, 0x7f);
        GPU_OK(paths[p]->modelopt_quantize((int)format, path_floats(in), path_floats(in_dec),
                                           blocks, q.bytes, sf.bytes));
        gpu_finish("modelopt_quantize");
        got_q = (uint8_t *)gpu_copy_of(q);
        got_sf = (uint8_t *)gpu_copy_of(sf);
        host_expect_bytes(got_q, expected, blocks * code_bytes, paths[p]->name);
        host_expect_bytes(got_sf, expected + blocks * code_bytes, blocks, paths[p]->name);
        free(got_q);
        free(got_sf);
    }
    gpu_buffer_free(in);
    gpu_buffer_free(in_dec);
    gpu_buffer_free(q);
    gpu_buffer_free(sf);
    free(expected);
    free(dec);
}

GPU_TEST(blocks, modelopt_quantized_tensors)
{
    values_list list = all_blocks();

    run_modelopt_tensor(FP4_NVFP4, &list);
    run_modelopt_tensor(FP4_MXFP4, &list);
    run_modelopt_tensor(FP4_MXFP8, &list);
    free(list.x);
}

/* The scalar rules on lanes of 16, codes as in memory. */
static void modelopt_expect(fp4_format format, const float *x, const uint8_t *sf, const float *dec,
                            size_t lanes, uint8_t *q)
{
    for (size_t i = 0; i < 16 * lanes; i++) {
        const uint8_t of = sf[i / 16];
        const uint8_t code =
            format == FP4_NVFP4
                ? fp4_modelopt_nvfp4_code(x[i], fp4_modelopt_nvfp4_dec(of, dec[i / 16]))
            : format == FP4_MXFP4 ? fp4_modelopt_mxfp4_code(x[i], of)
                                  : fp4_modelopt_mxfp8_code(x[i], of);
        if (format == FP4_MXFP8) {
            q[i] = code;
        } else {
            q[i / 2] = (uint8_t)(i % 2 == 0 ? code : q[i / 2] | code << 4);
        }
    }
}

/* Lanes whose scale bytes are given, by each path. is_normal: so is everything on the way. */
static void run_modelopt_encode(fp4_format format, const float *x, const uint8_t *sf,
                                const float *dec, size_t lanes, int is_normal)
{
    const size_t q_bytes = fp4_q_bytes(format, lanes, 16);
    const gpu_buffer in = gpu_buffer_of(x, 16 * lanes * sizeof(float), 0);
    const gpu_buffer in_sf = gpu_buffer_of(sf, lanes, 0);
    const gpu_buffer in_dec = gpu_buffer_of(dec, lanes * sizeof(float), 0);
    const gpu_buffer q = gpu_buffer_new(q_bytes, 0);
    uint8_t *expected = (uint8_t *)host_zeros(q_bytes);

    modelopt_expect(format, x, sf, dec, lanes, expected);
    for (size_t p = 0; p < PATHS; p++) {
        uint8_t *got;
        if (p == FAST_MATH && !is_normal) {
            continue;
        }
        gpu_poison(q, 0x7f);
        GPU_OK(paths[p]->modelopt_encode((int)format, path_floats(in), in_sf.bytes,
                                         path_floats(in_dec), lanes, q.bytes));
        gpu_finish("modelopt_encode_x16");
        got = (uint8_t *)gpu_copy_of(q);
        host_expect_bytes(got, expected, q_bytes, paths[p]->name);
        free(got);
    }
    gpu_buffer_free(in);
    gpu_buffer_free(in_sf);
    gpu_buffer_free(in_dec);
    gpu_buffer_free(q);
    free(expected);
}

/* Quotients at and next to the boundaries of the codes, both ways up, and NaN. */
GPU_TEST(blocks, modelopt_tensors_next_to_boundaries)
{
    static const float boundary[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f, 0.0f,
                                     0.5f,  1.0f,  1.5f,  2.0f,  3.0f, 4.0f, 6.0f, 0.125f};
    const size_t lanes = gpu_is_reduced() ? 2000 : 500000;
    float *x = (float *)host_zeros(16 * lanes * sizeof(float));
    float *dec = (float *)host_zeros(lanes * sizeof(float));
    uint8_t *sf = (uint8_t *)host_zeros(lanes);
    uint64_t state = 115;

    for (int format = FP4_NVFP4; format <= FP4_MXFP8; format++) {
        for (size_t i = 0; i < lanes; i++) {
            float unit;
            sf[i] = (uint8_t)(format == FP4_NVFP4 ? 1 + host_below(&state, 126)
                                                  : 40 + host_below(&state, 160));
            dec[i] = host_random_scale(&state, -40, 40);
            unit = format == FP4_NVFP4 ? fp4_modelopt_nvfp4_dec(sf[i], dec[i])
                                       : fp4_modelopt_mx_dec(sf[i]);
            for (size_t k = 0; k < 16; k++) {
                const float at = host_mul(unit, boundary[k]);
                const float moved =
                    at == 0.0f ? at : values_moved(at, (int)host_below(&state, 7) - 3);
                x[16 * i + k] = host_below(&state, 2) ? moved : -moved;
            }
            if (format == FP4_NVFP4 && host_below(&state, 16) == 0) {
                x[16 * i + host_below(&state, 16)] = NAN; /* of a static quantizer */
            }
        }
        run_modelopt_encode((fp4_format)format, x, sf, dec, lanes, 1);
    }
    free(x);
    free(dec);
    free(sf);
}

/* Quotients that are zeros, or hardly not; factors at the ends of their range, and no numbers. */
GPU_TEST(blocks, modelopt_tensors_at_the_ends_of_their_range)
{
    const size_t lanes = gpu_is_reduced() ? 2000 : 100000;
    float *x = (float *)host_zeros(16 * lanes * sizeof(float));
    float *dec = (float *)host_zeros(lanes * sizeof(float));
    uint8_t *sf = (uint8_t *)host_zeros(lanes);
    uint64_t state = 116;

    for (int format = FP4_NVFP4; format <= FP4_MXFP8; format++) {
        for (size_t i = 0; i < lanes; i++) {
            const int most = (int)host_below(&state, 277) - 149; /* of the elements, a power */
            float amax = 0.0f;
            for (size_t k = 0; k < 16; k++) {
                const uint32_t which = host_below(&state, 6);
                const float small = host_bits(host_below(&state, 4)); /* up to 3 * 2^-149 */
                const float v = which == 0   ? 0.0f
                                : which == 1 ? small
                                : which == 2 ? host_mul(values_power(most), 0x1p-20f)
                                             : host_mul(values_power(most), 1.0f + 0.1f * (float)k);
                x[16 * i + k] = host_below(&state, 2) ? v : -v;
                amax = fmaxf(amax, v);
            }
            dec[i] = host_below(&state, 4) == 0 ? host_bits(host_below(&state, 0x7f800000u))
                                                : values_power((int)host_below(&state, 70));
            sf[i] = format == FP4_NVFP4   ? (uint8_t)host_below(&state, 128)
                    : format == FP4_MXFP4 ? fp4_modelopt_mxfp4_sf(amax)
                                          : (uint8_t)host_below(&state, 255);
        }
        run_modelopt_encode((fp4_format)format, x, sf, dec, lanes, 0);
    }
    free(x);
    free(dec);
    free(sf);
}

/* Every code with every scale byte, and back. */
GPU_TEST(blocks, modelopt_tensors_back)
{
    static const float global[] = {1.0f, 0.37f, 0x1p-126f, 0x1.8p120f};
    enum { LANES = 256 * 32 };
    uint8_t *q = (uint8_t *)host_zeros(8 * LANES), *sf = (uint8_t *)host_zeros(LANES);
    float *dec = (float *)host_zeros(LANES * sizeof(float));
    float *expected = (float *)host_zeros(8 * LANES * sizeof(float));

    for (int round = 0; round < 12; round++) {
        const fp4_format format = (fp4_format)(FP4_NVFP4 + round % 3);
        const size_t q_bytes = fp4_q_bytes(format, LANES, 8);
        gpu_buffer in, in_sf, in_dec, out;
        for (size_t i = 0; i < q_bytes; i++) { /* of 32 lanes: all 256 there are, or half, twice */
            q[i] = (uint8_t)(i + i / 128 * (format == FP4_MXFP8 ? 0 : 128) / 128);
        }
        for (size_t i = 0; i < LANES; i++) {
            sf[i] = (uint8_t)(i / 32);
            dec[i] = global[round / 3];
        }
        for (size_t i = 0; i < 8 * LANES; i++) {
            const uint8_t of = sf[i / 8], code = (uint8_t)(q[i / 2] >> i % 2 * 4 & 15);
            expected[i] =
                format == FP4_NVFP4
                    ? fp4_modelopt_nvfp4_value(code, fp4_modelopt_nvfp4_dec(of, global[round / 3]))
                : format == FP4_MXFP4 ? fp4_modelopt_mxfp4_value(code, of)
                                      : fp4_modelopt_mxfp8_value(q[i], of);
        }
        in = gpu_buffer_of(q, q_bytes, 0);
        in_sf = gpu_buffer_of(sf, LANES, 0);
        in_dec = gpu_buffer_of(dec, LANES * sizeof(float), 0);
        out = gpu_buffer_new(8 * LANES * sizeof(float), 0);
        for (size_t p = 0; p < PATHS; p++) {
            if (p == FAST_MATH) {
                continue; /* subnormals */
            }
            gpu_poison(out, 0x7f);
            GPU_OK(paths[p]->modelopt_dequantize((int)format, in.bytes, in_sf.bytes,
                                                 path_floats(in_dec), LANES, path_floats(out)));
            gpu_finish("modelopt_dequantize_x8");
            path_expect_floats(out, expected, "modelopt_dequantize_x8", paths[p]->name);
        }
        gpu_buffer_free(in);
        gpu_buffer_free(in_sf);
        gpu_buffer_free(in_dec);
        gpu_buffer_free(out);
    }
    free(q);
    free(sf);
    free(dec);
    free(expected);
}

/* What ModelOpt's rules make of an amax and an element, n apart. */
static void expect_modelopt_scales(float amax, float global_amax, float x, size_t n, float *out)
{
    const fp4_modelopt_factors factors = fp4_modelopt_convert_scale(amax, global_amax);
    const fp4_modelopt_factors alone = fp4_modelopt_convert_scale_alone(amax);

    out[0] = fp4_modelopt_scale(amax, global_amax, 448.0f);
    out[n] = fp4_modelopt_dynamic_scale(amax, global_amax);
    out[2 * n] = fp4_modelopt_qdq_scale(amax, fp4_modelopt_dynamic_dec(global_amax));
    out[3 * n] = factors.enc;
    out[4 * n] = factors.dec;
    out[5 * n] = fp4_modelopt_convert(x, factors);
    out[6 * n] = alone.enc;
    out[7 * n] = alone.dec;
    out[8 * n] = fp4_modelopt_convert(x, alone);
}

/* Amaxes of all magnitudes, and what next to none of them is: e4m3's ties and ends. */
GPU_TEST(blocks, modelopt_scales)
{
    static const float globals[] = {0.0f, 1e-30f, 0.37f, 6.0f, 2688.0f, 1e30f, INFINITY};
    enum { N = 20000, RESULTS = 9 };
    float *amax = (float *)host_zeros(N * sizeof(float));
    float *expected = (float *)host_zeros(RESULTS * N * sizeof(float));
    const gpu_buffer out = gpu_buffer_new(RESULTS * N * sizeof(float), 0);
    uint64_t state = 114;

    for (size_t g = 0; g < sizeof globals / sizeof globals[0]; g++) {
        const float global = globals[g];
        gpu_buffer in;
        for (size_t i = 0; i < N; i++) {
            const float most = isfinite(global) && global > 0.0f ? global : 1.0f;
            amax[i] = i == 0       ? 0.0f
                      : i == 1     ? INFINITY
                      : i % 2 != 0 ? host_random_scale(&state, -126, 126)
                                   : host_mul(most, host_random_scale(&state, -12, 1));
            expect_modelopt_scales(amax[i], global, fp4_mul_rn(amax[i], i % 3 == 0 ? -0.7f : 0.7f),
                                   N, expected + i);
        }
        in = gpu_buffer_of(amax, N * sizeof(float), 0);
        for (size_t p = 0; p < PATHS; p++) {
            if (p != FAST_MATH) {
                GPU_OK(paths[p]->modelopt_scales(path_floats(in), global, N, path_floats(out)));
                gpu_finish("modelopt_scales");
                path_expect_floats(out, expected, "modelopt_scales", paths[p]->name);
            }
        }
        gpu_buffer_free(in);
    }
    gpu_buffer_free(out);
    free(amax);
    free(expected);
}

/* ---------------------------------------------------------------- at random */

/* Scale bytes as ever, codes by the scalar function; blocks of all magnitudes, some with NaN. */
static void run_quantize_sr(fp4_format format, float global_enc, int infinities, uint64_t seed)
{
    const size_t lanes = gpu_is_reduced() ? 512 : 100000, each = format == FP4_NVFP4 ? 16 : 32;
    float *x = (float *)host_zeros(16 * lanes * sizeof(float));
    uint32_t *random = (uint32_t *)host_zeros(4 * lanes * sizeof(uint32_t));
    uint8_t *expected = (uint8_t *)host_zeros(9 * lanes);
    const gpu_buffer out = gpu_buffer_new(9 * lanes, 0);
    gpu_buffer in, in_random;
    uint64_t state = seed;

    for (size_t i = 0; i < 16 * lanes; i++) {
        const float power = values_power((int)(i / each % 60) - 30);
        const uint32_t which = host_below(&state, 40);
        x[i] = which == 0   ? 0.0f
               : which == 1 ? host_mul(0.5f * (float)host_below(&state, 13), power)
                            : host_mul(host_random_scale(&state, -4, 1), power);
        x[i] = host_below(&state, 2) != 0 ? -x[i] : x[i];
        x[i] = host_below(&state, 4000) == 0 ? NAN : x[i];
        x[i] = infinities && host_below(&state, 4000) == 0 ? -INFINITY : x[i];
    }
    for (size_t i = 0; i < 4 * lanes; i++) {
        random[i] = host_random(&state);
    }
    for (size_t i = 0; i < 16 * lanes; i++) {
        const size_t block = i / each * each, byte = i / 2;
        float amax = 0.0f;
        fp4_scale scale;
        for (size_t k = block; k < block + each; k++) {
            amax = fabsf(x[k]) > amax ? fabsf(x[k]) : amax;
        }
        scale = format == FP4_NVFP4 ? fp4_nvfp4_scale(amax, global_enc) : fp4_mxfp4_scale(amax);
        expected[byte] |= (uint8_t)(fp4_f32_to_e2m1_sr(host_mul(x[i], scale.enc),
                                                       (uint8_t)(random[i / 4] >> (8 * (i % 4))))
                                    << (4 * (i % 2)));
        expected[8 * lanes + i / 16] = scale.bits;
    }
    in = gpu_buffer_of(x, 16 * lanes * sizeof(float), 0);
    in_random = gpu_buffer_of(random, 4 * lanes * sizeof(uint32_t), 0);
    for (size_t p = 0; p < PATHS; p++) {
        uint8_t *got;
        if (p == FAST_MATH && format == FP4_MXFP4 && infinities) {
            continue; /* of an infinite block enc is subnormal */
        }
        gpu_poison(out, 0x7f);
        GPU_OK(paths[p]->quantize_sr((int)format, path_floats(in), global_enc,
                                     path_words(in_random), lanes, out.bytes,
                                     out.bytes + 8 * lanes));
        gpu_finish("quantize_sr");
        got = (uint8_t *)gpu_copy_of(out);
        host_expect_bytes(got, expected, 9 * lanes, paths[p]->name);
        free(got);
    }
    gpu_buffer_free(in);
    gpu_buffer_free(in_random);
    gpu_buffer_free(out);
    free(x);
    free(random);
    free(expected);
}

GPU_TEST(blocks, quantize_at_random)
{
    run_quantize_sr(FP4_NVFP4, 448.0f, 1, 120);
    run_quantize_sr(FP4_NVFP4, 0x1p70f, 1, 121); /* not moderate */
    run_quantize_sr(FP4_MXFP4, 1.0f, 1, 122);
    run_quantize_sr(FP4_MXFP4, 1.0f, 0, 123);
}

/* ---------------------------------------------------------------- packed */

/* Each code at each place, with every scale byte. */
GPU_TEST(blocks, codes_times_scales_to_f16_and_bf16)
{
    enum { LANES = 256 * 16 };
    uint32_t *q = (uint32_t *)host_zeros(2 * LANES * sizeof(uint32_t));
    uint8_t *sf = (uint8_t *)host_zeros(LANES);
    uint16_t *expected = (uint16_t *)host_zeros(16 * LANES * sizeof(uint16_t));
    const gpu_buffer out = gpu_buffer_new(16 * LANES * sizeof(uint16_t), 0);
    gpu_buffer in, in_sf;

    for (size_t i = 0; i < LANES; i++) {
        sf[i] = (uint8_t)(i / 16);
        for (size_t k = 0; k < 16; k++) {
            q[2 * i + k / 8] |= (uint32_t)((i + 5 * k) % 16) << (4 * (k % 8));
        }
    }
    in = gpu_buffer_of(q, 2 * LANES * sizeof(uint32_t), 0);
    in_sf = gpu_buffer_of(sf, LANES, 0);
    for (int how = 0; how < PARTS_PACKERS; how++) {
        for (size_t i = 0; i < 16 * LANES; i++) {
            const uint8_t code = (uint8_t)((i / 16 + 5 * (i % 16)) % 16);
            const float scale =
                how == MXFP4_TO_BF16X16 ? fp4_e8m0_to_f32(sf[i / 16]) : fp4_e4m3_to_f32(sf[i / 16]);
            const float value = host_mul(fp4_e2m1_to_f32(code), scale);
            expected[i] = how == NVFP4_TO_F16X16 ? fp4_f32_to_f16(value) : fp4_f32_to_bf16(value);
        }
        for (size_t p = 0; p < PATHS; p++) {
            uint8_t *got;
            gpu_poison(out, 0x55);
            GPU_OK(paths[p]->pack((parts_packer)how, path_words(in), in_sf.bytes, LANES,
                                  path_words(out)));
            gpu_finish("to_f16x16, to_bf16x16");
            got = (uint8_t *)gpu_copy_of(out);
            host_expect_bytes(got, (const uint8_t *)expected, 16 * LANES * sizeof(uint16_t),
                              paths[p]->name);
            free(got);
        }
    }
    gpu_buffer_free(in);
    gpu_buffer_free(in_sf);
    gpu_buffer_free(out);
    free(q);
    free(sf);
    free(expected);
}

/* ---------------------------------------------------------------- --use_fast_math */

/* x within 2^-60 .. 2^60, or zero, NaN, or, for NVFP4, infinite: with moderate scales nothing is
   subnormal on the way, and the bytes are those of the host. (The factor of an infinite amax is a
   subnormal power of two in the other formats.) */
static float without_subnormals(float x, int keep_infinity)
{
    const float magnitude = fabsf(x);

    if (isnan(x) || x == 0 || (isinf(x) && keep_infinity)) {
        return x;
    }
    return magnitude >= 0x1p-60f && magnitude <= 0x1p60f ? x : copysignf(1.0f, x);
}

GPU_TEST(fast_math, changes_no_byte_without_subnormals)
{
    for (int format = FP4_NVFP4; format <= FP4_MXFP8; format++) {
        values_list list = all_blocks();
        uint64_t state = 66;
        for (size_t i = 0; i < list.blocks * VALUES_BLOCK; i++) {
            list.x[i] = without_subnormals(list.x[i], format == FP4_NVFP4);
        }
        for (int is_scaled = 0; is_scaled < 2; is_scaled++) {
            const batch b = batch_of((fp4_format)format, &list);
            for (size_t i = 0; i < b.blocks; i++) {
                b.global_enc[i] = host_random_scale(&state, -30, 30);
                b.mul[i] = is_scaled ? host_random_scale(&state, -20, 20) : 1.0f;
            }
            batch_expect(&b, 0);
            run_batch(&b, is_scaled, FAST_MATH, FAST_MATH);
            batch_free(b);
        }
        free(list.x);
    }
}

/* What it does change, apart from the tests above that follow it everywhere: blocks of subnormals
   come out as zeros of their signs, where every other way gives them codes. */
GPU_TEST(fast_math, flushes_subnormal_elements)
{
    for (int format = FP4_MXFP4; format <= FP4_MXFP8; format++) {
        values_list list = {NULL, 0, 0};
        batch b;
        for (uint32_t i = 0; i < 200; i++) {
            float *x = values_add(&list);
            for (uint32_t k = 0; k < VALUES_BLOCK; k++) {
                const uint32_t any = (i * 32 + k + 1) * 0x9e3779b1u;
                x[k] = host_bits((any & 0x80000000u) | 0x400000u | (any & 0x3fffffu));
            }
        }
        b = batch_of((fp4_format)format, &list);
        for (size_t i = 0; i < b.blocks; i++) {
            b.global_enc[i] = b.mul[i] = 1.0f;
        }
        batch_expect(&b, 0);
        for (size_t i = 0; i < b.blocks * b.block; i++) {
            const unsigned code =
                format == FP4_MXFP8 ? b.q[i] & 0x7fu : b.q[i / 2] >> i % 2 * 4 & 7u;
            CHECK(code != 0, "a subnormal without a code, element %zu", i);
        }
        run_batch(&b, 0, 0, FAST_MATH - 1);
        memset(b.sf, 0, b.blocks);
        memset(b.q, 0, b.blocks * b.code_bytes);
        for (size_t i = 0; i < b.blocks * b.block; i++) {
            const unsigned sign = host_bits_of(b.x[i]) >> 31;
            b.q[format == FP4_MXFP8 ? i : i / 2] |=
                (uint8_t)(sign << (format == FP4_MXFP8 ? 7 : 3 + i % 2 * 4));
        }
        run_batch(&b, 0, FAST_MATH, FAST_MATH);
        batch_free(b);
        free(list.x);
    }
}

/* ---------------------------------------------------------------- dequantize */

static float code_value(fp4_format format, const uint8_t *q, size_t k)
{
    return format == FP4_MXFP8 ? fp4_e4m3_to_f32(q[k])
                               : fp4_e2m1_to_f32((uint8_t)(q[k / 2] >> k % 2 * 4));
}

typedef struct dequantizer {
    parts_dequantizer how;
    fp4_format format;
    size_t elements; /* of a lane */
    fp4_association association;
    int has_dec, has_sf;
    const char *name;
} dequantizer;

/* (code * scale) * dec or code * (scale * dec), without what a function does not have. */
static float decoded(const dequantizer *d, float code, float scale, float dec, int flush)
{
    if (!d->has_dec || !d->has_sf) {
        return path_mul(code, d->has_sf ? scale : dec, flush);
    }
    return d->association == FP4_SCALES_FIRST ? path_mul(code, path_mul(scale, dec, flush), flush)
                                              : path_mul(path_mul(code, scale, flush), dec, flush);
}

/* Every byte of codes at every place of a lane with every scale byte, and several global_dec. With
   --use_fast_math the same with subnormals flushed at each step: decoded e8m0 byte 0, products. */
static void run_dequantizer(const dequantizer *d)
{
    static const float decs[] = {1.0f,        1.0f / 2688.0f, 0x1p-149f, 0x1p-126f, 0x1.8p-128f,
                                 FP4_F32_MAX, 0x1p100f,       0.3f,      0x1p-120f};
    const size_t bytes = fp4_q_bytes(d->format, 1, d->elements);
    const size_t lanes = gpu_is_reduced() ? 512 : 65536, n = lanes * d->elements;
    uint8_t *q = (uint8_t *)host_zeros(lanes * bytes), *sf = (uint8_t *)host_zeros(lanes);
    float *dec = (float *)host_zeros(lanes * sizeof(float));
    float *expected = (float *)host_zeros(2 * n * sizeof(float)), *flushed = expected + n;
    gpu_buffer in_q, in_sf, in_dec, out = gpu_buffer_new(n * sizeof(float), 0);
    size_t differing = 0;

    for (size_t i = 0; i < lanes; i++) {
        sf[i] = (uint8_t)i;
        dec[i] = decs[i % (sizeof decs / sizeof decs[0])];
        for (size_t k = 0; k < bytes; k++) {
            q[i * bytes + k] = (uint8_t)(i / 256 + 41 * k);
        }
        for (size_t k = i * d->elements; k < (i + 1) * d->elements; k++) {
            const float code = code_value(d->format, q, k);
            const float scale = fp4_sf_to_f32(d->format, sf[i]);
            expected[k] = decoded(d, code, scale, dec[i], 0);
            flushed[k] = decoded(d, code, scale, dec[i], 1);
            differing += path_value_bits(expected[k]) != path_value_bits(flushed[k]);
        }
    }
    CHECK(differing > 0, "flushing changes nothing here");
    in_q = gpu_buffer_of(q, lanes * bytes, 0);
    in_sf = gpu_buffer_of(sf, lanes, 0);
    in_dec = gpu_buffer_of(dec, lanes * sizeof(float), 0);
    for (size_t p = 0; p < PATHS; p++) {
        gpu_poison(out, 0x7f);
        GPU_OK(paths[p]->dequantize(d->how, path_words(in_q), in_sf.bytes, path_floats(in_dec),
                                    lanes, path_floats(out)));
        path_expect_floats(out, p == FAST_MATH ? flushed : expected, d->name, paths[p]->name);
    }
    gpu_buffer_free(in_q);
    gpu_buffer_free(in_sf);
    gpu_buffer_free(in_dec);
    gpu_buffer_free(out);
    free(q);
    free(sf);
    free(dec);
    free(expected);
}

static const dequantizer dequantizers[] = {
    {DEQUANTIZE_NVFP4, FP4_NVFP4, 16, FP4_CODE_FIRST, 1, 1, "nvfp4_dequantize"},
    {DEQUANTIZE_NVFP4_SCALES_FIRST, FP4_NVFP4, 16, FP4_SCALES_FIRST, 1, 1,
     "nvfp4_dequantize_scales_first"},
    {DEQUANTIZE_NVFP4_X8, FP4_NVFP4, 8, FP4_CODE_FIRST, 1, 1, "e2m1x8_dequantize, nvfp4_dec"},
    {DEQUANTIZE_NVFP4_SCALES_FIRST_X8, FP4_NVFP4, 8, FP4_SCALES_FIRST, 1, 1,
     "e2m1x8_dequantize, nvfp4_dec, scales first"},
    {DEQUANTIZE_NVFP4_UNITS_X8, FP4_NVFP4, 8, FP4_CODE_FIRST, 1, 1, "e2m1x8_times_e4m3_to_units"},
    {DEQUANTIZE_MXFP4, FP4_MXFP4, 32, FP4_CODE_FIRST, 0, 1, "mxfp4_dequantize"},
    {DEQUANTIZE_MXFP4_X16, FP4_MXFP4, 16, FP4_CODE_FIRST, 0, 1, "mxfp4_dequantize_x16"},
    {DEQUANTIZE_MXFP4_X8, FP4_MXFP4, 8, FP4_CODE_FIRST, 0, 1, "e2m1x8_dequantize, mxfp4_dec"},
    {DEQUANTIZE_MXFP8, FP4_MXFP8, 32, FP4_CODE_FIRST, 0, 1, "mxfp8_dequantize"},
    {DEQUANTIZE_MXFP8_X16, FP4_MXFP8, 16, FP4_CODE_FIRST, 0, 1, "mxfp8_dequantize_x16"},
    {DEQUANTIZE_MXFP8_X8, FP4_MXFP8, 8, FP4_CODE_FIRST, 0, 1, "e4m3x8_dequantize"},
    {DEQUANTIZE_E2M1_X8, FP4_MXFP4, 8, FP4_CODE_FIRST, 1, 0, "e2m1x8_dequantize, dec_of"}};

static void run_dequantizers(fp4_format format)
{
    for (size_t i = 0; i < sizeof dequantizers / sizeof dequantizers[0]; i++) {
        if (dequantizers[i].format == format) {
            run_dequantizer(&dequantizers[i]);
        }
    }
}

GPU_TEST(blocks, dequantize_nvfp4)
{
    run_dequantizers(FP4_NVFP4);
}

GPU_TEST(blocks, dequantize_mxfp4)
{
    run_dequantizers(FP4_MXFP4);
}

GPU_TEST(blocks, dequantize_mxfp8)
{
    run_dequantizers(FP4_MXFP8);
}
