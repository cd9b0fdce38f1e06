/*
 * fp4/host/quant.h - the reference: quantize and dequantize whole matrices on the host.
 *
 *     function                          second-level scale              block scale rule (scale.h)
 *     fp4_ref_nvfp4_quantize            one global_enc                  fp4_nvfp4_scale
 *     fp4_ref_nvfp4_quantize_rows       row_enc[r], given               fp4_nvfp4_scale
 *     fp4_ref_nvfp4_quantize_tokens     from each row's amax            fp4_nvfp4_scale
 *     fp4_ref_mxfp4_quantize            none                            fp4_mxfp4_scale
 *       ..._floor, ..._ceil, ..._even                                   fp4_mxfp4_scale_floor, ...
 *     fp4_ref_mxfp8_quantize            none                            fp4_mxfp8_scale
 *       ..._floor, ..._ceil, ..._even                                   fp4_mxfp8_scale_floor, ...
 *     fp4_ref_nvfp4_quantize_scaled     one global_enc                  of a row times a factor
 *     fp4_ref_mxfp4_quantize_scaled     none                            of a row times a factor
 *     fp4_ref_mxfp8_quantize_scaled     none                            of a row times a factor
 *     fp4_ref_quantize, ..._scaled      the one of these that t->format says
 *     fp4_ref_dequantize, ..._to        read from the tensor
 *     fp4_ref_dequantize_blocks         given; blocks of any length
 *
 * t->format says which length of block: FP4_NVFP4 or FP4_NVFP4_32, FP4_MXFP4 or FP4_MXFP4_16.
 *
 * What all of them share:
 *
 * shape    x: rows x cols of any dtype, any row_stride >= cols. t: the same rows;
 *          the same cols or more, both whole blocks: what x lacks on the right gets codes and
 *          scales of 0x00. rows = 0 or cols = 0 is fine: no codes, no scales.
 *          row_enc, row_dec, mul: aligned as floats are, one for each row; so is a pointer to one
 *          float. Everything else: any alignment. No output overlaps an input or another output,
 *          but for row_dec, which may be row_enc.
 * writes   t->q, t->sf with its padding as 0x00, and the second-level scale in decode sense: to
 *          t->global_dec (1 where there is none), or one float a row to t->row_dec, which must be
 *          null where it is not used. Not a byte past the advertised sizes.
 * errors   FP4_BAD_SHAPE, FP4_BAD_STRIDE, FP4_SMALL_BUFFER, FP4_NULL, FP4_BAD_SCALE, FP4_BAD_TYPE
 *          (t of another format, or with a row_dec it has no use for); then nothing is written.
 * range    global scales: positive and finite, and so their reciprocals (over 2^-128).
 *          NaN, infinities, zeros, subnormals: as scale.h and the element headers say.
 * threads  reentrant. Compiled with -fopenmp, rows are spread over the cores; same bytes.
 *
 * The rules are the scalar functions of include/fp4; there is no second copy of any of them here.
 * They run over short chunks of a row, one step of the recipe at a time, in loops that gcc -O3 and
 * clang -O3 vectorise (-march=x86-64-v3; `make bench` measures them).
 */
#ifndef FP4_HOST_QUANT_H
#define FP4_HOST_QUANT_H

#include <fp4/host/tensor.h>

#include <string.h>

#if defined(_OPENMP)
/* not for a few rows: starting threads would take longer than the work */
#define FP4_REF_PARALLEL_ROWS_ \
    _Pragma("omp parallel for schedule(static) if (t->rows * t->cols > 65536)")
#else
#define FP4_REF_PARALLEL_ROWS_
#endif

/* -------------------------------------------------------------------------------- checks */

/* Positive and finite, x and 1/x, which is infinite up to 2^-128. */
static inline int fp4_invertible_(float x)
{
    return fp4_is_positive_finite_(x) && fp4_is_positive_finite_(fp4_rcp_rn(x));
}

/* What a tensor's second-level scale may be: not negative, not NaN, and finite unless the per-token
   recipe can have written it. */
static inline fp4_status fp4_ref_check_dec_(const fp4_tensor *t)
{
    size_t row;

    if (t->row_dec == NULL) {
        return fp4_f32_bits(t->global_dec) < 0x7f800000u ? FP4_OK : FP4_BAD_SCALE;
    }
    for (row = 0; row < t->rows && t->cols != 0; row++) {
        if (fp4_f32_bits(t->row_dec[row]) > 0x7f800000u) {
            return FP4_BAD_SCALE;
        }
    }
    return FP4_OK;
}

/* The matrix can be read. */
static inline fp4_status fp4_ref_check_matrix_(const fp4_matrix *x)
{
    if ((unsigned)x->dtype > FP4_E4M3) {
        return FP4_BAD_TYPE;
    }
    if (x->row_stride < x->cols) {
        return FP4_BAD_STRIDE;
    }
    if (fp4_overflows_(x->rows, x->row_stride) ||
        fp4_overflows_(x->rows * x->row_stride, fp4_dtype_bytes(x->dtype))) {
        return FP4_BAD_SHAPE;
    }
    if (x->dtype == FP4_E4M3 && !fp4_is_positive_finite_(x->dec)) {
        return FP4_BAD_SCALE;
    }
    return x->rows != 0 && x->cols != 0 && x->data == NULL ? FP4_NULL : FP4_OK;
}

/* The tensor's buffers hold what its shape says. */
static inline fp4_status fp4_ref_check_tensor_(const fp4_tensor *t)
{
    size_t sf_cols;

    if ((unsigned)t->format > FP4_MXFP4_16 || (unsigned)t->layout > FP4_LAYOUT_LINEAR) {
        return FP4_BAD_TYPE;
    }
    sf_cols = t->cols / fp4_format_block(t->format);
    if (t->cols % fp4_format_block(t->format) != 0 || t->rows > SIZE_MAX - 127 ||
        fp4_overflows_(t->rows, t->cols) ||
        fp4_overflows_(fp4_sf_rows_padded(t->layout, t->rows),
                       fp4_sf_cols_padded(t->layout, sf_cols))) {
        return FP4_BAD_SHAPE;
    }
    if (t->rows == 0 || t->cols == 0) {
        return FP4_OK;
    }
    if (t->q == NULL || t->sf == NULL) {
        return FP4_NULL;
    }
    if (t->q_bytes < fp4_q_bytes(t->format, t->rows, t->cols) ||
        t->sf_bytes < fp4_sf_bytes(t->layout, t->rows, sf_cols) ||
        (t->row_dec != NULL && t->row_dec_bytes / sizeof(float) < t->rows)) {
        return FP4_SMALL_BUFFER;
    }
    return FP4_OK;
}

/* x can be quantized into t, which is of one of two formats. */
static inline fp4_status fp4_ref_check_(const fp4_matrix *x, const fp4_tensor *t, fp4_format format,
                                        fp4_format or_format)
{
    fp4_status status;

    if (t == NULL) {
        return FP4_NULL;
    }
    if (t->format != format && t->format != or_format) {
        return FP4_BAD_TYPE;
    }
    if (x->rows != t->rows || x->cols > t->cols || x->cols % fp4_format_block(t->format) != 0) {
        return FP4_BAD_SHAPE;
    }
    status = fp4_ref_check_matrix_(x);
    return status != FP4_OK ? status : fp4_ref_check_tensor_(t);
}

/* -------------------------------------------------------------------------------- steps */

/* A chunk is what is worked on at a time: whole blocks of either length, small enough for the stack
   and the first-level cache, long enough for vector loops. */
#define FP4_REF_CHUNK_ 512

/* Elements of the next chunk, where so many are left. */
static inline size_t fp4_ref_chunk_(size_t left)
{
    return left < FP4_REF_CHUNK_ ? left : FP4_REF_CHUNK_;
}

/* n <= FP4_REF_CHUNK_ elements of a row, as f32. memcpy first, since x has any alignment. */
static inline void fp4_ref_load_(float *out, const fp4_matrix *x, size_t row, size_t col, size_t n)
{
    const size_t size = fp4_dtype_bytes(x->dtype);
    const uint8_t *from = (const uint8_t *)x->data + (row * x->row_stride + col) * size;
    uint16_t half[FP4_REF_CHUNK_];
    uint8_t byte[FP4_REF_CHUNK_];
    size_t i;

    switch (x->dtype) {
    case FP4_F32:
        memcpy(out, from, n * sizeof(float));
        break;
    case FP4_F16:
        memcpy(half, from, n * sizeof(uint16_t));
        for (i = 0; i < n; i++) {
            out[i] = fp4_f16_to_f32(half[i]);
        }
        break;
    case FP4_BF16:
        memcpy(half, from, n * sizeof(uint16_t));
        for (i = 0; i < n; i++) {
            out[i] = fp4_bf16_to_f32(half[i]);
        }
        break;
    case FP4_E4M3:
        memcpy(byte, from, n);
        for (i = 0; i < n; i++) {
            out[i] = fp4_mul_rn(fp4_e4m3_to_f32(byte[i]), x->dec);
        }
        break;
    }
}

/* amax of n elements; n is a constant where it matters. */
static inline float fp4_ref_amax_(const float *x, size_t n)
{
    uint32_t key = 0;
    size_t i;

    for (i = 0; i < n; i++) {
        key = fp4_max_u32(key, fp4_amax_key(x[i]));
    }
    return fp4_bits_f32(key);
}

/* That of n elements from column col of row r. */
static inline float fp4_ref_amax_of_(const fp4_matrix *x, size_t row, size_t col, size_t n)
{
    const size_t end = col + n;
    float chunk[FP4_REF_CHUNK_], amax = 0.0f;

    for (; col < end; col += n) {
        n = fp4_ref_chunk_(end - col);
        fp4_ref_load_(chunk, x, row, col, n);
        amax = fp4_max(fp4_ref_amax_(chunk, n), amax);
    }
    return amax;
}

/* The same, but NaN of nothing but NaN. */
static inline float fp4_ref_amax_of_numbers_(const fp4_matrix *x, size_t row, size_t col, size_t n)
{
    const float amax = fp4_ref_amax_of_(x, row, col, n);
    float number = fp4_bits_f32(0x7fc00000u);
    size_t i;

    for (i = 0; amax == 0.0f && fp4_is_nan(number) && i < n; i++) {
        fp4_ref_load_(&number, x, row, col + i, 1);
    }
    return amax == 0.0f && fp4_is_nan(number) ? fp4_bits_f32(0x7fc00000u) : amax;
}

/* The number of row r: one for each `per` of them, one for all where that is 0, or `all`. */
static inline float fp4_ref_global_of_(const float *globals, size_t per, size_t row, float all)
{
    return globals == NULL ? all : globals[per != 0 ? row / per : 0];
}

/* The code of an element. */
static inline uint8_t fp4_ref_code_(const fp4_tensor *t, size_t row, size_t col)
{
    const uint8_t *q = t->q + fp4_q_bytes(t->format, row, t->cols);
    return (uint8_t)(t->format == FP4_MXFP8 ? q[col] : q[col / 2] >> (col % 2 * 4) & 15);
}

/* The block scale rules, by name, so that one body serves them all. */
typedef enum fp4_ref_rule_ {
    FP4_REF_NVFP4_,
    FP4_REF_MXFP4_,
    FP4_REF_MXFP4_FLOOR_,
    FP4_REF_MXFP4_CEIL_,
    FP4_REF_MXFP4_EVEN_,
    FP4_REF_MXFP8_,
    FP4_REF_MXFP8_FLOOR_,
    FP4_REF_MXFP8_CEIL_,
    FP4_REF_MXFP8_EVEN_
} fp4_ref_rule_;

/* That of a format without another name. */
static inline fp4_ref_rule_ fp4_ref_rule_of_(fp4_format format)
{
    return fp4_format_is_nvfp4(format) ? FP4_REF_NVFP4_
           : format == FP4_MXFP8       ? FP4_REF_MXFP8_
                                       : FP4_REF_MXFP4_;
}

static inline fp4_scale fp4_ref_scale_(fp4_ref_rule_ rule, float amax, float global_enc)
{
    switch (rule) {
    case FP4_REF_MXFP4_:
        return fp4_mxfp4_scale(amax);
    case FP4_REF_MXFP4_FLOOR_:
        return fp4_mxfp4_scale_floor(amax);
    case FP4_REF_MXFP4_CEIL_:
        return fp4_mxfp4_scale_ceil(amax);
    case FP4_REF_MXFP4_EVEN_:
        return fp4_mxfp4_scale_even(amax);
    case FP4_REF_MXFP8_:
        return fp4_mxfp8_scale(amax);
    case FP4_REF_MXFP8_FLOOR_:
        return fp4_mxfp8_scale_floor(amax);
    case FP4_REF_MXFP8_CEIL_:
        return fp4_mxfp8_scale_ceil(amax);
    case FP4_REF_MXFP8_EVEN_:
        return fp4_mxfp8_scale_even(amax);
    case FP4_REF_NVFP4_:
        break;
    }
    return fp4_nvfp4_scale(amax, global_enc);
}

/* amax of x * mul, from that of x, whatever the sign of mul: 0 where the product is NaN. */
static inline float fp4_ref_amax_times_(float amax, float mul)
{
    return mul == 1.0f ? amax : fp4_bits_f32(fp4_amax_key(fp4_mul_rn(amax, mul)));
}

/* A factor for x * mul, as one for x. */
static inline float fp4_ref_enc_times_(float enc, float mul)
{
    const float factor = fp4_mul_rn(mul, enc);
    return mul == 1.0f             ? enc
           : factor > FP4_F32_MAX  ? FP4_F32_MAX
           : factor < -FP4_F32_MAX ? -FP4_F32_MAX
                                   : factor; /* NaN stays NaN */
}

/* x[i] *= the factor of its block, scale bytes to sf. It is x * mul that is quantized, without
   being formed; 1 for x itself. */
static inline void fp4_ref_scale_blocks_(float *x, uint8_t *sf, size_t n, size_t block,
                                         fp4_ref_rule_ rule, float global_enc, float mul)
{
    size_t b, i;

    for (b = 0; b < n / block; b++) {
        float *v = x + b * block;
        const float amax = fp4_ref_amax_times_(fp4_ref_amax_(v, block), mul);
        const fp4_scale scale = fp4_ref_scale_(rule, amax, global_enc);
        const float enc = fp4_ref_enc_times_(scale.enc, mul);
        for (i = 0; i < block; i++) {
            v[i] = fp4_mul_rn(v[i], enc);
        }
        sf[b] = scale.bits;
    }
}

/* n codes of e2m1 to n/2 bytes, the even element in the low nibble. */
static inline void fp4_ref_pack_(uint8_t *q, const uint8_t *code, size_t n)
{
    size_t i;

    for (i = 0; i < n / 2; i++) {
        q[i] = (uint8_t)(code[2 * i] | code[2 * i + 1] << 4);
    }
}

/* n scaled elements to n/2 bytes of e2m1, or n bytes of e4m3. */
static inline void fp4_ref_encode_(uint8_t *q, const float *x, size_t n, fp4_format format)
{
    uint8_t code[FP4_REF_CHUNK_];
    size_t i;

    if (format == FP4_MXFP8) {
        for (i = 0; i < n; i++) {
            q[i] = fp4_f32_to_e4m3(x[i]);
        }
        return;
    }
    for (i = 0; i < n; i++) {
        code[i] = fp4_f32_to_e2m1(x[i]);
    }
    fp4_ref_pack_(q, code, n);
}

/* n elements into t, from column col of row: codes and scale bytes. Whole blocks of a chunk, which
   are scaled in place. */
static inline void fp4_ref_put_(const fp4_tensor *t, size_t row, size_t col, float *chunk, size_t n,
                                fp4_ref_rule_ rule, float global_enc, float mul)
{
    const size_t block = fp4_format_block(t->format);
    const size_t sf_cols = t->cols / block;
    uint8_t *q = t->q + fp4_q_bytes(t->format, row, t->cols) + fp4_q_bytes(t->format, 1, col);
    uint8_t sf[FP4_REF_CHUNK_ / 16];
    size_t b;

    if (block == 16) {
        fp4_ref_scale_blocks_(chunk, sf, n, 16, rule, global_enc, mul);
    } else {
        fp4_ref_scale_blocks_(chunk, sf, n, 32, rule, global_enc, mul);
    }
    fp4_ref_encode_(q, chunk, n, t->format);
    for (b = 0; b < n / block; b++) {
        t->sf[fp4_sf_offset(t->layout, row, col / block + b, sf_cols)] = sf[b];
    }
}

/* One row: codes, scale bytes, and zeros where t is wider than x. */
static inline void fp4_ref_quantize_row_(const fp4_matrix *x, const fp4_tensor *t, size_t row,
                                         fp4_ref_rule_ rule, float global_enc, float mul)
{
    uint8_t *q = t->q + fp4_q_bytes(t->format, row, t->cols);
    float chunk[FP4_REF_CHUNK_];
    size_t col, n;

    for (col = 0; col < x->cols; col += n) {
        n = fp4_ref_chunk_(x->cols - col);
        fp4_ref_load_(chunk, x, row, col, n);
        fp4_ref_put_(t, row, col, chunk, n, rule, global_enc, mul);
    }
    memset(q + fp4_q_bytes(t->format, 1, x->cols), 0, fp4_q_bytes(t->format, 1, t->cols - x->cols));
}

/* -------------------------------------------------------------------------------- quantize */

/* Where a row's encode scale comes from: row_enc[r]; else the row's amax and base_dec, if that is
   not 0; else global_enc. */
typedef struct fp4_ref_second_level_ {
    float global_enc;
    const float *row_enc;
    float base_dec;
} fp4_ref_second_level_;

static inline float fp4_ref_row_enc_(const fp4_matrix *x, const fp4_tensor *t, size_t row,
                                     const fp4_ref_second_level_ *level)
{
    float amax, enc;

    if (level->row_enc != NULL) {
        enc = level->row_enc[row];
        t->row_dec[row] = fp4_nvfp4_global_dec(enc);
        return enc;
    }
    if (level->base_dec == 0.0f) {
        return level->global_enc;
    }
    amax = fp4_ref_amax_of_(x, row, 0, x->cols);
    enc = fp4_nvfp4_token_enc(amax, level->base_dec);
    t->row_dec[row] = fp4_nvfp4_token_dec(amax, enc);
    return enc;
}

/* Zeros where the padding is, before rows overwrite what is theirs: as many rows as it answers. */
static inline ptrdiff_t fp4_ref_begin_(const fp4_tensor *t)
{
    if (t->rows == 0 || t->cols == 0) {
        return 0;
    }
    memset(t->sf, 0, fp4_sf_bytes(t->layout, t->rows, t->cols / fp4_format_block(t->format)));
    return (ptrdiff_t)t->rows;
}

/* Everything has been checked. mul: null, or what each row is multiplied by. */
static inline fp4_status fp4_ref_quantize_(const fp4_matrix *x, const float *mul, fp4_tensor *t,
                                           fp4_ref_rule_ rule, fp4_ref_second_level_ level)
{
    const ptrdiff_t rows = fp4_ref_begin_(t);
    ptrdiff_t row;

    FP4_REF_PARALLEL_ROWS_
    for (row = 0; row < rows; row++) {
        const float enc = fp4_ref_row_enc_(x, t, (size_t)row, &level);
        fp4_ref_quantize_row_(x, t, (size_t)row, rule, enc, mul == NULL ? 1.0f : mul[row]);
    }
    return FP4_OK;
}

/* One factor for each row of t, finite or NaN; or, where none are asked for, none. */
static inline fp4_status fp4_ref_check_mul_(int is_scaled, const float *mul, const fp4_tensor *t)
{
    size_t row;

    if (!is_scaled || t->cols == 0) {
        return FP4_OK;
    }
    if (mul == NULL && t->rows != 0) {
        return FP4_NULL;
    }
    for (row = 0; row < t->rows; row++) {
        if ((fp4_f32_bits(mul[row]) & 0x7fffffffu) == 0x7f800000u) {
            return FP4_BAD_SCALE;
        }
    }
    return FP4_OK;
}

static inline fp4_status fp4_ref_nvfp4_quantize_(fp4_matrix x, int is_scaled, const float *mul,
                                                 float global_enc, fp4_tensor *t)
{
    const fp4_ref_second_level_ level = {global_enc, NULL, 0.0f};
    fp4_status status = fp4_ref_check_(&x, t, FP4_NVFP4, FP4_NVFP4_32);

    status = status != FP4_OK ? status : fp4_ref_check_mul_(is_scaled, mul, t);
    if (status != FP4_OK) {
        return status;
    }
    if (t->row_dec != NULL) {
        return FP4_BAD_TYPE;
    }
    if (!fp4_invertible_(global_enc)) {
        return FP4_BAD_SCALE;
    }
    t->global_dec = fp4_nvfp4_global_dec(global_enc);
    return fp4_ref_quantize_(&x, mul, t, FP4_REF_NVFP4_, level);
}

/** NVFP4 with one global scale: see fp4_nvfp4_global_enc. Sets t->global_dec = 1 / global_enc. */
static inline fp4_status fp4_ref_nvfp4_quantize(fp4_matrix x, float global_enc, fp4_tensor *t)
{
    return fp4_ref_nvfp4_quantize_(x, 0, NULL, global_enc, t);
}

/**
 * Row r of x times mul[r], whose product is not formed: the host twin of fp4_nvfp4_quantize_scaled
 * (device/quant.cuh), for kernels that end in a factor common to the row.
 *
 *     A = (amax of x in the block) * |mul|       code = round( x * (mul * enc) )
 *
 * mul * enc being at most FLT_MAX, whatever its sign.
 *
 * range    mul: finite; or NaN, and codes are those of NaN elements. Infinite: FP4_BAD_SCALE.
 */
static inline fp4_status fp4_ref_nvfp4_quantize_scaled(fp4_matrix x, const float *mul,
                                                       float global_enc, fp4_tensor *t)
{
    return fp4_ref_nvfp4_quantize_(x, 1, mul, global_enc, t);
}

/** NVFP4 with a given scale for each row: row_enc[0..rows). Writes t->row_dec[r] = 1/row_enc[r]. */
static inline fp4_status fp4_ref_nvfp4_quantize_rows(fp4_matrix x, const float *row_enc,
                                                     fp4_tensor *t)
{
    const fp4_ref_second_level_ level = {1.0f, row_enc, 0.0f};
    const fp4_status status = fp4_ref_check_(&x, t, FP4_NVFP4, FP4_NVFP4_32);
    size_t row;

    if (status != FP4_OK) {
        return status;
    }
    if (x.rows != 0 && t->cols != 0 && (row_enc == NULL || t->row_dec == NULL)) {
        return FP4_NULL;
    }
    for (row = 0; row < x.rows && t->cols != 0; row++) {
        if (!fp4_invertible_(row_enc[row])) {
            return FP4_BAD_SCALE;
        }
    }
    t->global_dec = 1.0f;
    return fp4_ref_quantize_(&x, NULL, t, FP4_REF_NVFP4_, level);
}

/**
 * NVFP4 with a scale from each row's own amax (fp4_nvfp4_token_enc), base_dec usually 1/2688.
 * Writes it, in decode sense, to t->row_dec; 0 for a row of zeros.
 */
static inline fp4_status fp4_ref_nvfp4_quantize_tokens(fp4_matrix x, float base_dec, fp4_tensor *t)
{
    const fp4_ref_second_level_ level = {1.0f, NULL, base_dec};
    const fp4_status status = fp4_ref_check_(&x, t, FP4_NVFP4, FP4_NVFP4_32);

    if (status != FP4_OK) {
        return status;
    }
    if (x.rows != 0 && t->cols != 0 && t->row_dec == NULL) {
        return FP4_NULL;
    }
    if (!fp4_invertible_(base_dec)) {
        return FP4_BAD_SCALE;
    }
    t->global_dec = 1.0f;
    return fp4_ref_quantize_(&x, NULL, t, FP4_REF_NVFP4_, level);
}

/* A format without a second-level scale. */
static inline fp4_status fp4_ref_mx_scaled_(fp4_matrix x, int is_scaled, const float *mul,
                                            fp4_tensor *t, fp4_format format, fp4_format or_format,
                                            fp4_ref_rule_ rule)
{
    const fp4_ref_second_level_ level = {1.0f, NULL, 0.0f};
    fp4_status status = fp4_ref_check_(&x, t, format, or_format);

    status = status != FP4_OK ? status : fp4_ref_check_mul_(is_scaled, mul, t);
    if (status != FP4_OK) {
        return status;
    }
    if (t->row_dec != NULL) {
        return FP4_BAD_TYPE;
    }
    t->global_dec = 1.0f;
    return fp4_ref_quantize_(&x, mul, t, rule, level);
}

static inline fp4_status fp4_ref_mx_quantize_(fp4_matrix x, fp4_tensor *t, fp4_format format,
                                              fp4_format or_format, fp4_ref_rule_ rule)
{
    return fp4_ref_mx_scaled_(x, 0, NULL, t, format, or_format, rule);
}

/** MXFP4, scales rounded up: the default. */
static inline fp4_status fp4_ref_mxfp4_quantize(fp4_matrix x, fp4_tensor *t)
{
    return fp4_ref_mx_quantize_(x, t, FP4_MXFP4, FP4_MXFP4_16, FP4_REF_MXFP4_);
}

/** Row r of x times mul[r], as fp4_ref_nvfp4_quantize_scaled has it. */
static inline fp4_status fp4_ref_mxfp4_quantize_scaled(fp4_matrix x, const float *mul,
                                                       fp4_tensor *t)
{
    return fp4_ref_mx_scaled_(x, 1, mul, t, FP4_MXFP4, FP4_MXFP4_16, FP4_REF_MXFP4_);
}

/** MXFP4 by OCP's floor rule. */
static inline fp4_status fp4_ref_mxfp4_quantize_floor(fp4_matrix x, fp4_tensor *t)
{
    return fp4_ref_mx_quantize_(x, t, FP4_MXFP4, FP4_MXFP4_16, FP4_REF_MXFP4_FLOOR_);
}

/** MXFP4 by the ceil rule. */
static inline fp4_status fp4_ref_mxfp4_quantize_ceil(fp4_matrix x, fp4_tensor *t)
{
    return fp4_ref_mx_quantize_(x, t, FP4_MXFP4, FP4_MXFP4_16, FP4_REF_MXFP4_CEIL_);
}

/** MXFP4 by the even rule. */
static inline fp4_status fp4_ref_mxfp4_quantize_even(fp4_matrix x, fp4_tensor *t)
{
    return fp4_ref_mx_quantize_(x, t, FP4_MXFP4, FP4_MXFP4_16, FP4_REF_MXFP4_EVEN_);
}

/** MXFP8, scales rounded up: the default. */
static inline fp4_status fp4_ref_mxfp8_quantize(fp4_matrix x, fp4_tensor *t)
{
    return fp4_ref_mx_quantize_(x, t, FP4_MXFP8, FP4_MXFP8, FP4_REF_MXFP8_);
}

/** Row r of x times mul[r], as fp4_ref_nvfp4_quantize_scaled has it. */
static inline fp4_status fp4_ref_mxfp8_quantize_scaled(fp4_matrix x, const float *mul,
                                                       fp4_tensor *t)
{
    return fp4_ref_mx_scaled_(x, 1, mul, t, FP4_MXFP8, FP4_MXFP8, FP4_REF_MXFP8_);
}

/** MXFP8 by OCP's floor rule. */
static inline fp4_status fp4_ref_mxfp8_quantize_floor(fp4_matrix x, fp4_tensor *t)
{
    return fp4_ref_mx_quantize_(x, t, FP4_MXFP8, FP4_MXFP8, FP4_REF_MXFP8_FLOOR_);
}

/** MXFP8 by the ceil rule. */
static inline fp4_status fp4_ref_mxfp8_quantize_ceil(fp4_matrix x, fp4_tensor *t)
{
    return fp4_ref_mx_quantize_(x, t, FP4_MXFP8, FP4_MXFP8, FP4_REF_MXFP8_CEIL_);
}

/** MXFP8 by the even rule. */
static inline fp4_status fp4_ref_mxfp8_quantize_even(fp4_matrix x, fp4_tensor *t)
{
    return fp4_ref_mx_quantize_(x, t, FP4_MXFP8, FP4_MXFP8, FP4_REF_MXFP8_EVEN_);
}

/* -------------------------------------------------------------------------------- any format */

/** fp4_ref_nvfp4_quantize, fp4_ref_mxfp4_quantize or fp4_ref_mxfp8_quantize, as t->format says;
    formats without a second level ignore global_enc. */
static inline fp4_status fp4_ref_quantize(fp4_matrix x, float global_enc, fp4_tensor *t)
{
    if (t != NULL && fp4_format_is_nvfp4(t->format)) {
        return fp4_ref_nvfp4_quantize(x, global_enc, t);
    }
    return t != NULL && t->format == FP4_MXFP8 ? fp4_ref_mxfp8_quantize(x, t)
                                               : fp4_ref_mxfp4_quantize(x, t);
}

/** The same of row r of x times mul[r]: fp4_ref_nvfp4_quantize_scaled and its like. */
static inline fp4_status fp4_ref_quantize_scaled(fp4_matrix x, const float *mul, float global_enc,
                                                 fp4_tensor *t)
{
    if (t != NULL && fp4_format_is_nvfp4(t->format)) {
        return fp4_ref_nvfp4_quantize_scaled(x, mul, global_enc, t);
    }
    return t != NULL && t->format == FP4_MXFP8 ? fp4_ref_mxfp8_quantize_scaled(x, mul, t)
                                               : fp4_ref_mxfp4_quantize_scaled(x, mul, t);
}

/* -------------------------------------------------------------------------------- amax */

/**
 * The largest |x| of the matrix, NaN left out; 0 for an empty one, infinity where there is one.
 *
 * errors   FP4_BAD_SHAPE, FP4_BAD_STRIDE, FP4_NULL, FP4_BAD_SCALE, FP4_BAD_TYPE; nothing written.
 */
static inline fp4_status fp4_ref_amax(fp4_matrix x, float *amax)
{
    const fp4_status status = fp4_ref_check_matrix_(&x);
    size_t row;
    float all = 0.0f;

    if (status != FP4_OK) {
        return status;
    }
    if (amax == NULL) {
        return FP4_NULL;
    }
    for (row = 0; x.cols != 0 && row < x.rows; row++) {
        all = fp4_max(fp4_ref_amax_of_(&x, row, 0, x.cols), all);
    }
    *amax = all;
    return FP4_OK;
}

/**
 * The amax of each block of `block` elements of a row, any length that divides the columns, NaN
 * left out: rows * cols / block floats, row-major.
 *
 * errors   as fp4_ref_amax; FP4_BAD_SHAPE for another length, FP4_SMALL_BUFFER; nothing written.
 */
static inline fp4_status fp4_ref_block_amax(fp4_matrix x, size_t block, float *amax,
                                            size_t amax_bytes)
{
    const fp4_status status = fp4_ref_check_matrix_(&x);
    size_t row, col;

    if (status != FP4_OK) {
        return status;
    }
    if (block == 0 || x.cols % block != 0) {
        return FP4_BAD_SHAPE;
    }
    if (x.rows != 0 && x.cols != 0 && amax == NULL) {
        return FP4_NULL;
    }
    if (amax_bytes / sizeof(float) < x.rows * (x.cols / block)) {
        return FP4_SMALL_BUFFER;
    }
    for (row = 0; row < x.rows; row++) {
        for (col = 0; col < x.cols; col += block) {
            const float all = fp4_ref_amax_of_(&x, row, col, block);
            memcpy(amax + (row * x.cols + col) / block, &all, sizeof all);
        }
    }
    return FP4_OK;
}

/* -------------------------------------------------------------------------------- dequantize */

/* (x[i] * first) * second for a block, each product rounded. */
static inline void fp4_ref_times_(float *x, size_t n, float first, float second)
{
    size_t i;

    for (i = 0; i < n; i++) {
        x[i] = fp4_mul_rn(fp4_mul_rn(x[i], first), second);
    }
}

/* A block of codes times its scales, in one order or the other. */
static inline void fp4_ref_times_scales_(float *x, size_t n, float sf, float dec,
                                         fp4_association association)
{
    if (association == FP4_SCALES_FIRST) {
        fp4_ref_times_(x, n, fp4_mul_rn(sf, dec), 1.0f);
    } else {
        fp4_ref_times_(x, n, sf, dec);
    }
}

/* n e2m1 codes, an even number of them, as floats. */
static inline void fp4_ref_e2m1_(float *out, const uint8_t *q, size_t n)
{
    size_t i;

    for (i = 0; i < n / 2; i++) {
        out[2 * i] = fp4_e2m1_to_f32(q[i]);
        out[2 * i + 1] = fp4_e2m1_to_f32((uint8_t)(q[i] >> 4));
    }
}

/* n elements from column col of row, as f32. n > 0 and col are whole blocks, n <= FP4_REF_CHUNK_.
 */
static inline void fp4_ref_decode_(float *out, const fp4_tensor *t, size_t row, size_t col,
                                   size_t n, fp4_association association)
{
    const size_t block = fp4_format_block(t->format);
    const size_t sf_cols = t->cols / block;
    const uint8_t *q = t->q + fp4_q_bytes(t->format, row, t->cols) + fp4_q_bytes(t->format, 1, col);
    const float dec = t->row_dec != NULL ? t->row_dec[row] : t->global_dec;
    size_t b, i;

    if (t->format == FP4_MXFP8) {
        for (i = 0; i < n; i++) {
            out[i] = fp4_e4m3_to_f32(q[i]);
        }
    } else {
        fp4_ref_e2m1_(out, q, n);
    }
    for (b = 0; b < n / block; b++) {
        const uint8_t sf = t->sf[fp4_sf_offset(t->layout, row, col / block + b, sf_cols)];
        fp4_ref_times_scales_(out + b * block, block, fp4_sf_to_f32(t->format, sf), dec,
                              association);
    }
}

/* n <= FP4_REF_CHUNK_ floats to memory of any alignment, as dtype. */
static inline void fp4_ref_store_(void *to, fp4_dtype dtype, const float *x, size_t n)
{
    uint16_t half[FP4_REF_CHUNK_];
    size_t i;

    if (dtype == FP4_F32) {
        memcpy(to, x, n * sizeof(float));
        return;
    }
    if (dtype == FP4_F16) {
        for (i = 0; i < n; i++) {
            half[i] = fp4_f32_to_f16(x[i]);
        }
    } else {
        for (i = 0; i < n; i++) {
            half[i] = fp4_f32_to_bf16(x[i]);
        }
    }
    memcpy(to, half, n * sizeof(uint16_t));
}

/* A matrix to write, rows x cols > 0: FP4_OK where it can be. */
static inline fp4_status fp4_ref_check_output_(const void *y, fp4_dtype dtype, size_t y_bytes,
                                               size_t rows, size_t cols, size_t row_stride)
{
    if (fp4_overflows_(rows, row_stride)) {
        return FP4_BAD_SHAPE;
    }
    if (y == NULL) {
        return FP4_NULL;
    }
    return y_bytes / fp4_dtype_bytes(dtype) < (rows - 1) * row_stride + cols ? FP4_SMALL_BUFFER
                                                                             : FP4_OK;
}

/**
 * The elements of a matrix as floats, of e4m3 times its dec: what a host twin of one's own starts
 * from.
 *
 * shape    y: x.rows x x.cols, row r at element r * row_stride; y_bytes must reach the last one.
 *          Not over x.
 * errors   as for quantize; nothing written.
 */
static inline fp4_status fp4_ref_to_f32(fp4_matrix x, float *y, size_t y_bytes, size_t row_stride)
{
    fp4_status status = fp4_ref_check_matrix_(&x);
    size_t row, col, n;

    if (status != FP4_OK) {
        return status;
    }
    if (row_stride < x.cols) {
        return FP4_BAD_STRIDE;
    }
    if (x.rows == 0 || x.cols == 0) {
        return FP4_OK;
    }
    status = fp4_ref_check_output_(y, FP4_F32, y_bytes, x.rows, x.cols, row_stride);
    for (row = 0; status == FP4_OK && row < x.rows; row++) {
        for (col = 0; col < x.cols; col += n) {
            n = fp4_ref_chunk_(x.cols - col);
            fp4_ref_load_(y + row * row_stride + col, &x, row, col, n);
        }
    }
    return status;
}

/**
 * Every element back, in f32 in the order of the association, then rounded to dtype.
 *
 * shape    y: t->rows x t->cols elements of f32, f16 or bf16, row r at element r * row_stride, any
 *          alignment; y_bytes must reach the last element.
 * range    a NaN scale byte gives NaNs. Zero codes keep their sign; but with FP4_SCALES_FIRST, or
 *          an infinite row_dec, they are NaN where the scales are infinite (fp4_association).
 * errors   as for quantize, and FP4_BAD_SCALE for a second-level scale that is negative (-0 too) or
 *          NaN, or an infinite global_dec (0 is fine: a row of zeros has it); nothing written.
 */
static inline fp4_status fp4_ref_dequantize_to(const fp4_tensor *t, fp4_association association,
                                               fp4_dtype dtype, void *y, size_t y_bytes,
                                               size_t row_stride)
{
    const size_t size = fp4_dtype_bytes(dtype);
    fp4_status status;
    ptrdiff_t row, rows;

    if (t == NULL) {
        return FP4_NULL;
    }
    if ((unsigned)dtype >= FP4_E4M3 || (unsigned)association > FP4_SCALES_FIRST) {
        return FP4_BAD_TYPE;
    }
    status = fp4_ref_check_tensor_(t);
    status = status != FP4_OK ? status : fp4_ref_check_dec_(t);
    if (status != FP4_OK) {
        return status;
    }
    if (row_stride < t->cols) {
        return FP4_BAD_STRIDE;
    }
    if (t->rows == 0 || t->cols == 0) {
        return FP4_OK;
    }
    status = fp4_ref_check_output_(y, dtype, y_bytes, t->rows, t->cols, row_stride);
    if (status != FP4_OK) {
        return status;
    }
    rows = (ptrdiff_t)t->rows;
    FP4_REF_PARALLEL_ROWS_
    for (row = 0; row < rows; row++) {
        uint8_t *out = (uint8_t *)y + (size_t)row * row_stride * size;
        float chunk[FP4_REF_CHUNK_];
        size_t col, n;
        for (col = 0; col < t->cols; col += n) {
            n = fp4_ref_chunk_(t->cols - col);
            fp4_ref_decode_(chunk, t, (size_t)row, col, n, association);
            fp4_ref_store_(out + col * size, dtype, chunk, n);
        }
    }
    return FP4_OK;
}

/** The same to f32, (code * scale) * second-level scale. */
static inline fp4_status fp4_ref_dequantize(const fp4_tensor *t, float *y, size_t y_bytes,
                                            size_t row_stride)
{
    return fp4_ref_dequantize_to(t, FP4_CODE_FIRST, FP4_F32, y, y_bytes, row_stride);
}

/** What a scale of fp4_ref_dequantize_blocks is. */
typedef enum fp4_sf_type { FP4_SF_E4M3 = 0, FP4_SF_E8M0 = 1, FP4_SF_F32 = 2 } fp4_sf_type;

static inline float fp4_ref_sf_(const void *sf, fp4_sf_type type, size_t i)
{
    float value;

    if (type == FP4_SF_F32) {
        memcpy(&value, (const uint8_t *)sf + i * sizeof(float), sizeof(float));
        return value;
    }
    return type == FP4_SF_E4M3 ? fp4_e4m3_to_f32(((const uint8_t *)sf)[i])
                               : fp4_e8m0_to_f32(((const uint8_t *)sf)[i]);
}

/**
 * n e2m1 codes with a scale for each `block` of them, of any length, one after the other; with
 * FP4_SF_E8M0 FlashInfer's mxfp4_dequantize_host (which makes +0 of code 8; byte 0 is 2^-127 and
 * 255 NaN there too, where e2m1_and_ufp8sf_scale_to_float has 0 and +Inf), with the others
 * ModelOpt's fp4_dequantize, FP4_CODE_FIRST. A matrix is that if a row of it is whole blocks.
 *
 * shape    q: n / 2 bytes, n even. sf: n / block scales, linear, any alignment. y: n elements, any
 *          alignment.
 * range    global_dec: +0 or positive, finite; 1 for FP4_SF_E8M0. f32 scales may be anything.
 *          Zero codes as above.
 * errors   FP4_BAD_SHAPE, FP4_NULL, FP4_BAD_SCALE, FP4_BAD_TYPE; nothing written.
 */
static inline fp4_status fp4_ref_dequantize_blocks(const uint8_t *q, size_t n, size_t block,
                                                   const void *sf, fp4_sf_type sf_type,
                                                   float global_dec, fp4_association association,
                                                   fp4_dtype dtype, void *y)
{
    const size_t size = fp4_dtype_bytes(dtype);
    float chunk[FP4_REF_CHUNK_];
    size_t at, i, here;

    if ((unsigned)dtype >= FP4_E4M3 || (unsigned)association > FP4_SCALES_FIRST ||
        (unsigned)sf_type > FP4_SF_F32) {
        return FP4_BAD_TYPE;
    }
    if (n % 2 != 0 || block == 0 || n % block != 0 || fp4_overflows_(n, size)) {
        return FP4_BAD_SHAPE;
    }
    if (fp4_f32_bits(global_dec) >= 0x7f800000u) {
        return FP4_BAD_SCALE;
    }
    if (n != 0 && (q == NULL || sf == NULL || y == NULL)) {
        return FP4_NULL;
    }
    for (at = 0; at < n; at += here) {
        here = fp4_ref_chunk_(n - at);
        fp4_ref_e2m1_(chunk, q + at / 2, here);
        for (i = 0; i < here; i++) {
            fp4_ref_times_scales_(chunk + i, 1, fp4_ref_sf_(sf, sf_type, (at + i) / block),
                                  global_dec, association);
        }
        fp4_ref_store_((uint8_t *)y + at * size, dtype, chunk, here);
    }
    return FP4_OK;
}

#endif /* FP4_HOST_QUANT_H */
