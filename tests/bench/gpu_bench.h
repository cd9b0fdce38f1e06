/*
 * gpu_bench.h - what the parts of the GPU benchmark share.
 *
 *     gpu_bench.cu          measures, prints the tables
 *     gpu_traffic.cu        the same-traffic kernels: how fast these bytes can move at all
 *     gpu_cuda_fp4.cu       the same job with the conversions of NVIDIA's cuda_fp4.h
 *     gpu_<example>.cu      an example's kernel, compiled once for each combination of words
 *
 * To add a kernel: a file gpu_<name>.cu that ends in BENCH_KERNEL(...), and its name in the
 * Makefile's list gpu_kernels. It is measured at every shape, beside the same-traffic kernels of
 * what its bench_traffic says.
 */
#ifndef FP4_TESTS_GPU_BENCH_H
#define FP4_TESTS_GPU_BENCH_H

#include <fp4/types.h>

#include <cuda_runtime.h>

/** What a launch reads and writes, on the device; the scalars at pointers. */
typedef struct bench_buffers {
    const void *x;
    uint8_t *q, *sf;
    const float *global_enc, *x_dec;
    size_t rows, cols;
} bench_buffers;

/** What decides the bytes of a shape, and how they lie in memory. */
typedef struct bench_traffic {
    int element;   /* bytes of an element of x */
    int code_bits; /* of a code */
    int block;     /* elements that share a scale byte */
    int scalars;   /* f32 scales that every thread reads: 0, 1, 2 */
    int colmajor;  /* x is column-major */
    fp4_layout layout;
} bench_traffic;

/** A kernel to measure. baseline: what others are compared with, not ours. */
typedef struct bench_kernel {
    const char *name, *input, *format;
    bench_traffic traffic;
    int baseline;
    cudaError_t (*launch)(const bench_buffers *b, cudaStream_t stream);
    struct bench_kernel *next;
} bench_kernel;

/** All kernels that are linked in, in no order. */
extern bench_kernel *bench_kernels;

/** Puts a kernel, a bench_kernel's initializer, into the list before main starts. */
#define BENCH_KERNEL(...) \
    static bench_kernel bench_this = __VA_ARGS__; \
    static const bool bench_listed = \
        (bench_this.next = bench_kernels, bench_kernels = &bench_this, true)

#define BENCH_TEXT_(word) #word
#define BENCH_TEXT(word) BENCH_TEXT_(word)

/* ------------------------------------------------------------ same traffic */

typedef enum traffic_kind {
    TRAFFIC_RUN,     /* linear scales: the tensor as one run */
    TRAFFIC_SCATTER, /* tiled scales, each byte stored where it belongs */
    TRAFFIC_STAGED,  /* tiled scales, collected in shared memory, stored 16 bytes at a time */
    TRAFFIC_COLUMNS  /* x column-major: tiles of some rows */
} traffic_kind;

/** One way to move the bytes. */
typedef struct traffic_variant {
    traffic_kind kind;
    int elements; /* that a thread takes as one piece */
    int each;     /* pieces a thread */
    int threads;  /* of a CTA */
    int hints;    /* 1: loads and stores marked as used once */
    int run;      /* staged: rows of a tile that are next to each other in the scale buffer;
                     columns: rows of a tile */
    int across;   /* 1: neighbouring CTAs take neighbouring columns, not rows */
} traffic_variant;

enum { TRAFFIC_MOST = 256 };

/** Fills list with the ways worth trying for a shape; returns how many, TRAFFIC_MOST at most. */
int traffic_variants(const bench_traffic *t, size_t rows, size_t cols,
                     traffic_variant list[TRAFFIC_MOST]);
/** cols: a power of two, 4096 at least. */
cudaError_t traffic_launch(const bench_traffic *t, const traffic_variant *v, const bench_buffers *b,
                           cudaStream_t stream);
/** In words; returns text. */
const char *traffic_text(const traffic_variant *v, char *text, size_t size);

#endif /* FP4_TESTS_GPU_BENCH_H */
