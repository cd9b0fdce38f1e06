/*
 * fp4/host/experts.h - the host twin of kernels that quantize the matrices of many experts, masked
 * or packed (fp4/experts.h), gathered by index, and with the activation in front where that is
 * asked for.
 *
 * Every row that an expert has is quantized as fp4_ref_nvfp4_quantize, fp4_ref_mxfp4_quantize or
 * fp4_ref_mxfp8_quantize would, or fp4_ref_silu_mul_quantize, fp4_ref_gelu_tanh_mul_quantize,
 * fp4_ref_swiglu_oai_mul_quantize, with the second-level scale of its expert. This file says which
 * rows those are, where their bytes go, and what becomes of all others.
 *
 * source   FlashInfer: scaled_fp4_grouped_quantize, silu_and_mul_scaled_nvfp4_experts_quantize,
 *          mxfp8_grouped_quantize (masked); vLLM: scaled_fp4_experts_quant and its silu_and_mul
 *          (packed). Neither writes what is no expert's, as FP4_REST_LEAVE has it.
 */
#ifndef FP4_HOST_EXPERTS_H
#define FP4_HOST_EXPERTS_H

#include <fp4/experts.h>
#include <fp4/host/ops.h>

/** What is done to a row before it is quantized: nothing, or activation(gate) * up. */
typedef enum fp4_activation {
    FP4_ACTIVATION_NONE = 0,
    FP4_ACTIVATION_SILU = 1,
    FP4_ACTIVATION_GELU_TANH = 2,
    FP4_ACTIVATION_SWIGLU_OAI = 3
} fp4_activation;

/**
 * A call. All zero but what it has to say is the plain one.
 *
 * shape    cols: of a quantized row, whole blocks. x has as many columns, or with an activation
 *          twice as many: gate in the first cols, up in the others; or, if interleaved, gate in the
 *          even ones, up in the odd ones. q_cols: whole blocks, cols or more; the columns in
 *          between become zeros in every row that an expert has. x: f32, f16 or bf16, any
 *          alignment, row r at element r * x_stride.
 *          Either counts (masked): x has groups matrices of `rows` rows, matrix g at element
 *          g * x_group_stride; q has groups * rows rows; sf groups buffers of
 *          fp4_sf_bytes(FP4_LAYOUT_128X4, rows, q_cols / block) bytes.
 *          Or offsets (packed), groups + 1: q has `rows` rows; row r is made of row r of x, or of
 *          row sources[r] if that is not null; x has x_rows of them, at least `rows` without
 *          sources. sf: sf_rows rows of 128x4, a multiple of 128: fp4_experts_sf_rows, or less.
 *          counts, offsets, sources, global_scales, sf_starts: aligned as their types are.
 * global   NVFP4: global_scales[g * global_step], step 0 or 1, in encode sense unless
 *          global_is_dec. Positive and finite, and so its reciprocal, in encode sense (above
 *          2^-128); in decode sense less than FLT_MAX, and up to 2^-128 its reciprocal counts as
 *          FLT_MAX. Other formats ignore it.
 * rounded  with an activation: its product is rounded to x's type, and that is quantized: the bytes
 *          of activation and quantization one after the other.
 * rest     FP4_REST_ZERO: every byte of q and sf is written; what is no expert's becomes 0.
 *          FP4_REST_LEAVE: it stays as it was; scale bytes beside those of an expert's rows too.
 * optional where not null: sf_starts (packed), groups + 1 rows of sf in which the scales of each
 *          expert begin, and of one more; errors, to which bits of fp4_experts_error are added.
 * overlap  no output overlaps an input or another output.
 */
typedef struct fp4_ref_experts {
    fp4_format format;
    fp4_activation activation;
    int interleaved, rounded;
    size_t groups, rows, cols, q_cols;
    const void *x;
    fp4_dtype dtype;
    size_t x_stride, x_group_stride, x_rows;
    const int32_t *counts;
    const int32_t *offsets, *sources;
    fp4_experts_starts starts;
    size_t sf_rows;
    const float *global_scales;
    size_t global_step;
    int global_is_dec;
    fp4_rest rest;
    uint8_t *q, *sf;
    size_t q_bytes, sf_bytes;
    int32_t *sf_starts;
    uint32_t *errors;
} fp4_ref_experts;

/* -------------------------------------------------------------------------------- checks */

/* Columns of x, by those of a quantized row. */
static inline size_t fp4_ref_experts_x_cols_(const fp4_ref_experts *e)
{
    return e->activation == FP4_ACTIVATION_NONE ? e->cols : 2 * e->cols;
}

/* Matrices below each other: their rows, and those of one in q and in sf. */
typedef struct fp4_ref_experts_shape_ {
    size_t matrices, q_rows, sf_rows;
} fp4_ref_experts_shape_;

static inline fp4_ref_experts_shape_ fp4_ref_experts_shape_of_(const fp4_ref_experts *e)
{
    const int is_masked = e->counts != NULL;
    fp4_ref_experts_shape_ s;

    s.matrices = is_masked ? e->groups : 1;
    s.q_rows = e->rows;
    s.sf_rows = is_masked ? fp4_sf_rows_padded(FP4_LAYOUT_128X4, e->rows) : e->sf_rows;
    return s;
}

/* Nothing to do, whatever else is given. Packed, scales and starts are there without experts or
   rows too. */
static inline int fp4_ref_experts_is_empty_(const fp4_ref_experts *e)
{
    return (e->cols | e->q_cols) == 0 || (e->offsets == NULL && (e->groups == 0 || e->rows == 0));
}

static inline fp4_status fp4_ref_experts_check_shape_(const fp4_ref_experts *e)
{
    const size_t block = fp4_format_block(e->format), most = 0x7fffffff;

    if ((e->counts == NULL) == (e->offsets == NULL)) {
        return e->counts == NULL ? FP4_NULL : FP4_BAD_SHAPE;
    }
    if (e->cols == 0 || e->cols % block != 0 || e->q_cols % block != 0 || e->q_cols < e->cols ||
        e->cols > SIZE_MAX / 2 || e->rows > most || e->groups > most || e->global_step > 1 ||
        (e->offsets == NULL && (e->sources != NULL || e->sf_starts != NULL)) ||
        (e->offsets != NULL &&
         (e->sf_rows % 128 != 0 || (e->sources == NULL && e->x_rows < e->rows) ||
          fp4_experts_spread_row(e->rows, e->groups) > most))) {
        return FP4_BAD_SHAPE;
    }
    return FP4_OK;
}

/* What is read and written is there. */
static inline fp4_status fp4_ref_experts_check_buffers_(const fp4_ref_experts *e)
{
    const fp4_ref_experts_shape_ s = fp4_ref_experts_shape_of_(e);
    const size_t sf_cols =
        fp4_sf_cols_padded(FP4_LAYOUT_128X4, e->q_cols / fp4_format_block(e->format));
    const size_t rows = e->counts != NULL || e->rows == 0 ? e->rows : e->x_rows;
    const fp4_matrix x =
        fp4_matrix_of_(e->x, e->dtype, rows, fp4_ref_experts_x_cols_(e), e->x_stride, 1.0f);
    const fp4_status status = fp4_ref_check_matrix_(&x);

    if (status != FP4_OK) {
        return status;
    }
    if (fp4_overflows_(s.matrices, s.q_rows) || fp4_overflows_(s.matrices * s.q_rows, e->q_cols) ||
        fp4_overflows_(s.matrices, s.sf_rows) || fp4_overflows_(s.matrices * s.sf_rows, sf_cols) ||
        (s.matrices > 1 && fp4_overflows_(s.matrices, e->x_group_stride)) ||
        (s.matrices > 1 && fp4_overflows_(s.matrices * e->x_group_stride, sizeof(float)))) {
        return FP4_BAD_SHAPE;
    }
    if ((e->rows != 0 && (e->x == NULL || e->q == NULL)) || (e->sf == NULL && s.sf_rows != 0)) {
        return FP4_NULL;
    }
    return e->q_bytes < fp4_q_bytes(e->format, s.matrices * s.q_rows, e->q_cols) ||
                   e->sf_bytes < s.matrices * s.sf_rows * sf_cols
               ? FP4_SMALL_BUFFER
               : FP4_OK;
}

/* The second-level scale of an expert, in encode sense. */
static inline float fp4_ref_experts_enc_(const fp4_ref_experts *e, size_t group)
{
    const float given =
        fp4_format_is_nvfp4(e->format) ? e->global_scales[group * e->global_step] : 1.0f;
    return fp4_format_is_nvfp4(e->format) && e->global_is_dec ? fp4_nvfp4_global_enc_from_dec(given)
                                                              : given;
}

static inline fp4_status fp4_ref_experts_check_(const fp4_ref_experts *e)
{
    fp4_status status;
    size_t g;

    if ((unsigned)e->format > FP4_MXFP4_16 || (unsigned)e->activation > FP4_ACTIVATION_SWIGLU_OAI ||
        e->dtype == FP4_E4M3 || (unsigned)e->rest > FP4_REST_LEAVE ||
        (unsigned)e->starts > FP4_STARTS_SPREAD) {
        return FP4_BAD_TYPE;
    }
    status = fp4_ref_experts_check_shape_(e);
    status = status != FP4_OK ? status : fp4_ref_experts_check_buffers_(e);
    if (status != FP4_OK || !fp4_format_is_nvfp4(e->format)) {
        return status;
    }
    if (e->global_scales == NULL) {
        return FP4_NULL;
    }
    for (g = 0; g < (e->global_step != 0 ? e->groups : 1); g++) {
        if (!fp4_is_positive_finite_(e->global_scales[g * e->global_step]) ||
            !fp4_invertible_(fp4_ref_experts_enc_(e, g))) {
            return FP4_BAD_SCALE;
        }
    }
    return FP4_OK;
}

/* -------------------------------------------------------------------------------- rows */

/* n elements of what is quantized, from column col of a row. */
static inline void fp4_ref_experts_values_(float *v, const fp4_ref_experts *e, const void *x,
                                           size_t row, size_t col, size_t n)
{
    const fp4_ref_op_ op = e->activation == FP4_ACTIVATION_SILU        ? FP4_REF_SILU_MUL_
                           : e->activation == FP4_ACTIVATION_GELU_TANH ? FP4_REF_GELU_TANH_MUL_
                                                                       : FP4_REF_SWIGLU_OAI_MUL_;
    fp4_ref_call_ call = fp4_ref_call_of_(
        op, fp4_matrix_of_(x, e->dtype, row + 1, fp4_ref_experts_x_cols_(e), e->x_stride, 1.0f));

    call.interleaved = e->interleaved;
    if (e->activation == FP4_ACTIVATION_NONE) {
        fp4_ref_load_(v, &call.x, row, col, n);
        return;
    }
    fp4_ref_gated_(v, &call, row, col, n);
    if (e->rounded) {
        fp4_ref_round_(v, n, e->dtype);
    }
}

/* Row `to` of q with its scales in row sf_row of a buffer, from row `from` of a matrix at x; a row
   of zeros where x is null. */
static inline void fp4_ref_experts_row_(const fp4_ref_experts *e, const void *x, size_t from,
                                        size_t to, uint8_t *sf, size_t sf_row, float enc)
{
    const size_t block = fp4_format_block(e->format), sf_cols = e->q_cols / block;
    const size_t done = x == NULL ? 0 : e->cols;
    uint8_t *q = e->q + fp4_q_bytes(e->format, to, e->q_cols);
    float chunk[FP4_REF_CHUNK_];
    uint8_t bytes[FP4_REF_CHUNK_ / 16];
    size_t col, n, b;

    for (col = 0; col < done; col += n) {
        fp4_tensor t; /* this chunk */
        n = fp4_ref_chunk_(done - col);
        t = fp4_tensor_view(e->format, FP4_LAYOUT_LINEAR, 1, n, q + fp4_q_bytes(e->format, 1, col),
                            n, bytes, sizeof bytes);
        fp4_ref_experts_values_(chunk, e, x, from, col, n);
        fp4_ref_put_(&t, 0, 0, chunk, n, fp4_ref_rule_of_(e->format), enc, 1.0f);
        for (b = 0; b < n / block; b++) {
            sf[fp4_sf_offset_128x4(sf_row, col / block + b, sf_cols)] = bytes[b];
        }
    }
    memset(q + fp4_q_bytes(e->format, 1, done), 0, fp4_q_bytes(e->format, 1, e->q_cols - done));
    for (b = done / block; b < sf_cols; b++) {
        sf[fp4_sf_offset_128x4(sf_row, b, sf_cols)] = 0;
    }
}

/* Rows [0, counts[g]) of each matrix. */
static inline uint32_t fp4_ref_experts_masked_(const fp4_ref_experts *e)
{
    const size_t sf_bytes =
        fp4_sf_bytes(FP4_LAYOUT_128X4, e->rows, e->q_cols / fp4_format_block(e->format));
    uint32_t errors = 0;
    size_t g, row;

    for (g = 0; g < e->groups; g++) {
        const size_t count = fp4_experts_bounded(e->counts[g], (uint32_t)e->rows);
        const uint8_t *x =
            (const uint8_t *)e->x + g * e->x_group_stride * fp4_dtype_bytes(e->dtype);
        errors |= (int64_t)count != e->counts[g] ? FP4_EXPERTS_COUNT : 0;
        for (row = 0; row < count; row++) {
            fp4_ref_experts_row_(e, x, row, g * e->rows + row, e->sf + g * sf_bytes, row,
                                 fp4_ref_experts_enc_(e, g));
        }
    }
    return errors;
}

/* Rows [first, last) of expert g, their scales from row sf_row on. */
static inline uint32_t fp4_ref_experts_packed_rows_(const fp4_ref_experts *e, size_t g,
                                                    size_t first, size_t last, size_t sf_row)
{
    uint32_t errors = 0;
    size_t row;

    for (row = first; row < last; row++, sf_row++) {
        const int64_t source = e->sources != NULL ? e->sources[row] : (int64_t)row;
        const int has_source = source >= 0 && (size_t)source < e->x_rows;
        if (sf_row >= e->sf_rows) {
            return errors | FP4_EXPERTS_SF_ROWS;
        }
        errors |= has_source ? 0 : FP4_EXPERTS_SOURCE;
        fp4_ref_experts_row_(e, has_source ? e->x : NULL, has_source ? (size_t)source : 0, row,
                             e->sf, sf_row, fp4_ref_experts_enc_(e, g));
    }
    return errors;
}

/* Rows [offsets[g], offsets[g + 1]) of each. */
static inline uint32_t fp4_ref_experts_packed_(const fp4_ref_experts *e)
{
    size_t g, first = fp4_experts_bounded(e->offsets[0], (uint32_t)e->rows), summed = 0;
    uint32_t errors = (int64_t)first != e->offsets[0] ? FP4_EXPERTS_OFFSET : 0;

    for (g = 0; g <= e->groups; g++) {
        const size_t sf_row =
            e->starts == FP4_STARTS_SPREAD ? fp4_experts_spread_row(first, g) : summed;
        size_t last;
        if (e->sf_starts != NULL) {
            e->sf_starts[g] = (int32_t)sf_row;
        }
        if (g == e->groups) {
            break;
        }
        last = fp4_experts_bounded(e->offsets[g + 1], (uint32_t)e->rows);
        last = last < first ? first : last;
        errors |= (int64_t)last != e->offsets[g + 1] ? FP4_EXPERTS_OFFSET : 0;
        errors |= fp4_ref_experts_packed_rows_(e, g, first, last, sf_row);
        summed += fp4_sf_rows_padded(FP4_LAYOUT_128X4, last - first);
        first = last;
    }
    return errors;
}

/**
 * Quantizes the rows of all experts.
 *
 * errors   FP4_NULL for neither counts nor offsets, x, q or sf; FP4_BAD_SHAPE for both of them, for
 *          sources or sf_starts with counts, for columns that are not whole blocks, for sf_rows
 *          that are not whole tiles, for a global_step of more than 1, for more than 2^31 - 1 rows
 *          or groups, or, packed, rows + 127 * groups; FP4_BAD_STRIDE, FP4_SMALL_BUFFER,
 *          FP4_BAD_SCALE, FP4_BAD_TYPE as quant.h and ops.h; then nothing is written. groups = 0,
 *          rows = 0, or cols = q_cols = 0 is no error; without rows x and q may be null. Counts,
 *          offsets and sources are never one: see fp4_experts_error.
 */
static inline fp4_status fp4_ref_experts_quantize(const fp4_ref_experts *e)
{
    fp4_ref_experts_shape_ s;
    fp4_status status;
    uint32_t errors;

    if (e == NULL) {
        return FP4_NULL;
    }
    if (fp4_ref_experts_is_empty_(e)) {
        return FP4_OK;
    }
    status = fp4_ref_experts_check_(e);
    if (status != FP4_OK) {
        return status;
    }
    s = fp4_ref_experts_shape_of_(e);
    if (e->rest == FP4_REST_ZERO && s.q_rows != 0) {
        memset(e->q, 0, fp4_q_bytes(e->format, s.matrices * s.q_rows, e->q_cols));
    }
    if (e->rest == FP4_REST_ZERO && s.sf_rows != 0) {
        memset(e->sf, 0,
               s.matrices * fp4_sf_bytes(FP4_LAYOUT_128X4, s.sf_rows,
                                         e->q_cols / fp4_format_block(e->format)));
    }
    errors = e->counts != NULL ? fp4_ref_experts_masked_(e) : fp4_ref_experts_packed_(e);
    if (e->errors != NULL) {
        *e->errors |= errors;
    }
    return FP4_OK;
}

#endif /* FP4_HOST_EXPERTS_H */
