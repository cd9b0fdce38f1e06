/*
 * gpu_bench.h - what the parts of the GPU benchmark share.
 *
 *     gpu_bench.cu          measures, prints the tables
 *     gpu_traffic.cu        the same-traffic kernels: how fast these bytes can move at all
 *     gpu_traffic_back.cu   those of what makes floats: of codes, of other floats, of rows
 *     gpu_cuda_fp4.cu       the same job with the conversions of NVIDIA's cuda_fp4.h
 *     gpu_<example>.cu      an example's kernel, compiled once for each combination of words
 *
 * To add a kernel: a file gpu_<name>.cu that ends in BENCH_KERNELS(...), and in the Makefile its
 * name and words in a list, and a gpu_kernel_rule that says what the words define. It is measured
 * at every shape of its sort, beside the same-traffic kernels of what its bench_traffic says.
 */
#ifndef FP4_TESTS_GPU_BENCH_H
#define FP4_TESTS_GPU_BENCH_H

#include <fp4/types.h>

#include <cuda_runtime.h>

#include <cstring>

/** What a launch reads and writes, on the device; the scalars at pointers. What its traffic does
    not have is NULL. */
typedef struct bench_buffers {
    const void *x;
    void *residual;
    const void *weight, *bias; /* cols elements of x's type */
    const float *amax;         /* of each block */
    uint8_t *q, *sf;           /* or read; TRAFFIC_FAKE: q are the bits */
    uint8_t *y;
    float *token_dec; /* a scale for each row */
    const float *global_enc, *global_amax, *x_dec, *base_dec;
    size_t rows, cols; /* of the codes */
    fp4_layout layout;
} bench_buffers;

/** What becomes what. */
typedef enum traffic_way {
    TRAFFIC_TO_CODES,   /* x becomes codes and scale bytes */
    TRAFFIC_FROM_CODES, /* codes and scale bytes become y */
    TRAFFIC_FAKE,       /* x becomes y of the same type, and bits that say what is clipped */
    TRAFFIC_SUMS,       /* codes and scale bytes of a row become one f32 of y */
    TRAFFIC_EIGHTH      /* x becomes q, an eighth of its bytes: a bit for each byte, or an f32 for
                           each block of 16 halves */
} traffic_way;

/** What is read beside x. */
typedef enum traffic_inputs {
    TRAFFIC_ONE,      /* nothing */
    TRAFFIC_RESIDUAL, /* a second tensor like x, which is written too, in place */
    TRAFFIC_GATED,    /* a row of x has 2 * cols elements: a code is made of i and cols + i */
    TRAFFIC_AMAX      /* an f32 for each block */
} traffic_inputs;

/** What decides the bytes of a shape, and how they lie in memory. */
typedef struct bench_traffic {
    traffic_way way;
    int element;   /* bytes of an element of x and y; sums: of what the rows are multiplied with */
    int code_bits; /* of a code; TRAFFIC_FAKE: 1 with bits, 0 without */
    int block;     /* elements that share a scale byte or an amax */
    int scalars;   /* f32 scales that every thread reads: 0, 1, 2 */
    int colmajor;  /* x is column-major */
    fp4_layout layout;
    traffic_inputs inputs;
    int whole_rows; /* 1: a fused kernel's: for every code it may need the whole row. Shapes of its
                       own, and same-traffic kernels that work on whole rows */
} bench_traffic;

/** Whether that reads codes and scale bytes, and has no x. */
static inline bool bench_reads_codes(const bench_traffic *t)
{
    return t->way == TRAFFIC_FROM_CODES || t->way == TRAFFIC_SUMS;
}

/** A kernel to measure. input: f32, f16, bf16, e4m3; of codes nvfp4, mxfp4, mxfp8. format: what
    that becomes, or by which rule. baseline: what others are compared with, not ours. */
typedef struct bench_kernel {
    const char *name, *input, *format;
    bench_traffic traffic;
    int weights; /* vectors of cols elements that it reads too; they stay in the L2 cache */
    int baseline;
    cudaError_t (*launch)(const bench_buffers *b, cudaStream_t stream);
    struct bench_kernel *next;
    int only_large; /* not at small shapes */
} bench_kernel;

/** All kernels that are linked in, in no order. */
extern bench_kernel *bench_kernels;

/** Puts kernels into the list, but those whose launch is NULL; returns true. */
bool bench_list(bench_kernel *kernels, size_t count);

/** Puts kernels, bench_kernels' initializers, into the list before main starts. */
#define BENCH_KERNELS(...) \
    static bench_kernel bench_these[] = {__VA_ARGS__}; \
    static const bool bench_listed = \
        bench_list(bench_these, sizeof(bench_these) / sizeof(bench_these[0]))

#define BENCH_TEXT_(word) #word
#define BENCH_TEXT(word) BENCH_TEXT_(word)

/** A fused kernel's traffic. input: f32, f16, bf16; format: nvfp4, mxfp4, mxfp8. */
static inline bench_traffic bench_fused(const char *input, const char *format, fp4_layout layout,
                                        traffic_inputs inputs)
{
    const int is_nvfp4 = strcmp(format, "nvfp4") == 0;
    const bench_traffic t = {TRAFFIC_TO_CODES,
                             strcmp(input, "f32") == 0 ? 4 : 2,
                             strcmp(format, "mxfp8") == 0 ? 8 : 4,
                             is_nvfp4 ? 16 : 32,
                             is_nvfp4,
                             0,
                             layout,
                             inputs,
                             1};
    return t;
}

/* ------------------------------------------------------------ same traffic */

typedef enum traffic_kind {
    TRAFFIC_RUN,     /* linear scales: the tensor as one run; on the way back for all layouts */
    TRAFFIC_SCATTER, /* tiled scales, each byte stored where it belongs */
    TRAFFIC_STAGED,  /* tiled scales, collected in shared memory, stored 16 bytes at a time */
    TRAFFIC_COLUMNS, /* x column-major: tiles of some rows */
    TRAFFIC_ROWS,    /* a CTA has a row or a part of one, and stores the scales some at a time */
    TRAFFIC_FOURS,   /* way back: a thread has pieces of four rows */
    TRAFFIC_REDUCED  /* sums: a warp or a CTA has some rows at a time */
} traffic_kind;

/** One way to move the bytes. */
typedef struct traffic_variant {
    traffic_kind kind;
    int elements; /* that a thread takes as one piece */
    int each;     /* pieces a thread */
    int threads;  /* of a CTA */
    int hints;    /* 1: loads and stores marked as used once */
    int run;      /* staged: rows of a tile that are next to each other in the scale buffer;
                     columns: rows of a tile; sums: rows at a time */
    int across;   /* 1: neighbouring CTAs take neighbouring columns, not rows; rows: neighbours in
                     the scale buffer */
    int scales;   /* rows: bytes of scales that a thread stores at a time */
    int barrier;  /* rows, staged: 1: whole rows; nothing is stored before they are there */
    int lanes;    /* sums: threads that share a row */
    int stay;     /* sums: CTAs for each SM, which go from rows to rows; 0: as many as it takes */
} traffic_variant;

enum { TRAFFIC_MOST = 512 };

/** Fills list with the ways worth trying for a shape; returns how many, TRAFFIC_MOST at most. */
int traffic_variants(const bench_traffic *t, size_t rows, size_t cols,
                     traffic_variant list[TRAFFIC_MOST]);
/** cols: a power of two, 2048 at least; where TRAFFIC_FROM_CODES reads linear scales, any of whole
    blocks. */
cudaError_t traffic_launch(const bench_traffic *t, const traffic_variant *v, const bench_buffers *b,
                           cudaStream_t stream);
/** In words; returns text. */
const char *traffic_text(const traffic_variant *v, char *text, size_t size);

/** The same for all ways but TRAFFIC_TO_CODES, called by them. */
int traffic_back_variants(const bench_traffic *t, size_t rows, size_t cols,
                          traffic_variant list[TRAFFIC_MOST]);
cudaError_t traffic_back_launch(const bench_traffic *t, const traffic_variant *v,
                                const bench_buffers *b, cudaStream_t stream);

#endif /* FP4_TESTS_GPU_BENCH_H */
