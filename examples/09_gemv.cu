/*
 * 09_gemv.cu - a 4-bit matrix of weights times a 16-bit vector of activations (W4A16): the simplest
 * thing that one does with such weights, on any GPU. It reads each code once and decodes it in
 * registers.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/09_gemv.cu -o gemv && ./gemv
 *
 * To change the format or a type, edit one word below.
 *
 * How it works: a multiprocessor has about four instructions a code to spend before that takes
 * longer than reading it, which is not enough for floats: a conversion and a product for each. So
 * it multiplies in integers, four at a time (dp4a): twice a code is one, from -12 to 12, and a
 * piece of 16 elements of the vector is made of integers of 23 bits with a unit in common, cut into
 * three digits of a byte. The sum over a piece is exact; it is what a scale multiplies.
 *
 * The CTA makes the digits of up to 8192 columns, each thread a piece, in shared memory. Then a
 * warp has two rows; its lanes take four pieces in turn, and load the codes of the next four before
 * they multiply these. host/gemv.h says in which order they add.
 */
#include <fp4/device/cvt.cuh>
#include <fp4/device/load.cuh>
#include <fp4/device/reduce.cuh>
#include <fp4/layout.h>

#if !defined(INPUT)
#define INPUT bf16   /* of the vector: f32, f16, bf16 */
#define FORMAT nvfp4 /* nvfp4, mxfp4; nvfp4_32, mxfp4_16: with blocks of that length */
#define OUTPUT f32   /* f32, f16, bf16 */
#endif

/* What the words stand for. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define LANES_nvfp4 1 /* pieces of 16 elements that share a scale byte */
#define LANES_nvfp4_32 2
#define LANES_mxfp4 2
#define LANES_mxfp4_16 1
#define DECODE_nvfp4 fp4_cvt_e4m3_to_f32
#define DECODE_nvfp4_32 fp4_cvt_e4m3_to_f32
#define DECODE_mxfp4 fp4_e8m0_to_f32
#define DECODE_mxfp4_16 fp4_e8m0_to_f32
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
    PIECES = THREADS                /* of the vector, in digits at a time */
};

/* ------------------------------------------------------------------------------ arguments */

/**
 * y = weights * x.
 *
 * shape    q: rows * cols codes, row-major; cols: a multiple of 64. x: cols elements. y: rows
 *          elements. sf: fp4_sf_bytes(layout, rows, cols / BLOCK) bytes.
 *          q, x: 16-byte aligned. sf: 4-byte aligned.
 * global   NVFP4: what the sums are multiplied by; 0 or positive, finite. Read from global_device
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

/* Pieces of the vector: x = (digits 0 + 256 * digits 1 + 65536 * digits 2) * unit, 16 bytes of
   each. The highest digits are signed. */
typedef struct vector_digits {
    uint4 digits[3][PIECES];
    float half_unit[PIECES];
} vector_digits;

/* Where piece i stands: the first of each four together, then the second, and so on, so that
   neighbouring lanes read neighbours. */
static __device__ uint32_t digits_at(uint32_t i)
{
    return i % FOUR * (PIECES / FOUR) + i / FOUR;
}

/* Byte `digit` of four words. */
static __device__ uint32_t digits_of(const uint32_t *x, int digit)
{
    const uint32_t pair = digit == 0 ? 0x0040u : digit == 1 ? 0x0051u : 0x0062u;
    return fp4_ptx_bytes(fp4_ptx_bytes(x[0], x[1], pair), fp4_ptx_bytes(x[2], x[3], pair), 0x5410u);
}

static __device__ __forceinline__ void make_digits(vector_digits *v, uint32_t piece, fp4_f32x16 x)
{
    const uint32_t amax = fp4_f32_bits(fp4_amax_or_nan_x16(x));
    const uint32_t exponent = fp4_max_u32(amax >> 23, 30);
    const float per_unit = fp4_bits_f32((275 - exponent) << 23); /* 2^(148 - exponent) */
    uint32_t w[16];

#pragma unroll
    for (uint32_t i = 0; i < 16; i++) {
        /* adding 1.5 * 2^23 leaves an integer in the mantissa, from -2^22 to 2^22 with both */
        w[i] = fp4_f32_bits(fp4_fma_rn(x.v[i], per_unit, 12582912.0f)) - 0x4b400000u;
    }
#pragma unroll
    for (int digit = 0; digit < 3; digit++) {
        v->digits[digit][piece] = make_uint4(digits_of(&w[0], digit), digits_of(&w[4], digit),
                                             digits_of(&w[8], digit), digits_of(&w[12], digit));
    }
    /* where an element is no number, so is the sum */
    v->half_unit[piece] =
        amax >= 0x7f800000u ? fp4_bits_f32(0x7fc00000u) : fp4_bits_f32((exponent - 22) << 23);
}

/* The sum of the products of 16 codes with the digits of a piece. */
static __device__ __forceinline__ int32_t dot(uint32_t q0, uint32_t q1, const uint4 digits[3],
                                              fp4_s8_table table)
{
    const fp4_u32x2 low = fp4_e2m1x8_to_s8x8(q0, table), high = fp4_e2m1x8_to_s8x8(q1, table);
    int32_t s[3];

#pragma unroll
    for (int i = 0; i < 3; i++) {
        const uint4 d = digits[i];
        if (i == 2) {
            s[i] = fp4_ptx_dot_s8s8(low.v[1], d.y, fp4_ptx_dot_s8s8(low.v[0], d.x, 0));
            s[i] = fp4_ptx_dot_s8s8(high.v[1], d.w, fp4_ptx_dot_s8s8(high.v[0], d.z, s[i]));
        } else {
            s[i] = fp4_ptx_dot_s8u8(low.v[1], d.y, fp4_ptx_dot_s8u8(low.v[0], d.x, 0));
            s[i] = fp4_ptx_dot_s8u8(high.v[1], d.w, fp4_ptx_dot_s8u8(high.v[0], d.z, s[i]));
        }
    }
    return s[0] + 256 * s[1] + 65536 * s[2];
}

/* Codes and scale bytes of four pieces of each of a warp's rows. */
typedef struct pieces {
    fp4_u32x8 q[ROWS];
    uint32_t sf[ROWS];
} pieces;

/* Where the rows are. */
typedef struct places {
    const uint8_t *q[ROWS], *sf[ROWS];
    uint32_t word_step;
} places;

static __device__ __forceinline__ pieces load_pieces(const places &at, uint32_t four)
{
    pieces p;

#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++) {
        p.q[r] = fp4_load_u32x8_cs(at.q[r] + four * (size_t)32);
        p.sf[r] =
            LANES == 1
                ? *(const uint32_t *)(at.sf[r] + four * (size_t)at.word_step)
                : *(const uint16_t *)(at.sf[r] + four / 2 * (size_t)at.word_step + four % 2 * 2);
    }
    return p;
}

static __global__ void __launch_bounds__(THREADS, 2) gemv_rows(const gemv_args a)
{
    __shared__ vector_digits v;
    const uint32_t count = (uint32_t)(a.cols / (16 * FOUR)), lane = threadIdx.x % 32;
    const size_t first = ((size_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32) * ROWS;
    const fp4_s8_table table = fp4_e2m1_s8_table();
    float sum[ROWS] = {};
    places at;

#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++) {
        const size_t row = first + r < a.rows ? first + r : 0;
        at.q[r] = a.q + row * (a.cols / 2);
        at.sf[r] = a.sf + fp4_sf_offset(a.layout, row, 0, a.cols / BLOCK);
    }
    at.word_step = (uint32_t)fp4_sf_word_step(a.layout);
    fp4_pdl_wait();
    pieces next = load_pieces(at, lane < count ? lane : 0);
    for (uint32_t from = 0; from < count; from += PIECES / FOUR) {
        const uint32_t end = count - from < PIECES / FOUR ? count : from + PIECES / FOUR;
        const uint32_t mine = from * FOUR + threadIdx.x;
        fp4_ptx_barrier(); /* what stood there has been read */
        if (mine < count * FOUR) {
            make_digits(&v, digits_at(threadIdx.x),
                        WIDEN(LOAD((const uint8_t *)a.x + mine * (size_t)(4 * WORDS))));
        }
        fp4_ptx_barrier();
        for (uint32_t four = from + lane; four < end; four += 32) {
            const pieces p = next;
            next = load_pieces(at, four + 32 < count ? four + 32 : four);
#pragma unroll
            for (uint32_t i = 0; i < FOUR; i++) {
                const uint32_t slot = i * (PIECES / FOUR) + four - from;
                const uint4 digits[3] = {v.digits[0][slot], v.digits[1][slot], v.digits[2][slot]};
                const float half_unit = v.half_unit[slot];
#pragma unroll
                for (uint32_t r = 0; r < ROWS; r++) {
                    const uint8_t sf = (uint8_t)(p.sf[r] >> 8 * (i / LANES));
                    const int32_t s = dot(p.q[r].v[2 * i], p.q[r].v[2 * i + 1], digits, table);
                    sum[r] = fp4_fma_rn((float)s, fp4_mul_rn(DECODE(sf), half_unit), sum[r]);
                }
            }
        }
    }
    fp4_pdl_trigger();
    const float dec = !IS_NVFP4 ? 1.0f : a.global_device == NULL ? a.global_dec : *a.global_device;
#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++) {
        const float all = fp4_warp_sum(sum[r]);
        if (lane == r && first + r < a.rows) {
            PUT(a.y, first + r, fp4_mul_rn(all, dec));
        }
    }
}

/* ------------------------------------------------------------------------------ launcher */

static int is_bad(const gemv_args *a)
{
    return a->y == NULL || a->q == NULL || a->sf == NULL || a->x == NULL ||       /* null */
           a->cols == 0 || a->cols % (16 * FOUR) != 0 || a->cols > 0xfffffff0u || /* shape */
           a->rows > (size_t)0x7fffffffu * CTA_ROWS || a->rows > (size_t)-1 / a->cols ||
           (unsigned)a->layout > 2 || (size_t)a->q % 16 != 0 ||
           (size_t)a->x % 16 != 0 || /* align */
           (size_t)a->sf % 4 != 0 || (size_t)a->y % ELEMENT != 0 ||
           (IS_NVFP4 && a->global_device == NULL &&
            !(a->global_dec >= 0.0f && a->global_dec <= FP4_F32_MAX));
}

/**
 * Multiplies on `stream`: one launch, no allocation, no synchronization, nothing read on the host,
 * so that a CUDA graph can capture it.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory. Only with code compiled for sm_90 or later.
 * errors   cudaErrorInvalidValue for a bad shape, alignment, scale or null pointer: nothing
 *          launched, nothing written. rows = 0 is no error.
 */
static cudaError_t gemv(const gemv_args *a, int pdl, cudaStream_t stream)
{
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};
    void *arguments[] = {(void *)a};

    if (a->rows == 0) {
        return cudaSuccess;
    }
    if (is_bad(a)) {
        return cudaErrorInvalidValue;
    }
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3((unsigned)((a->rows + CTA_ROWS - 1) / CTA_ROWS));
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
