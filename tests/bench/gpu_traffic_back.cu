/*
 * gpu_traffic_back.cu - the same-traffic kernels of what makes floats, as gpu_traffic.cu has those
 * of what makes codes: each reads every byte of its input once and writes every byte of its output
 * once, with nothing but xor in between.
 *
 * Codes and scale bytes to y, or x (and amaxes) to y (and bits of what is clipped): a piece is 16
 * bytes of y, so that the stores of a warp are one run of bytes; of x also 32, or 128 where an
 * eighth as many bytes come of them. Scale bytes of rows that are only padding are not read: no
 * kernel has to.
 *
 * Sums: codes and scale bytes to one f32 a row. What the rows are multiplied with stays in the
 * caches and is not read here.
 */
#include "gpu_bench.h"

#include <fp4/divisor.h>
#include <fp4/layout.h>

enum { BACK_THREADS = 512 }; /* of a CTA, at most */

/* ------------------------------------------------------------ words */

template <uint32_t BYTES> struct words {
    uint32_t v[(BYTES + 3) / 4] = {};
};

template <typename WORD, int HINT> static __device__ WORD load_as(const void *p)
{
    return HINT ? __ldcs((const WORD *)p) : *(const WORD *)p;
}

template <typename WORD, int HINT> static __device__ void store_as(void *p, WORD w)
{
    if (HINT) {
        __stcs((WORD *)p, w);
    } else {
        *(WORD *)p = w;
    }
}

template <uint32_t BYTES, int HINT> static __device__ words<BYTES> load_words(const uint8_t *p)
{
    words<BYTES> w;

    if constexpr (BYTES == 2) {
        w.v[0] = load_as<unsigned short, HINT>(p);
    } else if constexpr (BYTES == 4) {
        w.v[0] = load_as<uint32_t, HINT>(p);
    } else if constexpr (BYTES == 8) {
        const uint2 v = load_as<uint2, HINT>(p);
        w.v[0] = v.x;
        w.v[1] = v.y;
    } else {
#pragma unroll
        for (uint32_t i = 0; i < BYTES / 4; i += 4) {
            const uint4 v = load_as<uint4, HINT>(p + 4 * i);
            w.v[i] = v.x;
            w.v[i + 1] = v.y;
            w.v[i + 2] = v.z;
            w.v[i + 3] = v.w;
        }
    }
    return w;
}

/* ------------------------------------------------------------ pieces of y */

/* What a piece depends on beside its own bytes. */
typedef enum back_scales {
    BACK_NONE,
    BACK_AMAX,
    BACK_LINEAR, /* scale bytes, */
    BACK_TILED   /* which stand as in 128x4 and 8x4 */
} back_scales;

typedef struct back_args {
    uint8_t *y, *clipped;
    const uint8_t *in, *sf; /* in: codes or x */
    const float *amax, *scalar;
    size_t pieces;
    uint32_t row_log2;   /* pieces in a row */
    uint32_t share_log2; /* pieces that share a scale; if that is no power of two: */
    uint32_t elements;   /* of a piece, else 0 */
    fp4_divisor block;
    uint32_t parts_log2; /* CTAs next to each other in a row, of those that take four rows */
    uint32_t sf_cols;
    fp4_layout layout;
} back_args;

/* The first of a thread's four rows, and the distance to the next: those whose scale bytes stand
   in one word of 16 bytes. */
static __device__ uint32_t first_of_four(const back_args &a)
{
    const uint32_t four = blockIdx.x >> a.parts_log2;
    return a.layout == FP4_LAYOUT_128X4 ? four / 32 * 128 + four % 32 : four * 4;
}

static __device__ uint32_t step_of_four(const back_args &a)
{
    return a.layout == FP4_LAYOUT_128X4 ? 32 : 1;
}

/* The column of piece j of a thread that has four rows. */
template <uint32_t EACH> static __device__ uint32_t col_of_four(const back_args &a, uint32_t j)
{
    const uint32_t part = blockIdx.x & ((1u << a.parts_log2) - 1);
    return (part * (EACH / 4) + j / 4) * blockDim.x + threadIdx.x;
}

/* Which piece of the tensor is piece j of a thread. */
template <uint32_t EACH, int FOURS>
static __device__ size_t piece_of(const back_args &a, uint32_t j)
{
    if constexpr (FOURS) {
        const size_t row = first_of_four(a) + j % 4 * step_of_four(a);
        return (row << a.row_log2) + col_of_four<EACH>(a, j);
    }
    return (size_t)blockIdx.x * (blockDim.x * EACH) + j * blockDim.x + threadIdx.x;
}

template <back_scales SCALES> static __device__ uint32_t scale_of(const back_args &a, size_t i)
{
    if constexpr (SCALES == BACK_AMAX) {
        return __float_as_uint(a.amax[i >> a.share_log2]);
    } else if constexpr (SCALES == BACK_LINEAR) {
        return a.sf[a.elements == 0 ? i >> a.share_log2
                                    : fp4_divide((uint32_t)i * a.elements, a.block)];
    } else if constexpr (SCALES == BACK_TILED) {
        const size_t row = i >> a.row_log2, col = i & ((1u << a.row_log2) - 1);
        return a.sf[fp4_sf_offset(a.layout, row, col >> a.share_log2, a.sf_cols)];
    }
    return 0;
}

/* The scales of all pieces of a thread. */
template <uint32_t EACH, int FOURS, back_scales SCALES>
static __device__ void load_scales(const back_args &a, uint32_t (&s)[EACH])
{
    if constexpr (FOURS && SCALES == BACK_TILED) {
#pragma unroll
        for (uint32_t j = 0; j < EACH; j += 4) {
            const uint32_t sf_col = (col_of_four<EACH>(a, j) >> a.share_log2) / 4 * 4;
            const words<16> w = load_words<16, 0>(
                a.sf + fp4_sf_offset(a.layout, first_of_four(a), sf_col, a.sf_cols));
#pragma unroll
            for (uint32_t k = 0; k < 4; k++) {
                s[j + k] = w.v[k];
            }
        }
    } else {
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) {
            const size_t i = piece_of<EACH, FOURS>(a, j);
            s[j] = i < a.pieces ? scale_of<SCALES>(a, i) : 0;
        }
    }
}

/* Stores piece i, made of its bytes, each as often as it takes, or of several of them. */
template <uint32_t IN, uint32_t OUT, int HINT>
static __device__ void store_piece(const back_args &a, size_t i, const words<IN> &w, uint32_t scale)
{
    const uint32_t words_in = (IN + 3) / 4;
    uint32_t out[OUT / 4], all = 0;

#pragma unroll
    for (uint32_t k = 0; k < OUT / 4; k++) {
        out[k] = w.v[k % words_in] ^ scale;
        for (uint32_t j = k + OUT / 4; j < words_in; j += OUT / 4) {
            out[k] ^= w.v[j];
        }
        all ^= out[k];
    }
    if constexpr (OUT == 4) {
        store_as<uint32_t, HINT>(a.y + i * OUT, out[0]);
    } else {
#pragma unroll
        for (uint32_t k = 0; k < OUT / 4; k += 4) {
            store_as<uint4, HINT>(a.y + i * OUT + 4 * k,
                                  make_uint4(out[k], out[k + 1], out[k + 2], out[k + 3]));
        }
    }
    if (IN == OUT && a.clipped != NULL) { /* a bit for 2 bytes */
        if (OUT == 16) {
            store_as<unsigned char, HINT>(a.clipped + i, (unsigned char)all);
        } else {
            store_as<unsigned short, HINT>(a.clipped + 2 * i, (unsigned short)all);
        }
    }
}

template <uint32_t IN, uint32_t OUT, uint32_t EACH, int FOURS, back_scales SCALES, int HINT>
static __global__ void __launch_bounds__(BACK_THREADS) traffic_back(const back_args a)
{
    words<IN> w[EACH];
    uint32_t s[EACH];

    if (piece_of<EACH, FOURS>(a, 0) >= a.pieces) {
        return;
    }
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const size_t i = piece_of<EACH, FOURS>(a, j);
        if (i < a.pieces) {
            w[j] = load_words<IN, HINT>(a.in + i * IN);
        }
    }
    load_scales<EACH, FOURS, SCALES>(a, s);
    const uint32_t scalar = a.scalar != NULL ? __float_as_uint(*a.scalar) : 0;
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const size_t i = piece_of<EACH, FOURS>(a, j);
        if (i < a.pieces) {
            store_piece<IN, OUT, HINT>(a, i, w[j], s[j] ^ scalar);
        }
    }
}

/* ------------------------------------------------------------ sums of rows */

typedef struct sums_args {
    uint32_t *y;
    const uint4 *q, *sf;
    const float *scalar;
    uint32_t rows, workers; /* workers: warps or CTAs, each with some rows at a time */
    uint32_t lanes;         /* of a worker */
    uint32_t words;         /* of 16 bytes of codes in a row, */
    uint32_t sf_words;      /* and of scale bytes, as if they were linear: which byte belongs to
                               which row does not matter */
    uint32_t sf_lanes;      /* that load scale bytes where all load EACH words of codes */
} sums_args;

static __device__ uint32_t fold(uint4 v)
{
    return v.x ^ v.y ^ v.z ^ v.w;
}

/* Of all of a worker's lanes: 32, or those of the CTA. */
template <uint32_t ROWS> static __device__ void fold_lanes(uint32_t (&v)[ROWS], uint32_t lanes)
{
    __shared__ uint32_t parts[BACK_THREADS / 32][ROWS];

#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++) {
        for (int step = 16; step > 0; step /= 2) {
            v[r] ^= __shfl_xor_sync(0xffffffffu, v[r], step);
        }
    }
    if (lanes == 32) {
        return;
    }
    __syncthreads(); /* what stands there from the last time has been read */
#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++) {
        if (threadIdx.x % 32 == 0) {
            parts[threadIdx.x / 32][r] = v[r];
        }
        v[r] = 0;
    }
    __syncthreads();
    for (uint32_t i = 0; i < lanes / 32; i++) {
#pragma unroll
        for (uint32_t r = 0; r < ROWS; r++) {
            v[r] ^= parts[i][r];
        }
    }
}

template <uint32_t ROWS, uint32_t EACH, int HINT>
static __global__ void __launch_bounds__(BACK_THREADS) traffic_sums(const sums_args a)
{
    const uint32_t lane = threadIdx.x % a.lanes;
    const uint32_t first = (blockIdx.x * (blockDim.x / a.lanes) + threadIdx.x / a.lanes) * ROWS;
    const uint32_t scalar = a.scalar != NULL ? __float_as_uint(*a.scalar) : 0;

    for (uint32_t row = first; row < a.rows; row += a.workers * ROWS) {
        uint32_t all[ROWS] = {};
        for (uint32_t turn = 0; turn * a.lanes * EACH < a.words; turn++) {
            uint4 v[ROWS][EACH], sf[ROWS];
#pragma unroll
            for (uint32_t r = 0; r < ROWS; r++) {
                const size_t here = row + r < a.rows ? row + r : row;
                const uint4 *q = a.q + here * a.words + turn * a.lanes * EACH + lane;
#pragma unroll
                for (uint32_t j = 0; j < EACH; j++) {
                    v[r][j] = load_as<uint4, HINT>(q + j * a.lanes);
                }
                sf[r] = make_uint4(0, 0, 0, 0);
                if (lane < a.sf_lanes) {
                    sf[r] =
                        load_as<uint4, HINT>(a.sf + here * a.sf_words + turn * a.sf_lanes + lane);
                }
            }
            /* Never. Without it words are folded as they come: that takes fewer registers, and has
               fewer loads in flight. */
            if (a.workers == 0) {
                __nanosleep(0);
            }
#pragma unroll
            for (uint32_t r = 0; r < ROWS; r++) {
#pragma unroll
                for (uint32_t j = 0; j < EACH; j++) {
                    all[r] ^= fold(v[r][j]);
                }
                all[r] ^= fold(sf[r]);
            }
        }
        fold_lanes<ROWS>(all, a.lanes);
#pragma unroll
        for (uint32_t r = 0; r < ROWS; r++) {
            if (lane == 0 && row + r < a.rows) {
                a.y[row + r] = all[r] ^ scalar;
            }
        }
    }
}

/* ------------------------------------------------------------ which of them */

template <uint32_t IN, uint32_t OUT, back_scales SCALES, int HINT>
static const void *back_of_pieces(const traffic_variant *v)
{
    const bool is_fours = v->kind == TRAFFIC_FOURS;
    switch (v->each) {
    case 1:
        return is_fours ? NULL : (const void *)traffic_back<IN, OUT, 1, 0, SCALES, HINT>;
    case 2:
        return is_fours ? NULL : (const void *)traffic_back<IN, OUT, 2, 0, SCALES, HINT>;
    case 4:
        return is_fours ? (const void *)traffic_back<IN, OUT, 4, 1, SCALES, HINT>
                        : (const void *)traffic_back<IN, OUT, 4, 0, SCALES, HINT>;
    case 8:
        return is_fours ? (const void *)traffic_back<IN, OUT, 8, 1, SCALES, HINT>
                        : (const void *)traffic_back<IN, OUT, 8, 0, SCALES, HINT>;
    default:
        return NULL;
    }
}

template <uint32_t IN, uint32_t OUT, back_scales SCALES>
static const void *back_of(const traffic_variant *v)
{
    return v->hints ? back_of_pieces<IN, OUT, SCALES, 1>(v) : back_of_pieces<IN, OUT, SCALES, 0>(v);
}

template <int HINT> static const void *sums_of(const traffic_variant *v)
{
    switch (v->run * 10 + v->each) {
    case 11:
        return (const void *)traffic_sums<1, 1, HINT>;
    case 12:
        return (const void *)traffic_sums<1, 2, HINT>;
    case 14:
        return (const void *)traffic_sums<1, 4, HINT>;
    case 18:
        return (const void *)traffic_sums<1, 8, HINT>;
    case 21:
        return (const void *)traffic_sums<2, 1, HINT>;
    case 22:
        return (const void *)traffic_sums<2, 2, HINT>;
    case 24:
        return (const void *)traffic_sums<2, 4, HINT>;
    case 28:
        return (const void *)traffic_sums<2, 8, HINT>;
    case 41:
        return (const void *)traffic_sums<4, 1, HINT>;
    case 42:
        return (const void *)traffic_sums<4, 2, HINT>;
    case 44:
        return (const void *)traffic_sums<4, 4, HINT>;
    default:
        return NULL;
    }
}

/* The kernel of a variant, or NULL where there is none. */
static const void *kernel_of(const bench_traffic *t, const traffic_variant *v)
{
    const bool is_linear = t->layout == FP4_LAYOUT_LINEAR, has_amax = t->inputs == TRAFFIC_AMAX;

    if (t->way == TRAFFIC_SUMS) {
        return v->hints ? sums_of<1>(v) : sums_of<0>(v);
    }
    if (t->way == TRAFFIC_EIGHTH) {
        const int bytes = v->elements * t->element;
        return v->kind != TRAFFIC_RUN ? NULL
               : bytes == 32          ? back_of<32, 4, BACK_NONE>(v)
               : bytes == 128         ? back_of<128, 16, BACK_NONE>(v)
                                      : NULL;
    }
    if (t->way == TRAFFIC_FAKE) {
        if (t->code_bits != 0 && t->element != 2) {
            return NULL;
        }
        switch (v->elements * t->element) {
        case 16:
            return has_amax ? back_of<16, 16, BACK_AMAX>(v) : back_of<16, 16, BACK_NONE>(v);
        case 32:
            return has_amax ? back_of<32, 32, BACK_AMAX>(v) : back_of<32, 32, BACK_NONE>(v);
        default:
            return NULL;
        }
    }
    if (v->elements * t->element != 16) {
        return NULL;
    }
    switch (v->elements * t->code_bits / 8) {
    case 2:
        return is_linear ? back_of<2, 16, BACK_LINEAR>(v) : back_of<2, 16, BACK_TILED>(v);
    case 4:
        return is_linear ? back_of<4, 16, BACK_LINEAR>(v) : back_of<4, 16, BACK_TILED>(v);
    case 8:
        return is_linear ? back_of<8, 16, BACK_LINEAR>(v) : back_of<8, 16, BACK_TILED>(v);
    default:
        return NULL;
    }
}

static uint32_t log2_of(size_t n)
{
    uint32_t log2 = 0;
    while ((size_t)2 << log2 <= n) {
        log2++;
    }
    return log2;
}

static bool is_power_of_two(size_t n)
{
    return (n & (n - 1)) == 0;
}

/* Of a row of codes and of its scale bytes. */
static size_t words_of(const bench_traffic *t, size_t cols)
{
    return cols * (size_t)t->code_bits / 128;
}

static size_t sf_words_of(const bench_traffic *t, size_t cols)
{
    return cols / (size_t)t->block / 16;
}

/* Whether the columns are whole turns of what a CTA or a worker takes of a row. */
static bool fits(const bench_traffic *t, const traffic_variant *v, size_t cols)
{
    const size_t words = words_of(t, cols), in_turn = (size_t)(v->lanes * v->each);

    if (t->way == TRAFFIC_SUMS) {
        return words % in_turn == 0 && sf_words_of(t, cols) * in_turn >= words;
    }
    if (!is_power_of_two(cols)) {
        return v->kind == TRAFFIC_RUN && t->way == TRAFFIC_FROM_CODES &&
               t->layout == FP4_LAYOUT_LINEAR;
    }
    return v->kind != TRAFFIC_FOURS ||
           cols / (size_t)v->elements % (size_t)(v->threads * v->each / 4) == 0;
}

static int sums_variants(const bench_traffic *t, size_t cols, traffic_variant list[TRAFFIC_MOST])
{
    int count = 0;

    for (int i = 0; i < 3 * 3 * 4 * 3 * 2 * 2; i++) {
        const int threads = 128 << i / 144, stay = i / 48 % 3;
        const traffic_variant v = {TRAFFIC_REDUCED,
                                   128 / t->code_bits,
                                   1 << i / 12 % 4,
                                   threads,
                                   i % 2,
                                   1 << i / 4 % 3,
                                   0,
                                   0,
                                   0,
                                   i / 2 % 2 ? threads : 32,
                                   stay * 1024 / threads};
        if (kernel_of(t, &v) != NULL && fits(t, &v, cols)) {
            list[count++] = v;
        }
    }
    return count;
}

int traffic_back_variants(const bench_traffic *t, size_t rows, size_t cols,
                          traffic_variant list[TRAFFIC_MOST])
{
    const bool is_small = rows <= 512;
    int count = 0;

    if (t->way == TRAFFIC_SUMS) {
        return sums_variants(t, cols, list);
    }
    for (int i = 0; i < 3 * 4 * 4 * 2 * 2; i++) {
        const traffic_variant v = {i % 2 ? TRAFFIC_FOURS : TRAFFIC_RUN,
                                   (i / 64 == 2 ? 128
                                    : i / 64    ? 32
                                                : 16) /
                                       t->element,
                                   1 << i / 16 % 4,
                                   64 << i / 4 % 4,
                                   i / 2 % 2,
                                   0,
                                   0,
                                   0,
                                   0,
                                   0,
                                   0};
        if (kernel_of(t, &v) != NULL && fits(t, &v, cols) && v.elements <= t->block &&
            v.each * v.elements * t->element <= 128 && (is_small ? !v.hints : v.threads >= 128)) {
            list[count++] = v;
        }
    }
    return count;
}

static cudaError_t launch_sums(const bench_traffic *t, const traffic_variant *v,
                               const bench_buffers *b, cudaStream_t stream)
{
    static int sms = 0;
    const uint32_t in_cta = (uint32_t)(v->threads / v->lanes), at_a_time = (uint32_t)v->run;
    const uint32_t groups = ((uint32_t)b->rows + at_a_time - 1) / at_a_time;
    uint32_t ctas = (groups + in_cta - 1) / in_cta;
    sums_args a = {};
    void *arguments[] = {&a};

    if (v->stay != 0) {
        if (sms == 0) {
            const cudaError_t error =
                cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0);
            if (error != cudaSuccess) {
                return error;
            }
        }
        ctas = ctas < (uint32_t)(sms * v->stay) ? ctas : (uint32_t)(sms * v->stay);
    }
    a.y = (uint32_t *)b->y;
    a.q = (const uint4 *)b->q;
    a.sf = (const uint4 *)b->sf;
    a.scalar = t->scalars > 0 ? b->global_enc : NULL;
    a.rows = (uint32_t)b->rows;
    a.workers = ctas * in_cta;
    a.lanes = (uint32_t)v->lanes;
    a.words = (uint32_t)words_of(t, b->cols);
    a.sf_words = (uint32_t)sf_words_of(t, b->cols);
    a.sf_lanes = a.sf_words * a.lanes * (uint32_t)v->each / a.words;
    return cudaLaunchKernel(kernel_of(t, v), dim3(ctas), dim3((unsigned)v->threads), arguments, 0,
                            stream);
}

/* Of rows that are there, those whose scale bytes stand in one word count once. */
static size_t fours_of(fp4_layout layout, size_t rows)
{
    const size_t last = rows % 128;
    return layout == FP4_LAYOUT_128X4 ? rows / 128 * 32 + (last < 32 ? last : 32) : (rows + 3) / 4;
}

cudaError_t traffic_back_launch(const bench_traffic *t, const traffic_variant *v,
                                const bench_buffers *b, cudaStream_t stream)
{
    const size_t in_row = b->cols / (size_t)v->elements, in_cta = (size_t)(v->threads * v->each);
    size_t ctas;
    back_args a = {};
    void *arguments[] = {&a};

    if (kernel_of(t, v) == NULL || !fits(t, v, b->cols)) {
        return cudaErrorInvalidValue;
    }
    if (t->way == TRAFFIC_SUMS) {
        return launch_sums(t, v, b, stream);
    }
    a.y = t->way == TRAFFIC_EIGHTH ? b->q : b->y;
    a.clipped = t->way == TRAFFIC_FAKE ? b->q : NULL;
    a.in = b->x != NULL ? (const uint8_t *)b->x : b->q;
    a.sf = b->sf;
    a.amax = b->amax;
    a.scalar = t->scalars > 0 ? b->global_enc : NULL;
    a.pieces = b->rows * in_row;
    a.row_log2 = log2_of(in_row);
    a.share_log2 = log2_of((size_t)(t->block / v->elements));
    if (!is_power_of_two((size_t)t->block)) {
        a.elements = (uint32_t)v->elements;
        a.block = fp4_divisor_of((uint32_t)t->block);
    }
    a.sf_cols = (uint32_t)(b->cols / (size_t)t->block);
    a.layout = t->layout;
    if (v->kind == TRAFFIC_FOURS) {
        a.parts_log2 = log2_of(4 * in_row / in_cta);
        ctas = fours_of(t->layout, b->rows) << a.parts_log2;
    } else {
        ctas = (a.pieces + in_cta - 1) / in_cta;
    }
    return cudaLaunchKernel(kernel_of(t, v), dim3((unsigned)ctas), dim3((unsigned)v->threads),
                            arguments, 0, stream);
}
