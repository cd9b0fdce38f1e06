/*
 * 09_gemv.cu - a 4-bit matrix of weights times a 16-bit vector of activations (W4A16): the simplest
 * thing that one does with such weights, on any GPU. It reads each code once and decodes it in
 * registers.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/09_gemv.cu -o gemv && ./gemv
 *
 * To change the format or a type, edit one word below (or -DFORMAT=mxfp4).
 *
 * How it works: memory gives an H200 a code in the time of about four instructions, which is not
 * enough for floats: a conversion and a product for each. So it multiplies integers, four at a time
 * (dp4a): twice a code is one, from -12 to 12, and a piece of 16 elements of the vector becomes
 * integers of 23 bits with a unit in common, cut into three digits of a byte: each element to 2^-22
 * of the largest of its piece. From there on the sum over a piece is exact; a scale multiplies it.
 *
 * A CTA makes the digits of 8192 columns in shared memory, each thread a piece, and then goes over
 * its rows, two a warp at a time. Lanes take four pieces in turn, and load the codes of the next
 * four before they multiply these. host/gemv.h says in which order they add.
 */
#include <fp4/device/cvt.cuh>
#include <fp4/device/load.cuh>
#include <fp4/device/reduce.cuh>
#include <fp4/layout.h>

#if !defined(INPUT)
#define INPUT bf16 /* of the vector: f32, f16, bf16 */
#endif
#if !defined(FORMAT)
#define FORMAT nvfp4 /* nvfp4, mxfp4; nvfp4_32, mxfp4_16: with blocks of that length */
#endif
#if !defined(OUTPUT)
#define OUTPUT f32 /* f32, f16, bf16 */
#endif

/* What the words stand for. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define LANES_nvfp4 1 /* pieces of 16 elements that share a scale byte */
#define LANES_nvfp4_32 2
#define LANES_mxfp4 2
#define LANES_mxfp4_16 1
#define DECODE_nvfp4 decode_e4m3 /* scale bytes */
#define DECODE_nvfp4_32 decode_e4m3
#define DECODE_mxfp4 decode_e8m0
#define DECODE_mxfp4_16 decode_e8m0
#define IS_NVFP4_nvfp4 1 /* has a global scale */
#define IS_NVFP4_nvfp4_32 1
#define IS_NVFP4_mxfp4 0
#define IS_NVFP4_mxfp4_16 0
#define WORDS_f32 16 /* registers of 16 elements as in memory */
#define WORDS_f16 8
#define WORDS_bf16 8
#define ELEMENT_f32 4 /* bytes of an output element */
#define ELEMENT_f16 2
#define ELEMENT_bf16 2
#define PUT_f32(p, i, x) (((float *)(p))[i] = (x))
#define PUT_f16(p, i, x) (((uint16_t *)(p))[i] = fp4_f32_to_f16(x))
#define PUT_bf16(p, i, x) (((uint16_t *)(p))[i] = fp4_f32_to_bf16(x))

#define WORDS JOIN(WORDS_, INPUT, )
#define LOAD JOIN(fp4_load_u32x, WORDS, )
#define WIDEN JOIN(fp4_, INPUT, x16_to_f32x16)
#define DECODE JOIN(DECODE_, FORMAT, )
#define PUT JOIN(PUT_, OUTPUT, )

enum {
    LANES = JOIN(LANES_, FORMAT, ),
    BLOCK = 16 * LANES, /* elements that share a scale byte */
    IS_NVFP4 = JOIN(IS_NVFP4_, FORMAT, ),
    ELEMENT = JOIN(ELEMENT_, OUTPUT, ),
    THREADS = 512,
    ROWS = 2,                       /* of a warp */
    CTA_ROWS = THREADS / 32 * ROWS, /* of a CTA */
    FOUR = 4,                       /* pieces that a lane takes at a time */
    PIECES = 512                    /* of the vector, in digits at a time */
};

/* ------------------------------------------------------------------------------ arguments */

/**
 * y = weights * x.
 *
 * shape    q: rows * cols codes, row-major; cols: a multiple of 64, up to 2^32 - 64. sf:
 *          fp4_sf_bytes(layout, rows, cols / BLOCK) bytes. x: cols elements. y: rows elements; of
 *          no columns zeros. q, x: 16-byte aligned. sf: 4-byte aligned. y overlaps no input.
 * global   NVFP4: what the sums are multiplied by; +0 or positive, finite. Read from global_device
 *          where that is not null. MXFP4: not used.
 */
typedef struct gemv_args {
    void *y;
    const uint8_t *q, *sf;
    const void *x;
    size_t rows, cols;
    fp4_layout layout;
    const float *global_device;
    float global_dec;
} gemv_args;

/* ------------------------------------------------------------------------------ kernel */

/* Pieces of the vector, in integers X = x / unit: three digits, X = d0 + 256 * d1 + 65536 * d2, 16
   bytes of each, the highest signed; -140 times the sum of X, since codes come with 140 added; the
   unit / 256, as float. The first pieces of each four stand together, then the second, and so on,
   so that neighbouring lanes read neighbours. */
typedef struct vector_digits {
    uint4 digits[3][PIECES];
    uint2 rest[PIECES];
} vector_digits;

/* Byte `digit` of four words. */
static __device__ uint32_t digits_of(const uint32_t *x, int digit)
{
    const uint32_t pair = digit == 0 ? 0x0040u : digit == 1 ? 0x0051u : 0x0062u;
    return fp4_ptx_bytes(fp4_ptx_bytes(x[0], x[1], pair), fp4_ptx_bytes(x[2], x[3], pair), 0x5410u);
}

static __device__ __forceinline__ void make_digits(vector_digits *v, uint32_t slot, fp4_f32x16 x)
{
    const uint32_t amax = fp4_f32_bits(fp4_amax_or_nan_x16(x));
    const uint32_t exponent = fp4_max_u32(amax >> 23, 30);
    const float per_unit = fp4_bits_f32((275 - exponent) << 23); /* 2^(148 - exponent) */
    /* where an element is no number, so is the sum */
    const uint32_t unit_256th = amax >= 0x7f800000u ? 0x7fc00000u : (exponent - 29) << 23;
    uint32_t w[16], sum = 0;

#pragma unroll
    for (uint32_t i = 0; i < 16; i++) {
        /* adding 1.5 * 2^23 leaves an integer in the mantissa, from -2^22 to 2^22 with both */
        w[i] = fp4_f32_bits(fp4_fma_rn(x.v[i], per_unit, 12582912.0f)) - 0x4b400000u;
        sum += w[i];
    }
#pragma unroll
    for (int digit = 0; digit < 3; digit++) {
        v->digits[digit][slot] = make_uint4(digits_of(&w[0], digit), digits_of(&w[4], digit),
                                            digits_of(&w[8], digit), digits_of(&w[12], digit));
    }
    v->rest[slot] = make_uint2(0 - FP4_E2M1_U8_ZERO * sum, unit_256th);
}

/* The digits of columns from piece `from` on. All threads call. */
static __device__ __forceinline__ void make_all_digits(vector_digits *v, const gemv_args &a,
                                                       uint32_t from)
{
    fp4_ptx_barrier(); /* what stood there has been read */
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < PIECES && from + i < a.cols / 16; i += THREADS) {
        const uint8_t *x = (const uint8_t *)a.x + (from + i) * (size_t)(4 * WORDS);
        make_digits(v, i % FOUR * (PIECES / FOUR) + i / FOUR, WIDEN(LOAD(x)));
    }
    fp4_ptx_barrier();
}

/* The sum of the products of 16 codes with a piece: below 2^31, on the way modulo 2^32. */
static __device__ __forceinline__ int32_t dot(uint32_t q0, uint32_t q1, const uint4 d[3],
                                              uint32_t minus_zeros, fp4_u32x2 table)
{
    const fp4_u32x2 low = fp4_e2m1x8_to_u8x8(q0, table), high = fp4_e2m1x8_to_u8x8(q1, table);
    uint32_t s0 = minus_zeros, s1 = 0, s2 = 0;

    s0 = fp4_ptx_dot_u8u8(low.v[1], d[0].y, fp4_ptx_dot_u8u8(low.v[0], d[0].x, s0));
    s1 = fp4_ptx_dot_u8u8(low.v[1], d[1].y, fp4_ptx_dot_u8u8(low.v[0], d[1].x, s1));
    s2 = fp4_ptx_dot_u8s8(low.v[1], d[2].y, fp4_ptx_dot_u8s8(low.v[0], d[2].x, s2));
    s0 = fp4_ptx_dot_u8u8(high.v[1], d[0].w, fp4_ptx_dot_u8u8(high.v[0], d[0].z, s0));
    s1 = fp4_ptx_dot_u8u8(high.v[1], d[1].w, fp4_ptx_dot_u8u8(high.v[0], d[1].z, s1));
    s2 = fp4_ptx_dot_u8s8(high.v[1], d[2].w, fp4_ptx_dot_u8s8(high.v[0], d[2].z, s2));
    return (int32_t)(s0 + 256 * s1 + 65536 * s2);
}

/* Codes and scale bytes of four pieces of each of a warp's rows. */
typedef struct pieces {
    fp4_u32x8 q[ROWS];
    uint32_t sf[ROWS];
} pieces;

static __device__ float global_of(const gemv_args &a)
{
    return !IS_NVFP4 ? 1.0f : a.global_device == NULL ? a.global_dec : *a.global_device;
}

/* A word of scale bytes to the scales of four blocks. */
[[maybe_unused]] static __device__ fp4_f32x4 decode_e4m3(uint32_t sf)
{
    const fp4_u32x2 bytes = {{sf, 0}};
    const fp4_f32x8 x = fp4_e4m3x8_to_f32x8(bytes);
    const fp4_f32x4 four = {{x.v[0], x.v[1], x.v[2], x.v[3]}};
    return four;
}

[[maybe_unused]] static __device__ fp4_f32x4 decode_e8m0(uint32_t sf)
{
    const fp4_f32x4 four = {{fp4_e8m0_to_f32((uint8_t)sf), fp4_e8m0_to_f32((uint8_t)(sf >> 8)),
                             fp4_e8m0_to_f32((uint8_t)(sf >> 16)),
                             fp4_e8m0_to_f32((uint8_t)(sf >> 24))}};
    return four;
}

/* Adds the products of four pieces. */
static __device__ __forceinline__ void
add_pieces(float sum[ROWS], const pieces &p, const vector_digits &v, uint32_t slot, fp4_u32x2 table)
{
    fp4_f32x4 scale[ROWS];

#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++) {
        scale[r] = DECODE(p.sf[r]);
    }
#pragma unroll
    for (uint32_t i = 0; i < FOUR; i++, slot += PIECES / FOUR) {
        const uint4 digits[3] = {v.digits[0][slot], v.digits[1][slot], v.digits[2][slot]};
        const uint2 rest = v.rest[slot];
#pragma unroll
        for (uint32_t r = 0; r < ROWS; r++) {
            const int32_t s = dot(p.q[r].v[2 * i], p.q[r].v[2 * i + 1], digits, rest.x, table);
            sum[r] = fp4_fma_rn(fp4_mul_rn((float)s, fp4_bits_f32(rest.y)), scale[r].v[i / LANES],
                                sum[r]);
        }
    }
}

/* Where a lane loads next: it is ahead of what it adds, from the last pieces of its rows to the
   first of the next rows too. */
typedef struct cursor {
    const uint8_t *q, *sf;  /* in the first row */
    size_t q_next, sf_next; /* bytes from there to the next row */
    size_t row;             /* the first */
    uint32_t four;          /* which of them in the row */
} cursor;

/* At the first pieces of rows from `row` on; where there is no such row, of one that there is. */
static __device__ __forceinline__ cursor cursor_at(const gemv_args &a, size_t row)
{
    const uint32_t fours = (uint32_t)(a.cols / (16 * FOUR)), lane = threadIdx.x % 32;
    const size_t from = row < a.rows ? row : 0;
    const uint32_t four = lane < fours ? lane : 0;
    const uint32_t word_step = (uint32_t)fp4_sf_word_step(a.layout);
    const int is_last = from + 1 >= a.rows;
    cursor c;

    c.row = row;
    c.four = four;
    c.q = a.q + from * (a.cols / 2) + four * 32;
    c.q_next = is_last ? 0 : a.cols / 2;
    c.sf = a.sf + fp4_sf_offset(a.layout, from, 0, a.cols / BLOCK) +
           (LANES == 1 ? four * word_step : four / 2 * word_step + four % 2 * 2);
    /* rows of an even number, in either layout together with the next */
    c.sf_next = is_last ? 0 : fp4_sf_offset(a.layout, 1, 0, a.cols / BLOCK);
    return c;
}

static __device__ __forceinline__ pieces load_next(cursor *c, const gemv_args &a, size_t step)
{
    pieces p;

#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++) {
        const uint8_t *sf = c->sf + r * c->sf_next;
        p.q[r] = fp4_load_u32x8_cs(c->q + r * c->q_next);
        p.sf[r] = LANES == 1 ? *(const uint32_t *)sf : *(const uint16_t *)sf;
    }
    c->four += 32;
    c->q += 32 * 32;
    c->sf += 32 / LANES * fp4_sf_word_step(a.layout);
    if (c->four >= a.cols / (16 * FOUR)) {
        *c = cursor_at(a, c->row + step);
    }
    return p;
}

static __global__ void __launch_bounds__(THREADS, 1) gemv_rows(const gemv_args a)
{
    __shared__ vector_digits v;
    const uint32_t fours = (uint32_t)(a.cols / (16 * FOUR)), lane = threadIdx.x % 32;
    const fp4_u32x2 table = fp4_e2m1_u8_table();
    const size_t step = (size_t)gridDim.x * CTA_ROWS;
    size_t row = (size_t)blockIdx.x * CTA_ROWS + threadIdx.x / 32 * ROWS; /* the warp's first */
    size_t turns = (a.rows - (size_t)blockIdx.x * CTA_ROWS + step - 1) / step;
    int is_new = 1; /* the vector's digits are still to be made */
    cursor c = cursor_at(a, row);

    fp4_pdl_wait();
    pieces next = load_next(&c, a, step);
    for (; turns > 0; turns--, row += step) {
        float sum[ROWS] = {};
        for (uint32_t from = 0; from < fours; from += PIECES / FOUR) {
            const uint32_t end = fours - from < PIECES / FOUR ? fours : from + PIECES / FOUR;
            if (is_new || fours > PIECES / FOUR) {
                make_all_digits(&v, a, from * FOUR);
                is_new = 0;
            }
            for (uint32_t four = from + lane; four < end; four += 32) {
                const pieces p = next;
                next = load_next(&c, a, step);
                add_pieces(sum, p, v, four - from, table);
            }
        }
#pragma unroll
        for (uint32_t r = 0; r < ROWS; r++) {
            const float all = fp4_warp_sum(sum[r]);
            if (lane == r && row + r < a.rows) {
                PUT(a.y, row + r, fp4_mul_rn(fp4_mul_rn(all, 128.0f), global_of(a)));
            }
        }
    }
    fp4_pdl_trigger();
}

/* ------------------------------------------------------------------------------ launcher */

static int is_bad(const gemv_args *a)
{
    return a->y == NULL || (a->cols != 0 && (a->q == NULL || a->sf == NULL || a->x == NULL)) ||
           a->cols % (16 * FOUR) != 0 || a->cols > 0xfffffff0u || /* shape */
           a->rows > (size_t)0x7fffffffu * CTA_ROWS ||
           (a->cols != 0 && a->rows > (size_t)-1 / a->cols) || (unsigned)a->layout > 2 ||
           (size_t)a->q % 16 != 0 || (size_t)a->x % 16 != 0 || /* align */
           (size_t)a->sf % 4 != 0 || (size_t)a->y % ELEMENT != 0 ||
           (IS_NVFP4 && (a->global_device != NULL ? (size_t)a->global_device % 4 != 0
                                                  : fp4_f32_bits(a->global_dec) >= 0x7f800000u));
}

/**
 * Multiplies on `stream`: one launch (of no columns a memset), no allocation, no synchronization,
 * nothing read on the host, so that a CUDA graph can capture it.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory. Only with code compiled for sm_90 or later.
 * errors   cudaErrorInvalidValue for a bad shape, alignment, scale or null pointer: nothing
 *          launched, nothing written. rows = 0 is no error. What the runtime says where it cannot
 *          tell how many multiprocessors the device has.
 */
static cudaError_t gemv(const gemv_args *a, int pdl, cudaStream_t stream)
{
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};
    void *arguments[] = {(void *)a};
    const size_t groups = (a->rows + CTA_ROWS - 1) / CTA_ROWS;
    size_t ctas;
    int device = 0, processors = 0;
    cudaError_t error;

    if (a->rows == 0) {
        return cudaSuccess;
    }
    if (is_bad(a)) {
        return cudaErrorInvalidValue;
    }
    if (a->cols == 0) { /* sums of nothing */
        return cudaMemsetAsync(a->y, 0, a->rows * ELEMENT, stream);
    }
    error = cudaGetDevice(&device);
    if (error == cudaSuccess) {
        error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    }
    if (error != cudaSuccess) {
        return error;
    }
    ctas = (size_t)processors; /* one each, which has rows in turn */
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3((unsigned)(groups < ctas ? groups : ctas));
    config.blockDim = dim3(THREADS);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = pdl ? 1 : 0;
    return cudaLaunchKernelExC(&config, (const void *)gemv_rows, arguments);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/gemv.h>

#include <stdio.h>
#include <stdlib.h>

#define DTYPE_f32 FP4_F32
#define DTYPE_f16 FP4_F16
#define DTYPE_bf16 FP4_BF16
#define FORMAT_nvfp4 FP4_NVFP4
#define FORMAT_mxfp4 FP4_MXFP4
#define FORMAT_nvfp4_32 FP4_NVFP4_32
#define FORMAT_mxfp4_16 FP4_MXFP4_16
#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "gemv: %s\n", cudaGetErrorString(error));
        exit(1);
    }
}

/* Host memory with bytes from `least` to `least` + `most`. */
static uint8_t *bytes_of(size_t n, uint8_t least, uint8_t most, uint32_t state)
{
    uint8_t *p = (uint8_t *)malloc(n);

    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        p[i] = (uint8_t)(least + (state >> 24) % (most + 1u));
    }
    return p;
}

static void *device(const void *host, size_t bytes)
{
    void *p;

    must(cudaMalloc(&p, bytes));
    must(host != NULL ? cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice)
                      : cudaMemset(p, 0x7f, bytes));
    return p;
}

/* Median of 20 launches, each over weights of its own: memory's speed, not the cache's. */
static void measure(gemv_args a, size_t q_bytes, size_t sf_bytes)
{
    enum { COPIES = 8 };
    cudaEvent_t start, stop;
    gemv_args copy[COPIES];
    float ms[20];

    for (int i = 0; i < COPIES; i++) {
        copy[i] = a;
        copy[i].q = (const uint8_t *)device(NULL, q_bytes);
        copy[i].sf = (const uint8_t *)device(NULL, sf_bytes);
        must(cudaMemcpy((void *)copy[i].q, a.q, q_bytes, cudaMemcpyDeviceToDevice));
        must(cudaMemcpy((void *)copy[i].sf, a.sf, sf_bytes, cudaMemcpyDeviceToDevice));
    }
    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        for (int j = 0; j < COPIES; j++) {
            must(gemv(&copy[j], 0, 0));
        }
        must(cudaEventRecord(stop, 0));
        must(cudaEventSynchronize(stop));
        must(cudaEventElapsedTime(&ms[i], start, stop));
        for (int j = i; j > 0 && ms[j] < ms[j - 1]; j--) {
            const float swap = ms[j];
            ms[j] = ms[j - 1];
            ms[j - 1] = swap;
        }
    }
    printf("  %.2f us, %.0f GB/s\n", 1e3 * ms[10] / COPIES,
           1e-6 * (double)(q_bytes + sf_bytes) * COPIES / ms[10]);
}

/* The kernel's y and that of its host twin; then, where that is asked for, its speed. */
static int check(size_t rows, size_t cols, fp4_layout layout, int is_timed)
{
    const fp4_format format = JOIN(FORMAT_, FORMAT, );
    const size_t q_bytes = fp4_q_bytes(format, rows, cols);
    const size_t sf_bytes = fp4_sf_bytes(layout, rows, cols / BLOCK);
    uint8_t *q = bytes_of(q_bytes, 0, 255, 1), *sf = bytes_of(sf_bytes, IS_NVFP4 ? 40 : 120, 15, 2);
    float *x = (float *)malloc(cols * sizeof(float));
    uint8_t *expected = (uint8_t *)malloc(rows * ELEMENT), *y = (uint8_t *)malloc(rows * ELEMENT);
    fp4_tensor t = fp4_tensor_view(format, layout, rows, cols, q, q_bytes, sf, sf_bytes);
    const fp4_matrix m = {x, JOIN(DTYPE_, INPUT, ), 1, cols, cols, 1.0f};
    gemv_args a = {};
    int is_same;

    t.global_dec = IS_NVFP4 ? 0.01f : 1.0f;
    for (size_t i = 0; i < cols; i++) {
        const float v = 0.1f * (float)(i % 41) - 2.0f;
        if (m.dtype == FP4_F32) {
            x[i] = v;
        } else {
            ((uint16_t *)x)[i] = m.dtype == FP4_F16 ? fp4_f32_to_f16(v) : fp4_f32_to_bf16(v);
        }
    }
    a.y = device(NULL, rows * ELEMENT);
    a.q = (const uint8_t *)device(q, q_bytes);
    a.sf = (const uint8_t *)device(sf, sf_bytes);
    a.x = device(x, cols * sizeof(float));
    a.rows = rows;
    a.cols = cols;
    a.layout = layout;
    a.global_dec = t.global_dec;
    must(gemv(&a, 0, 0));
    must(cudaMemcpy(y, a.y, rows * ELEMENT, cudaMemcpyDeviceToHost));
    if (fp4_ref_gemv(&t, m, JOIN(DTYPE_, OUTPUT, ), expected, rows * ELEMENT) != FP4_OK) {
        return 0;
    }
    is_same = memcmp(y, expected, rows * ELEMENT) == 0;
    printf("%zu x %zu, device and host: %s\n", rows, cols, is_same ? "same bytes" : "differ");
    if (is_same && is_timed) {
        measure(a, q_bytes, sf_bytes);
    }
    free(q);
    free(sf);
    free(x);
    free(y);
    free(expected);
    return is_same;
}

int main(void)
{
    printf("%s times %s to %s\n", TEXT(FORMAT), TEXT(INPUT), TEXT(OUTPUT));
    return !(check(1, 64, FP4_LAYOUT_128X4, 0) && check(130, 4160, FP4_LAYOUT_8X4, 0) &&
             check(8192, 8192, FP4_LAYOUT_LINEAR, 1) && check(8192, 8192, FP4_LAYOUT_128X4, 1) &&
             check(28672, 8192, FP4_LAYOUT_LINEAR, 1));
}
#endif
