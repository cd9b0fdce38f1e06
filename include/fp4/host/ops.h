/*
 * fp4/host/ops.h - the host twins of kernels that compute something and quantize it in one go.
 *
 *     function                             y
 *     fp4_ref_rmsnorm_quantize             h / sqrt( mean(h^2) + eps ) * weight            h = x
 *     fp4_ref_add_rmsnorm_quantize         the same of h = residual := x + residual
 *     fp4_ref_layernorm_quantize           (x - mean(x)) / sqrt( var(x) + eps ) * weight + bias
 *     fp4_ref_silu_mul_quantize            silu(gate) * up
 *     fp4_ref_gelu_tanh_mul_quantize       gelu_tanh(gate) * up
 *     fp4_ref_swiglu_oai_mul_quantize      that of gpt-oss (fp4/activation.h)
 *
 * For kernels of your own: fp4_ref_row_sums has the sums, fp4_ref_rsqrt the root, activation.h the
 * activations, and fp4_ref_*_quantize_scaled (quant.h) quantizes what is left, a factor of the row
 * apart.
 *
 * A kernel that does the same operations in the same order gives the same bytes. What they are,
 * each rounded to f32:
 *
 *     sums         over a row, in the order of row.h: squares by fma, all from +0
 *     mean         sum / cols; var is the mean of (x - mean)^2
 *     rstd         1 / sqrt(mean + eps) or of var + eps, correctly rounded
 *     RMSNorm      (h * rstd) * weight
 *     LayerNorm    fma( (x - mean) * rstd, weight, bias )
 *     gated        activation(gate) * up, by activation.h
 *
 * Two variants. Rounded: y is rounded to x's type first and then quantized, which gives the bytes
 * of the operation and fp4_ref_*_quantize one after the other. Else y is quantized as it is, and
 * that of RMSNorm is not even formed: t = h * weight is quantized, with rstd as a factor of its
 * scales,
 *
 *     A = (amax of t in the block) * rstd        code = round( t * min(rstd * enc, FLT_MAX) )
 *
 * with fewer roundings; y, where it is asked for, is t * rstd then.
 *
 * What all of them share:
 *
 * shape    x: f32, f16 or bf16, any alignment, any row_stride >= cols. t: the rows of x and exactly
 *          the columns of y, whole blocks, of any format; scales by its default rule. weight, bias:
 *          a row of elements of x's type. rows = 0 or cols = 0 is fine: no codes, no scales.
 *          No output may overlap an input or another output; the residual is updated in place.
 * writes   as quant.h: t->q, t->sf with its padding as 0x00, t->global_dec or t->row_dec; and what
 *          is asked for beside. Not a byte between the rows of y and residual.
 * errors   as quant.h; then nothing is written. FP4_BAD_TYPE for an e4m3 input too, and for a scale
 *          per token in a format that has none; FP4_BAD_SCALE also for an eps that is not positive
 *          and finite.
 * range    h^2 that overflows: rstd is 0, and so are y and the codes, unless h * weight overflows
 *          too where y is not rounded: then NaN and codes of 7. A NaN makes the row of a norm
 *          NaN, and only its own element of a gated one; infinity and zero as the operations have
 *          it. Of a NaN that is written as f32 the payload is not specified.
 * threads  reentrant; with -fopenmp rows are spread over the cores, same bytes.
 */
#ifndef FP4_HOST_OPS_H
#define FP4_HOST_OPS_H

#include <fp4/activation.h>
#include <fp4/host/quant.h>
#include <fp4/row.h>

#include <math.h>

/** What is asked of a fused operation beside its operands. All zero but global_enc is the plain
    one; MX formats need not even that. */
typedef struct fp4_ref_fused {
    float global_enc; /* NVFP4: second-level scale, where base_dec is 0 */
    float base_dec;   /* NVFP4: not 0 for a scale from each row's amax, written to t->row_dec
                         (fp4_nvfp4_token_enc); usually 1/2688 */
    int rounded;      /* 1: y is rounded to x's type, and that is quantized */
    void *y;          /* y in x's type, or null; RMSNorm's last bit may depend on rounded */
    size_t y_stride;  /* from row to row of y, in elements */
} fp4_ref_fused;

typedef enum fp4_ref_op_ {
    FP4_REF_RMSNORM_,
    FP4_REF_LAYERNORM_,
    FP4_REF_SILU_MUL_,
    FP4_REF_GELU_TANH_MUL_,
    FP4_REF_SWIGLU_OAI_MUL_
} fp4_ref_op_;

static inline int fp4_ref_is_norm_(fp4_ref_op_ op)
{
    return op == FP4_REF_RMSNORM_ || op == FP4_REF_LAYERNORM_;
}

/* An operation and all that it reads and writes, but for t. Operands that it lacks have no data. */
typedef struct fp4_ref_call_ {
    fp4_ref_op_ op;
    fp4_matrix x, residual, weight, bias, y;
    float eps;
    int interleaved;
    fp4_ref_fused how;
} fp4_ref_call_;

/* -------------------------------------------------------------------------------- steps */

/* a + b, which no compiler fuses with a product; fp4_add_rn's way through memory is not for
   loops. */
static inline float fp4_ref_add_(float a, float b)
{
    return fp4_fma_rn(a, 1.0f, b);
}

/** 1 / sqrt(x), correctly rounded, as fp4_rsqrt_rn is on the device: so it is where double has 53
    bits. */
static inline float fp4_ref_rsqrt(float x)
{
    return (float)(1.0 / sqrt((double)x));
}

/* n <= FP4_REF_CHUNK_ floats, rounded to the type of m, to a row of it. */
static inline void fp4_ref_store_row_(const fp4_matrix *m, size_t row, size_t col, const float *x,
                                      size_t n)
{
    const size_t at = (row * m->row_stride + col) * fp4_dtype_bytes(m->dtype);
    fp4_ref_store_((uint8_t *)(uintptr_t)m->data + at, m->dtype, x, n);
}

/* x[i] rounded to a type and back. The halves lie in x meanwhile. */
static inline void fp4_ref_round_(float *x, size_t n, fp4_dtype dtype)
{
    const fp4_matrix m = fp4_matrix_of_(x, dtype, 1, n, n, 1.0f);

    if (dtype != FP4_F32) {
        fp4_ref_store_row_(&m, 0, 0, x, n);
        fp4_ref_load_(x, &m, 0, 0, n);
    }
}

/* residual := x + residual, rounded to their type, n elements. */
static inline void fp4_ref_add_residual_(const fp4_ref_call_ *call, size_t row, size_t col,
                                         size_t n)
{
    float sum[FP4_REF_CHUNK_], residual[FP4_REF_CHUNK_];
    size_t i;

    fp4_ref_load_(sum, &call->x, row, col, n);
    fp4_ref_load_(residual, &call->residual, row, col, n);
    for (i = 0; i < n; i++) {
        sum[i] = fp4_ref_add_(sum[i], residual[i]);
    }
    fp4_ref_store_row_(&call->residual, row, col, sum, n);
}

/* n elements of what is normed. */
static inline void fp4_ref_load_h_(float *h, const fp4_ref_call_ *call, size_t row, size_t col,
                                   size_t n)
{
    fp4_ref_load_(h, call->residual.data != NULL ? &call->residual : &call->x, row, col, n);
}

/* The sum of n lanes or warps, a power of two, as a butterfly has it: s[i] + s[i ^ n/2], and so on
   down to 1. All end with the same bits, so that the lower half is enough. Overwrites s. */
static inline float fp4_ref_butterfly_(float *s, size_t n)
{
    size_t step, i;

    for (step = n / 2; step > 0; step /= 2) {
        for (i = 0; i < step; i++) {
            s[i] = fp4_ref_add_(s[i], s[i + step]);
        }
    }
    return s[0];
}

/* The sum over a row, as row.h orders it, of (h - mean)^2, or of h - mean itself. */
static inline float fp4_ref_row_sum_(const fp4_ref_call_ *call, size_t row, float mean, int squares)
{
    const size_t threads = fp4_row_threads(call->x.cols), warps = threads / 32;
    float sum[FP4_ROW_THREADS] = {0.0f}, chunk[FP4_REF_CHUNK_];
    size_t col, n, i, lanes = 1;

    for (col = 0; col < call->x.cols; col += n) {
        /* A chunk is 32 pieces or fewer, and threads come in whole warps: its pieces belong to as
           many threads, one after the other. */
        float *of_thread = sum + col / FP4_ROW_PIECE % threads;
        float of_piece[FP4_REF_CHUNK_ / FP4_ROW_PIECE] = {0.0f};
        n = fp4_ref_chunk_(call->x.cols - col);
        fp4_ref_load_h_(chunk, call, row, col, n);
        for (i = 0; i < n; i++) {
            const float d = fp4_ref_add_(chunk[i], -mean);
            float *s = of_piece + i / FP4_ROW_PIECE;
            *s = fp4_fma_rn(d, squares ? d : 1.0f, *s);
        }
        for (i = 0; i < n / FP4_ROW_PIECE; i++) {
            of_thread[i] = fp4_ref_add_(of_thread[i], of_piece[i]);
        }
    }
    for (i = 0; i < warps; i++) { /* sum[i] has been read by then */
        sum[i] = fp4_ref_butterfly_(sum + 32 * i, 32);
    }
    while (lanes < warps) {
        lanes *= 2;
    }
    for (i = warps; i < lanes; i++) {
        sum[i] = 0.0f;
    }
    return fp4_ref_butterfly_(sum, lanes);
}

/* What a row of a norm is normed by. The mean of RMSNorm is 0. */
typedef struct fp4_ref_stats_ {
    float mean, rstd;
} fp4_ref_stats_;

/* Adds the residual first, if there is one. Rows of gated operations have no statistics. */
static inline fp4_ref_stats_ fp4_ref_row_stats_(const fp4_ref_call_ *call, size_t row)
{
    const size_t cols = call->x.cols;
    fp4_ref_stats_ stats = {0.0f, 1.0f};
    float var;
    size_t col;

    if (!fp4_ref_is_norm_(call->op)) {
        return stats;
    }
    for (col = 0; col < cols && call->residual.data != NULL; col += FP4_REF_CHUNK_) {
        fp4_ref_add_residual_(call, row, col, fp4_ref_chunk_(cols - col));
    }
    if (call->op == FP4_REF_LAYERNORM_) {
        stats.mean = fp4_div_rn(fp4_ref_row_sum_(call, row, 0.0f, 0), (float)cols);
    }
    var = fp4_div_rn(fp4_ref_row_sum_(call, row, stats.mean, 1), (float)cols);
    stats.rstd = fp4_ref_rsqrt(fp4_add_rn(var, call->eps));
    return stats;
}

/* activation(gate) * up. */
static inline float fp4_ref_gate_(fp4_ref_op_ op, float gate, float up)
{
    return op == FP4_REF_SILU_MUL_        ? fp4_mul_rn(fp4_silu(gate), up)
           : op == FP4_REF_GELU_TANH_MUL_ ? fp4_mul_rn(fp4_gelu_tanh(gate), up)
                                          : fp4_swiglu_oai_up(fp4_swiglu_oai_gate(gate), up);
}

/* n elements of that. */
static inline void fp4_ref_gated_(float *v, const fp4_ref_call_ *call, size_t row, size_t col,
                                  size_t n)
{
    /* Two loads of n elements, in whichever way gate and up lie: 2n side by side, or n each. */
    const size_t cols = call->x.cols / 2;
    const size_t step = call->interleaved ? 2 : 1, up = call->interleaved ? 1 : n;
    float pair[2 * FP4_REF_CHUNK_];
    size_t i;

    fp4_ref_load_(pair, &call->x, row, call->interleaved ? 2 * col : col, n);
    fp4_ref_load_(pair + n, &call->x, row, call->interleaved ? 2 * col + n : cols + col, n);
    for (i = 0; i < n; i++) {
        v[i] = fp4_ref_gate_(call->op, pair[step * i], pair[step * i + up]);
    }
}

/* n elements of the norm of a row; without the factor rstd where it is 1 in stats. */
static inline void fp4_ref_normed_(float *v, const fp4_ref_call_ *call, fp4_ref_stats_ stats,
                                   size_t row, size_t col, size_t n)
{
    float weight[FP4_REF_CHUNK_], bias[FP4_REF_CHUNK_];
    size_t i;

    fp4_ref_load_h_(v, call, row, col, n);
    fp4_ref_load_(weight, &call->weight, 0, col, n);
    if (call->op == FP4_REF_RMSNORM_) {
        for (i = 0; i < n; i++) {
            v[i] = fp4_mul_rn(fp4_mul_rn(v[i], stats.rstd), weight[i]);
        }
        return;
    }
    fp4_ref_load_(bias, &call->bias, 0, col, n);
    for (i = 0; i < n; i++) {
        const float d = fp4_ref_add_(v[i], -stats.mean);
        v[i] = fp4_fma_rn(fp4_mul_rn(d, stats.rstd), weight[i], bias[i]);
    }
}

/* n elements of what is quantized. */
static inline void fp4_ref_values_(float *v, const fp4_ref_call_ *call, fp4_ref_stats_ stats,
                                   size_t row, size_t col, size_t n)
{
    if (fp4_ref_is_norm_(call->op)) {
        fp4_ref_normed_(v, call, stats, row, col, n);
    } else {
        fp4_ref_gated_(v, call, row, col, n);
    }
    if (call->how.rounded) {
        fp4_ref_round_(v, n, call->x.dtype);
    }
}

/* y = v * mul, n elements. */
static inline void fp4_ref_store_y_(const fp4_ref_call_ *call, size_t row, size_t col,
                                    const float *v, float mul, size_t n)
{
    float y[FP4_REF_CHUNK_];
    size_t i;

    for (i = 0; i < n; i++) {
        y[i] = fp4_mul_rn(v[i], mul);
    }
    fp4_ref_store_row_(&call->y, row, col, y, n);
}

/* One row of everything. The values are computed as often as they are read: a row has any length,
   the stack has not. */
static inline void fp4_ref_fused_row_(const fp4_ref_call_ *call, const fp4_tensor *t, size_t row)
{
    const fp4_ref_rule_ rule = fp4_ref_rule_of_(t->format);
    fp4_ref_stats_ stats = fp4_ref_row_stats_(call, row);
    float chunk[FP4_REF_CHUNK_], enc = call->how.global_enc, mul = 1.0f, amax = 0.0f;
    size_t col, n;

    if (call->op == FP4_REF_RMSNORM_ && !call->how.rounded) {
        mul = stats.rstd; /* moves from the values to their scales */
        stats.rstd = 1.0f;
    }
    if (call->how.base_dec != 0.0f) {
        for (col = 0; col < t->cols; col += n) {
            n = fp4_ref_chunk_(t->cols - col);
            fp4_ref_values_(chunk, call, stats, row, col, n);
            amax = fp4_max(fp4_ref_amax_(chunk, n), amax);
        }
        amax = fp4_ref_amax_times_(amax, mul);
        enc = fp4_nvfp4_token_enc(amax, call->how.base_dec);
        t->row_dec[row] = fp4_nvfp4_token_dec(amax, enc);
    }
    for (col = 0; col < t->cols; col += n) {
        n = fp4_ref_chunk_(t->cols - col);
        fp4_ref_values_(chunk, call, stats, row, col, n);
        if (call->y.data != NULL) {
            fp4_ref_store_y_(call, row, col, chunk, mul, n);
        }
        fp4_ref_put_(t, row, col, chunk, n, rule, enc, mul);
    }
}

/* -------------------------------------------------------------------------------- checks */

/* The second-level scale that is asked for: t's format has it, and t has room for it. */
static inline fp4_status fp4_ref_check_level_(const fp4_ref_fused *how, const fp4_tensor *t)
{
    const int tokens = how->base_dec != 0.0f; /* NaN too */

    if ((tokens && !fp4_format_is_nvfp4(t->format)) || (!tokens && t->row_dec != NULL)) {
        return FP4_BAD_TYPE;
    }
    if (tokens && t->rows != 0 && t->cols != 0 && t->row_dec == NULL) {
        return FP4_NULL;
    }
    if (!fp4_format_is_nvfp4(t->format)) {
        return FP4_OK;
    }
    return fp4_invertible_(tokens ? how->base_dec : how->global_enc) ? FP4_OK : FP4_BAD_SCALE;
}

/* The call can be made. */
static inline fp4_status fp4_ref_check_call_(const fp4_ref_call_ *call, const fp4_tensor *t)
{
    const size_t width = fp4_ref_is_norm_(call->op) ? 1 : 2; /* columns of x that make one of y */
    const fp4_matrix *const operands[] = {&call->x, &call->residual, &call->weight, &call->bias,
                                          &call->y};
    fp4_status status;
    size_t i;

    if (call->x.dtype == FP4_E4M3) {
        return FP4_BAD_TYPE;
    }
    if (call->x.rows != t->rows || call->x.cols % width != 0 || call->x.cols / width != t->cols) {
        return FP4_BAD_SHAPE;
    }
    status = fp4_ref_check_tensor_(t);
    for (i = 0; i < 5 && status == FP4_OK; i++) {
        status = fp4_ref_check_matrix_(operands[i]);
    }
    status = status != FP4_OK ? status : fp4_ref_check_level_(&call->how, t);
    return status == FP4_OK && !fp4_is_positive_finite_(call->eps) ? FP4_BAD_SCALE : status;
}

/* -------------------------------------------------------------------------------- operations */

/* A call without operands but x. */
static inline fp4_ref_call_ fp4_ref_call_of_(fp4_ref_op_ op, fp4_matrix x)
{
    const fp4_matrix none = fp4_matrix_of_(NULL, FP4_F32, 0, 0, 0, 1.0f);
    fp4_ref_call_ call;

    memset(&call, 0, sizeof(call));
    call.op = op;
    call.x = x;
    call.residual = call.weight = call.bias = call.y = none;
    call.eps = 1.0f;
    return call;
}

/* A row of x's type and width, for every row of x. */
static inline fp4_matrix fp4_ref_row_of_(fp4_matrix x, const void *row)
{
    return fp4_matrix_of_(row, x.dtype, x.rows != 0 ? 1 : 0, x.cols, x.cols, 1.0f);
}

/* Checks a call and makes it. */
static inline fp4_status fp4_ref_fused_(fp4_ref_call_ call, const fp4_ref_fused *how, fp4_tensor *t)
{
    fp4_status status;
    ptrdiff_t row, rows;

    if (t == NULL || how == NULL) {
        return FP4_NULL;
    }
    call.how = *how;
    if (how->y != NULL) {
        call.y = fp4_matrix_of_(how->y, call.x.dtype, t->rows, t->cols, how->y_stride, 1.0f);
    }
    status = fp4_ref_check_call_(&call, t);
    if (status != FP4_OK) {
        return status;
    }
    t->global_dec = fp4_format_is_nvfp4(t->format) && how->base_dec == 0.0f
                        ? fp4_nvfp4_global_dec(how->global_enc)
                        : 1.0f;
    rows = fp4_ref_begin_(t);
    FP4_REF_PARALLEL_ROWS_
    for (row = 0; row < rows; row++) {
        fp4_ref_fused_row_(&call, t, (size_t)row);
    }
    return FP4_OK;
}

/**
 * The sum of each row of x, or (squares = 1) of its squares, in the order of row.h: that in which a
 * CTA of fp4_row_threads(x.cols) threads sums, each thread the pieces of 16 that row.h gives it by
 * fp4_sum_x16 or fp4_sumsq_x16 from 0, added one after the other, and then fp4_cta_sum.
 *
 * shape    x: any dtype, any alignment; cols: a multiple of 16. sums: x.rows floats, aligned as
 *          such.
 * errors   FP4_BAD_SHAPE, FP4_BAD_STRIDE, FP4_BAD_TYPE, FP4_BAD_SCALE, FP4_NULL; then nothing is
 *          written. rows = 0 is fine; cols = 0 gives zeros.
 */
static inline fp4_status fp4_ref_row_sums(fp4_matrix x, int squares, float *sums)
{
    const fp4_ref_call_ call = fp4_ref_call_of_(FP4_REF_RMSNORM_, x);
    fp4_status status = fp4_ref_check_matrix_(&x);
    size_t row;

    status = status == FP4_OK && x.cols % FP4_ROW_PIECE != 0 ? FP4_BAD_SHAPE : status;
    status = status == FP4_OK && x.rows != 0 && sums == NULL ? FP4_NULL : status;
    for (row = 0; row < x.rows && status == FP4_OK; row++) {
        sums[row] = x.cols == 0 ? 0.0f : fp4_ref_row_sum_(&call, row, 0.0f, squares);
    }
    return status;
}

/** RMSNorm: y = x / sqrt( mean(x^2) + eps ) * weight. weight: x.cols elements of x's type. */
static inline fp4_status fp4_ref_rmsnorm_quantize(fp4_matrix x, const void *weight, float eps,
                                                  const fp4_ref_fused *how, fp4_tensor *t)
{
    fp4_ref_call_ call = fp4_ref_call_of_(FP4_REF_RMSNORM_, x);

    call.weight = fp4_ref_row_of_(x, weight);
    call.eps = eps;
    return fp4_ref_fused_(call, how, t);
}

/**
 * RMSNorm with a residual: residual := x + residual, rounded to x's type; y is RMSNorm of that.
 *
 * shape    residual: x.rows x x.cols elements of x's type, row r at r * residual_stride elements,
 *          any alignment. Updated in place.
 */
static inline fp4_status fp4_ref_add_rmsnorm_quantize(fp4_matrix x, void *residual,
                                                      size_t residual_stride, const void *weight,
                                                      float eps, const fp4_ref_fused *how,
                                                      fp4_tensor *t)
{
    fp4_ref_call_ call = fp4_ref_call_of_(FP4_REF_RMSNORM_, x);

    call.residual = fp4_matrix_of_(residual, x.dtype, x.rows, x.cols, residual_stride, 1.0f);
    call.weight = fp4_ref_row_of_(x, weight);
    call.eps = eps;
    return fp4_ref_fused_(call, how, t);
}

/** LayerNorm: y = (x - mean(x)) / sqrt( var(x) + eps ) * weight + bias. weight, bias: x.cols
    elements of x's type each. */
static inline fp4_status fp4_ref_layernorm_quantize(fp4_matrix x, const void *weight,
                                                    const void *bias, float eps,
                                                    const fp4_ref_fused *how, fp4_tensor *t)
{
    fp4_ref_call_ call = fp4_ref_call_of_(FP4_REF_LAYERNORM_, x);

    call.weight = fp4_ref_row_of_(x, weight);
    call.bias = fp4_ref_row_of_(x, bias);
    call.eps = eps;
    return fp4_ref_fused_(call, how, t);
}

/**
 * SwiGLU's product: y = silu(gate) * up.
 *
 * shape    x: rows x 2K, t: rows x K. Gate is columns [0, K) and up [K, 2K); interleaved, gate is
 *          the even columns and up the odd ones.
 */
static inline fp4_status fp4_ref_silu_mul_quantize(fp4_matrix x, int interleaved,
                                                   const fp4_ref_fused *how, fp4_tensor *t)
{
    fp4_ref_call_ call = fp4_ref_call_of_(FP4_REF_SILU_MUL_, x);

    call.interleaved = interleaved;
    return fp4_ref_fused_(call, how, t);
}

/** GeGLU's product: y = gelu_tanh(gate) * up. Shapes as for fp4_ref_silu_mul_quantize. */
static inline fp4_status fp4_ref_gelu_tanh_mul_quantize(fp4_matrix x, int interleaved,
                                                        const fp4_ref_fused *how, fp4_tensor *t)
{
    fp4_ref_call_ call = fp4_ref_call_of_(FP4_REF_GELU_TANH_MUL_, x);

    call.interleaved = interleaved;
    return fp4_ref_fused_(call, how, t);
}

/** The gated activation of gpt-oss, fp4_swiglu_oai_up(fp4_swiglu_oai_gate(gate), up); gpt-oss has
    them interleaved. Shapes as for fp4_ref_silu_mul_quantize. */
static inline fp4_status fp4_ref_swiglu_oai_mul_quantize(fp4_matrix x, int interleaved,
                                                         const fp4_ref_fused *how, fp4_tensor *t)
{
    fp4_ref_call_ call = fp4_ref_call_of_(FP4_REF_SWIGLU_OAI_MUL_, x);

    call.interleaved = interleaved;
    return fp4_ref_fused_(call, how, t);
}

#endif /* FP4_HOST_OPS_H */
