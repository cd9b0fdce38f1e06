/*
 * demo_gpu.cu - the kernel of 03_rmsnorm.cu for demo_rmsnorm, for one format: -DFORMAT=nvfp4 or
 * mxfp4. See demo_gpu.h.
 */
#define NO_MAIN
#define INPUT bf16
#define NORM rmsnorm
#include "03_rmsnorm.cu"

#define DEMO_GPU
#include "demo_gpu.h"

#include <algorithm>
#include <cstdio>

/* After a failure the program ends, and the driver frees what it had. */
#define TRY(call) \
    do { \
        const cudaError_t error_ = (call); \
        if (error_ != cudaSuccess) { \
            return cudaGetErrorString(error_); \
        } \
    } while (0)

enum { LAUNCHES = 21, TRAFFIC_THREADS = 256 };

/* On the device: tokens, and what is made of them. */
typedef struct buffers {
    uint8_t *x, *weight, *q, *sf;
    float *token_dec; /* null for one scale in all */
    size_t x_bytes, weight_bytes, q_bytes, sf_bytes, token_bytes;
    norm_args args;
} buffers;

/* The rows of `in` again and again, `rows` in all. */
static const char *make_buffers(buffers *b, const demo_tokens *in, size_t rows)
{
    const size_t of_input = in->rows * in->cols * ELEMENT;
    size_t done, part;

    *b = buffers();
    b->x_bytes = rows * in->cols * ELEMENT;
    b->weight_bytes = in->cols * ELEMENT;
    b->q_bytes = rows * in->cols / 2;
    b->sf_bytes = fp4_sf_bytes(FP4_LAYOUT_128X4, rows, in->cols / BLOCK);
    b->token_bytes = in->base_dec > 0.0f ? rows * sizeof(float) : 0;
    TRY(cudaMalloc((void **)&b->x, b->x_bytes));
    TRY(cudaMalloc((void **)&b->weight, b->weight_bytes));
    TRY(cudaMalloc((void **)&b->q, b->q_bytes));
    TRY(cudaMalloc((void **)&b->sf, b->sf_bytes));
    if (b->token_bytes > 0) {
        TRY(cudaMalloc((void **)&b->token_dec, b->token_bytes));
    }
    TRY(cudaMemcpy(b->weight, in->weight, b->weight_bytes, cudaMemcpyHostToDevice));
    TRY(cudaMemcpy(b->x, in->x, of_input, cudaMemcpyHostToDevice));
    for (done = of_input; done < b->x_bytes; done += part) { /* twice as much each time */
        part = std::min(done, b->x_bytes - done);
        TRY(cudaMemcpy(b->x + done, b->x, part, cudaMemcpyDeviceToDevice));
    }
    b->args.x = b->x;
    b->args.weight = b->weight;
    b->args.rows = rows;
    b->args.cols = b->args.x_stride = in->cols;
    b->args.eps = in->eps;
    b->args.global = in->base_dec > 0.0f ? in->base_dec : in->global_enc;
    b->args.q = b->q;
    b->args.sf = b->sf;
    b->args.layout = FP4_LAYOUT_128X4;
    b->args.token_dec = b->token_dec;
    return NULL;
}

static void free_buffers(buffers *b)
{
    cudaFree(b->x);
    cudaFree(b->weight);
    cudaFree(b->q);
    cudaFree(b->sf);
    cudaFree(b->token_dec);
}

/* -------------------------------------------------------------------------------- same traffic */

/* Reads what the kernel reads and writes what it writes, each byte once. In between only xor, so
   that the compiler can leave nothing out. A thread takes EACH pieces of 16 elements; the first
   threads write the scales as well. */
template <int EACH>
static __global__ void __launch_bounds__(TRAFFIC_THREADS)
    move_bytes(const buffers b, uint32_t pieces, uint32_t pieces_of_row, uint32_t scale_words)
{
    const uint32_t first = blockIdx.x * (TRAFFIC_THREADS * EACH) + threadIdx.x;
    uint4 v[2 * EACH];
    uint32_t all = 0;

#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const uint32_t i = first + j * TRAFFIC_THREADS;
        if (i < pieces) {
            v[2 * j] = ((const uint4 *)b.x)[2 * i];
            v[2 * j + 1] = ((const uint4 *)b.x)[2 * i + 1];
        }
    }
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const uint32_t i = first + j * TRAFFIC_THREADS;
        if (i < pieces) {
            const uint4 w = ((const uint4 *)b.weight)[2 * (i % pieces_of_row)];
            const uint4 u = ((const uint4 *)b.weight)[2 * (i % pieces_of_row) + 1];
            const uint4 p = v[2 * j], r = v[2 * j + 1];
            const uint2 q = make_uint2(p.x ^ p.y ^ p.z ^ p.w ^ w.x ^ w.y ^ w.z ^ w.w,
                                       r.x ^ r.y ^ r.z ^ r.w ^ u.x ^ u.y ^ u.z ^ u.w);
            ((uint2 *)b.q)[i] = q;
            all ^= q.x ^ q.y;
            if (i < scale_words) {
                ((uint4 *)b.sf)[i] = make_uint4(all, q.x, q.y, all);
            }
            if (b.token_dec != NULL && i < b.args.rows) {
                b.token_dec[i] = __uint_as_float(all);
            }
        }
    }
}

template <int EACH> static cudaError_t launch_move_bytes(const buffers *b)
{
    const uint32_t pieces = (uint32_t)(b->args.rows * b->args.cols / 16);
    const uint32_t grid = (pieces + TRAFFIC_THREADS * EACH - 1) / (TRAFFIC_THREADS * EACH);

    move_bytes<EACH><<<grid, TRAFFIC_THREADS>>>(*b, pieces, (uint32_t)(b->args.cols / 16),
                                                (uint32_t)(b->sf_bytes / 16));
    return cudaGetLastError();
}

/* -------------------------------------------------------------------------------- time */

static cudaError_t launch_kernel(const buffers *b)
{
    return norm_quantize(&b->args, 0, 0);
}

/* Median over LAUNCHES, in seconds; 3 more in front of them do not count. */
static const char *median(const buffers *b, cudaError_t (*launch)(const buffers *), double *seconds)
{
    float ms[LAUNCHES];
    cudaEvent_t begin, end;

    TRY(cudaEventCreate(&begin));
    TRY(cudaEventCreate(&end));
    for (int i = -3; i < LAUNCHES; i++) {
        TRY(cudaEventRecord(begin));
        TRY(launch(b));
        TRY(cudaEventRecord(end));
        TRY(cudaEventSynchronize(end));
        TRY(cudaEventElapsedTime(&ms[i < 0 ? 0 : i], begin, end));
    }
    TRY(cudaEventDestroy(begin));
    TRY(cudaEventDestroy(end));
    std::sort(ms, ms + LAUNCHES);
    *seconds = (double)ms[LAUNCHES / 2] * 1e-3;
    return NULL;
}

/* -------------------------------------------------------------------------------- interface */

#if JOIN(LANES_, FORMAT, ) == 1 /* one format brings it */
extern "C" const char *demo_gpu_find(char *name, size_t bytes)
{
    cudaDeviceProp properties;

    TRY(cudaGetDeviceProperties(&properties, 0));
    snprintf(name, bytes, "%s", properties.name);
    return NULL;
}
#endif

extern "C" const char *JOIN(demo_gpu_, FORMAT, )(const demo_tokens *in, fp4_tensor *t)
{
    buffers b;
    const char *failed = make_buffers(&b, in, in->rows);

    if (failed != NULL) {
        return failed;
    }
    /* what the kernel leaves out shows */
    TRY(cudaMemset(b.q, 0xa5, b.q_bytes));
    TRY(cudaMemset(b.sf, 0xa5, b.sf_bytes));
    TRY(launch_kernel(&b));
    TRY(cudaMemcpy(t->q, b.q, b.q_bytes, cudaMemcpyDeviceToHost));
    TRY(cudaMemcpy(t->sf, b.sf, b.sf_bytes, cudaMemcpyDeviceToHost));
    if (b.token_dec != NULL) {
        TRY(cudaMemcpy(t->row_dec, b.token_dec, b.token_bytes, cudaMemcpyDeviceToHost));
    }
    free_buffers(&b);
    return NULL;
}

extern "C" const char *JOIN(demo_gpu_, FORMAT, _speed)(const demo_tokens *in, demo_speed *speed)
{
    static cudaError_t (*const moves[])(const buffers *) = {
        launch_move_bytes<1>, launch_move_bytes<2>, launch_move_bytes<4>};
    buffers b;
    const char *failed;

    speed->tokens = std::max(speed->tokens / in->rows, (size_t)1) * in->rows;
    failed = make_buffers(&b, in, speed->tokens);
    failed = failed != NULL ? failed : median(&b, launch_kernel, &speed->kernel);
    speed->traffic = 0.0;
    for (int i = 0; i < 3 && failed == NULL; i++) {
        double seconds = 0.0;
        failed = median(&b, moves[i], &seconds);
        speed->traffic = i == 0 ? seconds : std::min(speed->traffic, seconds);
    }
    if (failed == NULL) {
        speed->bytes =
            (double)(b.x_bytes + b.weight_bytes + b.q_bytes + b.sf_bytes + b.token_bytes);
        free_buffers(&b);
    }
    return failed;
}
