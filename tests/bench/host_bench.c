/*
 * Throughput of the host reference, one line for each format and input type: median of the runs, in
 * millions of elements a second. Built by `make bench` with and without -fopenmp.
 *
 *     gcc -std=c11 -O3 -march=x86-64-v3 -Iinclude tests/bench/host_bench.c -o host_bench
 */
#define _POSIX_C_SOURCE 199309L
#include <fp4/host/quant.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(_OPENMP)
#include <omp.h>
#endif

enum { ROWS = 2048, COLS = 4096, RUNS = 9 };

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Roughly normal values, from the sum of four uniform ones. */
static float sample(uint32_t *state)
{
    float sum = -2.0f;
    int i;
    for (i = 0; i < 4; i++) {
        *state = *state * 1664525u + 1013904223u;
        sum += (float)(int32_t)(*state >> 8) * 5.9604644775390625e-8f;
    }
    return sum;
}

typedef struct bench {
    fp4_matrix x[4]; /* by fp4_dtype */
    fp4_tensor t[3]; /* by fp4_format */
    float *y;
} bench;

static void *allocate(size_t bytes)
{
    void *p = calloc(bytes, 1);
    if (p == NULL) {
        fprintf(stderr, "host_bench: out of memory\n");
        exit(2);
    }
    return p;
}

static bench make_bench(void)
{
    const size_t n = (size_t)ROWS * COLS;
    const size_t sf = fp4_sf_bytes(FP4_LAYOUT_128X4, ROWS, COLS / 16);
    float *f32 = (float *)allocate(n * 4);
    uint16_t *f16 = (uint16_t *)allocate(n * 2), *bf16 = (uint16_t *)allocate(n * 2);
    uint8_t *e4m3 = (uint8_t *)allocate(n);
    uint32_t state = 1;
    bench b;
    size_t i;

    for (i = 0; i < n; i++) {
        f32[i] = sample(&state);
        f16[i] = fp4_f32_to_f16(f32[i]);
        bf16[i] = fp4_f32_to_bf16(f32[i]);
        e4m3[i] = fp4_f32_to_e4m3(f32[i]);
    }
    b.x[FP4_F32] = fp4_matrix_f32(f32, ROWS, COLS, COLS);
    b.x[FP4_F16] = fp4_matrix_f16(f16, ROWS, COLS, COLS);
    b.x[FP4_BF16] = fp4_matrix_bf16(bf16, ROWS, COLS, COLS);
    b.x[FP4_E4M3] = fp4_matrix_e4m3(e4m3, ROWS, COLS, COLS, 1.0f);
    for (i = 0; i < 3; i++) {
        b.t[i] = fp4_tensor_view((fp4_format)i, FP4_LAYOUT_128X4, ROWS, COLS,
                                 (uint8_t *)allocate(n), n, (uint8_t *)allocate(sf), sf);
    }
    b.y = (float *)allocate(n * 4);
    return b;
}

/* One run of one kind: 0 NVFP4, 1 MXFP4, 2 MXFP8, 3 NVFP4 per token, 4.. dequantize. */
static void run(bench *b, int kind, fp4_dtype dtype)
{
    static float row_dec[ROWS];
    fp4_tensor *t = &b->t[kind % 4 % 3];
    fp4_status status = FP4_OK;

    switch (kind) {
    case 0:
        status = fp4_ref_nvfp4_quantize(b->x[dtype], 1344.0f, t);
        break;
    case 1:
        status = fp4_ref_mxfp4_quantize(b->x[dtype], t);
        break;
    case 2:
        status = fp4_ref_mxfp8_quantize(b->x[dtype], t);
        break;
    case 3:
        t->row_dec = row_dec;
        t->row_dec_bytes = sizeof(row_dec);
        status = fp4_ref_nvfp4_quantize_tokens(b->x[dtype], 1.0f / 2688.0f, t);
        t->row_dec = NULL;
        break;
    default:
        status = fp4_ref_dequantize(t, b->y, (size_t)ROWS * COLS * 4, COLS);
    }
    if (status != FP4_OK) {
        fprintf(stderr, "host_bench: %s\n", fp4_status_text(status));
        exit(1);
    }
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double melements_per_second(bench *b, int kind, fp4_dtype dtype)
{
    double took[RUNS];
    int i;

    run(b, kind, dtype);
    for (i = 0; i < RUNS; i++) {
        const double start = seconds();
        run(b, kind, dtype);
        took[i] = seconds() - start;
    }
    qsort(took, RUNS, sizeof(took[0]), ascending);
    return (double)ROWS * COLS * 1e-6 / took[RUNS / 2];
}

int main(void)
{
    static const char *const kinds[] = {"NVFP4", "MXFP4", "MXFP8", "NVFP4 per token"};
    bench b = make_bench();
    int kind;
#if defined(_OPENMP)
    const int threads = omp_get_max_threads();
#else
    const int threads = 1;
#endif

    printf("host reference, %d x %d, layout 128x4, %d thread%s, M elements/s\n", (int)ROWS,
           (int)COLS, threads, threads == 1 ? "" : "s");
    printf("%-18s %8s %8s %8s %8s %12s\n", "", "f32", "f16", "bf16", "e4m3", "dequantize");
    for (kind = 0; kind < 4; kind++) {
        printf("%-18s %8.0f %8.0f %8.0f %8.0f", kinds[kind],
               melements_per_second(&b, kind, FP4_F32), melements_per_second(&b, kind, FP4_F16),
               melements_per_second(&b, kind, FP4_BF16), melements_per_second(&b, kind, FP4_E4M3));
        if (kind < 3) {
            printf(" %12.0f", melements_per_second(&b, kind + 4, FP4_F32));
        }
        printf("\n");
    }
    return 0;
}
