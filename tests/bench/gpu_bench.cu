/*
 * gpu_bench.cu - every kernel of examples/ beside the best same-traffic kernel of its shape.
 *
 *     gpu_bench [--markdown FILE] [--only TEXT] [--rows N] [--cols N] [large | small]
 *
 * --markdown  the report to FILE as well.
 * --only      kernels whose label holds TEXT, e.g. "bf16 nvfp4 128x4".
 * --rows      in place of the shapes' own; up to 512 are a small shape.
 * --cols      likewise: a multiple of 32 from 128 to 16384. If it is no power of two, of what reads
 *             codes with linear scales, of blocks of 20, 24 and 48 too (8160 columns); and of what
 *             becomes codes from row-major x without padding rows: rows % 128 == 0.
 *
 *     gpu_bench --only "03_rmsnorm rmsnorm bf16" --rows 65536 --cols 8192
 *
 * How it measures. What is compared takes turns, round by round, in one stream: the kernels of one
 * kind of traffic, the baseline, and the same-traffic kernels that were fastest in a trial of all.
 * The figure is the median of the rounds, the spread half the distance between the 10th and 90th
 * percentile.
 *
 * Large shapes: a turn is one launch that does not count, so that nobody pays for what another
 * left in the L2 cache, and then launches between two events, as many as make 65536 rows.
 *
 * Small shapes: a turn is a CUDA graph of launches, one after the other. Before it a kernel reads
 * 256 MiB of something else, so that the L2 cache holds nothing of the input.
 *
 * Every launch, also inside a graph, has an input of its own, cut from 4 GiB of normally
 * distributed values in turn, and outputs of its own, cut from 1 GiB. A residual is cut from
 * 2 GiB; what launches add to it stays there. On the way back the input are codes, cut from what
 * are outputs elsewhere, and the output floats, cut from 4 GiB. A check before: two launches over
 * differently poisoned outputs leave the same bytes; two over the same residual the same one,
 * changed.
 *
 * Sorts of kernels are measured at shapes of their own. Fused kernels, which work on whole rows,
 * have a second limit: the fastest same-traffic kernel with one barrier between what a CTA loads of
 * a row and what it stores. Sums of rows are measured at large shapes only.
 */
#include "gpu_bench.h"

#include <fp4/e4m3.h>
#include <fp4/f16.h>
#include <fp4/layout.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

bench_kernel *bench_kernels = NULL;

bool bench_list(bench_kernel *kernels, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (kernels[i].launch != NULL) {
            kernels[i].next = bench_kernels;
            bench_kernels = &kernels[i];
        }
    }
    return true;
}

static int failures = 0; /* of checks */

enum { ROUNDS = 32, TRIALS = 3, SMALL = 512 };
enum { GRAPH = 200, GRAPHS = 2, TRIAL_GRAPH = 50 }; /* launches of a graph, instances */

static const size_t X_POOL = (size_t)4 << 30, Q_POOL = (size_t)1 << 30, SF_POOL = (size_t)64 << 20;
static const size_t RESIDUAL_POOL = (size_t)2 << 30;
static const size_t Y_POOL = (size_t)4 << 30, AMAX_POOL = (size_t)512 << 20;
static const size_t MOST_ROWS = 65536, LEAST_COLS = 128, MOST_COLS = 16384;
static const size_t FLUSH = (size_t)256 << 20;

static void must(cudaError_t error, const char *what)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "gpu_bench: %s: %s\n", what, cudaGetErrorString(error));
        exit(1);
    }
}

/* ------------------------------------------------------------ buffers */

typedef struct pools {
    uint8_t *x, *residual, *q, *sf, *y, *other; /* other: no part of any input or output */
    uint8_t *weights;                           /* two vectors of MOST_COLS elements */
    float *amax, *scalars, *token_dec;
    unsigned long long *count;
    cudaStream_t stream;
    size_t turn; /* launches so far: which part of the pools is next */
} pools;

static __device__ uint32_t random_word(unsigned long long i)
{
    i = (i + 1) * 0x9e3779b97f4a7c15ull;
    i = (i ^ i >> 30) * 0xbf58476d1ce4e5b9ull;
    i = (i ^ i >> 27) * 0x94d049bb133111ebull;
    return (uint32_t)(i >> 32);
}

static __device__ void store_pair(void *x, char type, size_t i, float a, float b)
{
    switch (type) {
    case 's': /* f32, single */
        ((float2 *)x)[i] = make_float2(a, b);
        break;
    case 'h': /* f16, half */
        ((uint32_t *)x)[i] = fp4_f32_to_f16(a) | (uint32_t)fp4_f32_to_f16(b) << 16;
        break;
    case 'b': /* bf16 */
        ((uint32_t *)x)[i] = fp4_f32_to_bf16(a) | (uint32_t)fp4_f32_to_bf16(b) << 16;
        break;
    default: /* e4m3 */
        ((uint16_t *)x)[i] = (uint16_t)(fp4_f32_to_e4m3(a) | (uint32_t)fp4_f32_to_e4m3(b) << 8);
    }
}

/* Normal values by Box and Muller, two a thread; others for another seed. */
static __global__ void fill(void *x, char type, size_t pairs, size_t seed)
{
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, at = 2 * (i + seed);
    if (i < pairs) {
        const float u = ((float)random_word(at) + 1.0f) * 2.3283064e-10f;
        const float r = sqrtf(-2.0f * logf(u));
        const float angle = (float)random_word(at + 1) * 4.6566129e-10f;
        store_pair(x, type, i, r * cospif(angle), r * sinpif(angle));
    }
}

/* Evenly from `least` to twice that. */
static __global__ void fill_evenly(void *x, char type, size_t pairs, float least)
{
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < pairs) {
        store_pair(x, type, i, least + least * (float)random_word(2 * i) * 2.3283064e-10f,
                   least + least * (float)random_word(2 * i + 1) * 2.3283064e-10f);
    }
}

/* Bytes from that of `least` on, as many different ones as the mask has. */
static __global__ void fill_bytes(uint32_t *p, size_t words, uint32_t least, uint32_t mask)
{
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < words) {
        p[i] = least + (random_word(i) & mask);
    }
}

static __global__ void read_all(const uint4 *p, size_t words, uint32_t *sink)
{
    uint32_t all = 0;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < words;
         i += (size_t)gridDim.x * blockDim.x) {
        const uint4 w = p[i];
        all |= w.x & w.y & w.z & w.w;
    }
    if (all == 0xfffffffeu) {
        *sink = all;
    }
}

static __global__ void count_differences(const uint8_t *a, const uint8_t *b, size_t bytes,
                                         unsigned long long *count)
{
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < bytes;
         i += (size_t)gridDim.x * blockDim.x) {
        if (a[i] != b[i]) {
            atomicAdd(count, 1ull);
        }
    }
}

/* What a launch has left as it was of what it had to change. */
static __global__ void count_unchanged(const uint4 *a, const uint4 *b, size_t words,
                                       unsigned long long *count)
{
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < words;
         i += (size_t)gridDim.x * blockDim.x) {
        const uint4 v = a[i], w = b[i];
        if (v.x == w.x && v.y == w.y && v.z == w.z && v.w == w.w) {
            atomicAdd(count, 16ull);
        }
    }
}

static __global__ void nothing(void)
{
}

static pools make_pools(void)
{
    /* The second-level scale of values up to 6; x_dec; that of products of two such values, one of
       them through an activation; 1/2688, the base of a scale for each row; what the values go up
       to. */
    const float scalars[5] = {448.0f, 0.5f, 74.0f, 1.0f / 2688.0f, 6.0f};
    pools p = {};
    void *at;

    must(cudaMalloc(&at, X_POOL), "4 GiB of device memory");
    p.x = (uint8_t *)at;
    must(cudaMalloc(&at, RESIDUAL_POOL), "2 GiB of device memory");
    p.residual = (uint8_t *)at;
    must(cudaMalloc(&at, Q_POOL), "1 GiB of device memory");
    p.q = (uint8_t *)at;
    must(cudaMalloc(&at, SF_POOL + 4 * MOST_ROWS), "64 MiB of device memory");
    p.sf = (uint8_t *)at;
    must(cudaMalloc(&at, Y_POOL), "4 GiB of device memory");
    p.y = (uint8_t *)at;
    must(cudaMalloc(&at, AMAX_POOL), "512 MiB of device memory");
    p.amax = (float *)at;
    must(cudaMalloc(&at, FLUSH), "256 MiB of device memory");
    p.other = (uint8_t *)at;
    must(cudaMalloc(&at, 2 * MOST_COLS * sizeof(float)), "device memory");
    p.weights = (uint8_t *)at;
    must(cudaMalloc(&at, MOST_ROWS * sizeof(float)), "device memory");
    p.token_dec = (float *)at;
    must(cudaMalloc(&at, 256), "device memory");
    p.scalars = (float *)at;
    must(cudaMalloc(&at, 256), "device memory");
    p.count = (unsigned long long *)at;
    must(cudaMemcpy(p.scalars, scalars, sizeof(scalars), cudaMemcpyHostToDevice), "cudaMemcpy");
    must(cudaStreamCreate(&p.stream), "cudaStreamCreate");
    return p;
}

/* Codes: of e2m1 all there are, of e4m3 those of normal values. Scales: from 1/4 to 4 or so. */
static void fill_codes(pools *p, const char *format)
{
    const size_t words = Q_POOL / 4, sf_words = SF_POOL / 4;
    const bool is_nvfp4 = strcmp(format, "nvfp4") == 0;

    if (strcmp(format, "mxfp8") == 0) {
        fill<<<(unsigned)(Q_POOL / 512), 256, 0, p->stream>>>(p->q, 'e', Q_POOL / 2, 0);
    } else {
        fill_bytes<<<(unsigned)(words / 256), 256, 0, p->stream>>>((uint32_t *)p->q, words, 0,
                                                                   0xffffffffu);
    }
    fill_bytes<<<(unsigned)(sf_words / 256), 256, 0, p->stream>>>(
        (uint32_t *)p->sf, sf_words, is_nvfp4 ? 0x28282828u : 0x7d7d7d7du,
        is_nvfp4 ? 0x1f1f1f1fu : 0x03030303u);
}

/* What is multiplied with weights from 1/2 to 1 stays in its range. Amaxes from 3/2 to 3: some
   blocks of normal values have more than that. */
static void fill_input(pools *p, const char *type)
{
    const bool is_codes = strstr(type, "fp4") != NULL || strstr(type, "fp8") != NULL;
    const int element = strcmp(type, "f32") == 0 ? 4 : strcmp(type, "e4m3") == 0 ? 1 : 2;
    const char letter = element == 4 ? 's' : element == 1 ? 'e' : type[0] == 'f' ? 'h' : 'b';
    const size_t pairs = X_POOL / (2 * (size_t)element);
    const size_t residual_pairs = RESIDUAL_POOL / (2 * (size_t)element);

    fill_evenly<<<MOST_COLS / 256, 256, 0, p->stream>>>(p->weights, letter, MOST_COLS, 0.5f);
    if (is_codes) {
        fill_codes(p, type);
    } else {
        fill<<<(unsigned)(pairs / 256), 256, 0, p->stream>>>(p->x, letter, pairs, 0);
        fill<<<(unsigned)(residual_pairs / 256), 256, 0, p->stream>>>(p->residual, letter,
                                                                      residual_pairs, pairs);
        fill_evenly<<<(unsigned)(AMAX_POOL / 2048), 256, 0, p->stream>>>(p->amax, 's',
                                                                         AMAX_POOL / 8, 1.5f);
    }
    must(cudaStreamSynchronize(p->stream), "fill");
}

/* Whether what becomes codes is measured beside a run of as many bytes, in whatever order the
   layout has them: rows that are no power of two, without padding but for that of columns, up to
   three bytes of a row that do not count. */
static bool is_run(const bench_traffic *t, size_t rows, size_t cols)
{
    return (cols & (cols - 1)) != 0 && t->way == TRAFFIC_TO_CODES && !t->colmajor &&
           cols % (size_t)t->block == 0 && fp4_sf_rows_padded(t->layout, rows) == rows;
}

/* Bytes of each; 0: there is none. */
typedef struct sizes {
    size_t x, residual, amax, q, sf, y;
} sizes;

static sizes sizes_of(const bench_traffic *t, size_t rows, size_t cols)
{
    const size_t elements = rows * cols, floats = elements * (size_t)t->element;
    sizes s;

    s.x = bench_reads_codes(t) ? 0 : floats * (t->inputs == TRAFFIC_GATED ? 2 : 1);
    s.residual = t->inputs == TRAFFIC_RESIDUAL ? s.x : 0;
    s.amax = t->inputs == TRAFFIC_AMAX ? elements / (size_t)t->block * sizeof(float) : 0;
    s.q = elements * (size_t)t->code_bits / 8;
    s.sf = t->way == TRAFFIC_FAKE || t->way == TRAFFIC_EIGHTH ? 0
           : is_run(t, rows, cols)                            ? elements / (size_t)t->block
                                   : fp4_sf_bytes(t->layout, rows, cols / (size_t)t->block);
    s.y = t->way == TRAFFIC_TO_CODES || t->way == TRAFFIC_EIGHTH ? 0
          : t->way == TRAFFIC_SUMS                               ? rows * sizeof(float)
                                                                 : floats;
    return s;
}

/* What a launch moves, without weights: each byte once, those of a residual in and out. Padding of
   the scale buffer is written, but nobody has to read it. */
static double kilobytes_of(const bench_traffic *t, size_t rows, size_t cols)
{
    const sizes s = sizes_of(t, rows, cols);
    const size_t sf = bench_reads_codes(t) ? rows * cols / (size_t)t->block : s.sf;
    return 1e-3 * (double)(s.x + 2 * s.residual + s.amax + s.q + sf + s.y);
}

/* Whether columns are what the same-traffic kernels take and whole blocks, and whether there is
   memory for them. */
static bool is_possible(const bench_traffic *t, size_t rows, size_t cols)
{
    const bool from_codes = t->way == TRAFFIC_FROM_CODES;
    const bool any_row = (from_codes && t->layout == FP4_LAYOUT_LINEAR) || is_run(t, rows, cols);
    const sizes s = sizes_of(t, rows, cols);

    return ((cols & (cols - 1)) == 0 || any_row) && (!from_codes || cols % (size_t)t->block == 0) &&
           s.x <= X_POOL && s.residual <= RESIDUAL_POOL && s.amax <= AMAX_POOL && s.q <= Q_POOL &&
           s.sf <= SF_POOL && s.y <= Y_POOL;
}

/* The part of a pool whose turn it is; NULL where nothing is wanted. */
static uint8_t *part_of(const pools *p, void *pool, size_t pool_bytes, size_t bytes)
{
    return bytes == 0 ? NULL : (uint8_t *)pool + p->turn % (pool_bytes / bytes) * bytes;
}

static bench_buffers buffers(pools *p, const bench_traffic *t, size_t rows, size_t cols)
{
    const sizes s = sizes_of(t, rows, cols);
    bench_buffers b = {};

    b.x = part_of(p, p->x, X_POOL, s.x);
    b.residual = part_of(p, p->residual, RESIDUAL_POOL, s.residual);
    b.amax = (const float *)part_of(p, p->amax, AMAX_POOL, s.amax);
    b.q = part_of(p, p->q, Q_POOL, s.q);
    b.sf = part_of(p, p->sf, SF_POOL, s.sf);
    b.y = part_of(p, p->y, Y_POOL, s.y);
    b.weight = p->weights;
    b.bias = p->weights + cols * (size_t)t->element;
    b.token_dec = p->token_dec;
    b.global_enc = p->scalars + (t->inputs == TRAFFIC_GATED ? 2 : 0);
    b.x_dec = p->scalars + 1;
    b.base_dec = p->scalars + 3;
    b.global_amax = p->scalars + 4;
    b.rows = rows;
    b.cols = cols;
    b.layout = t->layout;
    p->turn++;
    return b;
}

/* ------------------------------------------------------------ contenders */

/* Who takes part in a comparison, and how it went. */
typedef struct contender {
    const bench_traffic *traffic;
    const bench_kernel *kernel; /* or, where NULL: */
    traffic_variant variant;
    std::vector<cudaGraphExec_t> graphs; /* small shapes */
    int launches;                        /* of a graph */
    bool refused;                        /* the launcher does not take this shape */
    std::vector<float> us;
    double median, spread; /* spread: a part of the median */
} contender;

static contender make_contender(const bench_traffic *traffic, const bench_kernel *kernel)
{
    contender c = {};
    c.traffic = traffic;
    c.kernel = kernel;
    return c;
}

static cudaError_t launch(const contender *c, const bench_buffers *b, cudaStream_t stream)
{
    return c->kernel != NULL ? c->kernel->launch(b, stream)
                             : traffic_launch(c->traffic, &c->variant, b, stream);
}

static const char *name_of(const contender *c)
{
    static char text[128];
    if (c->kernel == NULL) {
        return traffic_text(&c->variant, text, sizeof(text));
    }
    snprintf(text, sizeof(text), "%s %s %s", c->kernel->name, c->kernel->input, c->kernel->format);
    return text;
}

static void summarize(contender *c)
{
    std::vector<float> us = c->us;
    const size_t n = us.size();

    std::sort(us.begin(), us.end());
    c->median = us[n / 2];
    c->spread = (us[n * 9 / 10] - us[n / 10]) / (2.0 * us[n / 2]);
}

/* An output of two launches over the same input, the first of which has its place at the start of a
   pool, the second half a pool further on. A residual is not one of them. */
typedef struct output {
    uint8_t **at; /* in the buffers of a launch */
    uint8_t *pool;
    size_t half, bytes;
} output;

static std::vector<output> outputs_of(const pools *p, const bench_traffic *t, size_t rows,
                                      size_t cols, bench_buffers *b)
{
    const sizes s = sizes_of(t, rows, cols);
    const output all[] = {{&b->q, p->q, Q_POOL / 2, bench_reads_codes(t) ? 0 : s.q},
                          {&b->sf, p->sf, SF_POOL / 2, bench_reads_codes(t) ? 0 : s.sf},
                          {&b->y, p->y, Y_POOL / 2, s.y}};
    std::vector<output> result;

    for (const output &o : all) {
        if (o.bytes != 0) {
            result.push_back(o);
        }
    }
    return result;
}

static void count_output_differences(const pools *p, const std::vector<output> &outputs)
{
    for (const output &o : outputs) {
        count_differences<<<512, 256, 0, p->stream>>>(o.pool, o.pool + o.half, o.bytes, p->count);
    }
}

/* Two launches over poisoned outputs, the second over the complement: what is not written shows. A
   residual is an input too: both are given the same values, from the second half of x's. */
static void check(pools *p, contender *c, size_t rows, size_t cols)
{
    const sizes s = sizes_of(c->traffic, rows, cols);
    const uint8_t *const before = p->x + X_POOL / 2;
    uint8_t *const residuals[2] = {p->residual, p->residual + RESIDUAL_POOL / 2};
    bench_buffers b = buffers(p, c->traffic, rows, cols);
    const std::vector<output> outputs = outputs_of(p, c->traffic, rows, cols, &b);
    unsigned long long count = 0;
    cudaError_t error;

    if (s.x != 0) {
        b.x = p->x; /* and not what the residual is */
    }
    must(cudaMemsetAsync(p->count, 0, sizeof(count), p->stream), "cudaMemset");
    for (int i = 0; i < 2; i++) {
        if (s.residual != 0) {
            b.residual = residuals[i];
            must(cudaMemcpyAsync(b.residual, before, s.residual, cudaMemcpyDeviceToDevice,
                                 p->stream),
                 "cudaMemcpy");
        }
        for (const output &o : outputs) {
            *o.at = o.pool + (i ? o.half : 0);
            must(cudaMemsetAsync(*o.at, i ? 0x5a : 0xa5, o.bytes, p->stream), "cudaMemset");
        }
        error = launch(c, &b, p->stream);
        c->refused = error == cudaErrorInvalidValue;
        if (c->refused) {
            cudaGetLastError();
            return;
        }
        must(error, name_of(c));
    }
    count_output_differences(p, outputs);
    count_differences<<<512, 256, 0, p->stream>>>(residuals[0], residuals[1], s.residual, p->count);
    count_unchanged<<<512, 256, 0, p->stream>>>((const uint4 *)residuals[0], (const uint4 *)before,
                                                s.residual / 16, p->count);
    must(cudaMemcpyAsync(&count, p->count, sizeof(count), cudaMemcpyDeviceToHost, p->stream),
         "cudaMemcpy");
    must(cudaStreamSynchronize(p->stream), name_of(c));
    if (count != 0) {
        fprintf(stderr, "gpu_bench: %s: %zu x %zu: %llu bytes not written, or not the same twice\n",
                name_of(c), rows, cols, count);
        c->refused = true;
        failures++;
    }
}

/* Bytes in which a kernel and the baseline differ, one after the other over the same input. */
static unsigned long long differences(pools *p, const contender *a, const contender *b)
{
    const size_t rows = 16384, cols = 8192;
    bench_buffers at = buffers(p, a->traffic, rows, cols);
    const std::vector<output> outputs = outputs_of(p, a->traffic, rows, cols, &at);
    unsigned long long count = 0;

    must(cudaMemsetAsync(p->count, 0, sizeof(count), p->stream), "cudaMemset");
    for (int i = 0; i < 2; i++) {
        const contender *const c = i ? b : a;
        for (const output &o : outputs) {
            *o.at = o.pool + (i ? o.half : 0);
        }
        must(launch(c, &at, p->stream), name_of(c));
    }
    count_output_differences(p, outputs);
    must(cudaMemcpyAsync(&count, p->count, sizeof(count), cudaMemcpyDeviceToHost, p->stream),
         "cudaMemcpy");
    must(cudaStreamSynchronize(p->stream), "comparison");
    return count;
}

/* ------------------------------------------------------------ measuring */

static void add_graphs(pools *p, contender *c, size_t rows, size_t cols, int instances,
                       int launches)
{
    for (int n = 0; n < instances; n++) {
        cudaGraph_t graph;
        cudaGraphExec_t exec;

        must(cudaStreamBeginCapture(p->stream, cudaStreamCaptureModeGlobal), "capture");
        for (int i = 0; i < launches; i++) {
            const bench_buffers b = buffers(p, c->traffic, rows, cols);
            must(launch(c, &b, p->stream), name_of(c));
        }
        must(cudaStreamEndCapture(p->stream, &graph), "capture");
        must(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
        must(cudaGraphDestroy(graph), "cudaGraphDestroy");
        must(cudaGraphUpload(exec, p->stream), "cudaGraphUpload");
        c->graphs.push_back(exec);
    }
    c->launches = launches;
}

static void drop_graphs(std::vector<contender> &all)
{
    for (contender &c : all) {
        for (cudaGraphExec_t graph : c.graphs) {
            must(cudaGraphExecDestroy(graph), "cudaGraphExecDestroy");
        }
        c.graphs.clear();
    }
}

/* A turn of one contender: what comes before, and what is timed. Returns the launches timed. */
static int take_turn(pools *p, contender *c, size_t rows, size_t cols, int round,
                     const cudaEvent_t events[2])
{
    const size_t instances = c->graphs.size();
    const int launches = instances != 0 ? c->launches : (int)std::max((size_t)1, 65536 / rows);

    for (int i = instances != 0 ? 0 : -1; i < launches; i++) {
        const bench_buffers b = buffers(p, c->traffic, rows, cols);
        if (instances != 0) {
            read_all<<<1024, 256, 0, p->stream>>>((const uint4 *)p->other, FLUSH / 16,
                                                  (uint32_t *)p->count);
        }
        if (i == 0) {
            must(cudaEventRecord(events[0], p->stream), "cudaEventRecord");
        }
        if (instances != 0) {
            must(cudaGraphLaunch(c->graphs[(size_t)round % instances], p->stream), name_of(c));
            break;
        }
        must(launch(c, &b, p->stream), name_of(c));
    }
    must(cudaEventRecord(events[1], p->stream), "cudaEventRecord");
    return launches;
}

/* `rounds` rounds after one that does not count. */
static void measure(pools *p, const std::vector<contender *> &all, size_t rows, size_t cols,
                    int rounds)
{
    cudaEvent_t events[2 * TRAFFIC_MOST + 16];

    for (size_t i = 0; i < 2 * all.size(); i++) {
        must(cudaEventCreate(&events[i]), "cudaEventCreate");
    }
    for (int round = 0; round <= rounds; round++) {
        int launches = 1;
        for (size_t i = 0; i < all.size(); i++) {
            launches = take_turn(p, all[i], rows, cols, round, events + 2 * i);
        }
        must(cudaStreamSynchronize(p->stream), "measuring");
        for (size_t i = 0; round > 0 && i < all.size(); i++) {
            float ms;
            must(cudaEventElapsedTime(&ms, events[2 * i], events[2 * i + 1]), "cudaEvent");
            all[i]->us.push_back(1e3f * ms / (float)launches);
        }
    }
    for (size_t i = 0; i < 2 * all.size(); i++) {
        must(cudaEventDestroy(events[i]), "cudaEventDestroy");
    }
    for (contender *c : all) {
        summarize(c);
    }
}

static bool is_faster(const contender *a, const contender *b)
{
    return a->median < b->median;
}

static std::vector<contender *> pointers(std::vector<contender> &all)
{
    std::vector<contender *> result;
    for (contender &c : all) {
        if (!c.refused) {
            result.push_back(&c);
        }
    }
    return result;
}

/* With padding rows where the shape itself has none and they are written; of whole rows more than
   what kernels for few rows take. */
static size_t check_rows(const bench_traffic *t, size_t rows, size_t cols)
{
    if (rows <= SMALL) {
        return rows;
    }
    return is_run(t, rows, cols) ? 640 : t->whole_rows ? 460 : t->colmajor ? 208 : 204;
}

/* The fastest same-traffic kernels of a shape, found once for each kind of traffic; of those of
   whole rows as many with a barrier. */
static std::vector<traffic_variant> finalists(pools *p, const bench_traffic *t, size_t rows,
                                              size_t cols)
{
    typedef struct trial {
        bench_traffic traffic;
        size_t rows, cols;
        std::vector<traffic_variant> variants;
    } trial;
    static std::vector<trial> trials;
    traffic_variant list[TRAFFIC_MOST];
    std::vector<contender> all;
    trial found = {*t, rows, cols, {}};

    for (const trial &old : trials) {
        if (memcmp(&old.traffic, t, sizeof(*t)) == 0 && old.rows == rows && old.cols == cols) {
            return old.variants;
        }
    }
    for (int i = 0, count = traffic_variants(t, rows, cols, list); i < count; i++) {
        contender c = make_contender(t, NULL);
        c.variant = list[i];
        check(p, &c, check_rows(t, rows, cols), cols);
        if (!c.refused && rows <= SMALL) {
            add_graphs(p, &c, rows, cols, 1, TRIAL_GRAPH);
        }
        all.push_back(c);
    }
    std::vector<contender *> turns = pointers(all);
    measure(p, turns, rows, cols, TRIALS);
    std::sort(turns.begin(), turns.end(), is_faster);
    int places[2] = {rows <= SMALL ? 2 : 3, rows <= SMALL ? 2 : 3}; /* without, with a barrier */
    for (const contender *c : turns) {
        if (places[c->variant.barrier]-- > 0) {
            found.variants.push_back(c->variant);
        }
    }
    drop_graphs(all);
    trials.push_back(found);
    return found.variants;
}

/* The fastest same-traffic kernel, at least with a barrier; refused where there is none. */
static contender limit_of(const std::vector<contender> &all, int barrier)
{
    contender limit = make_contender(all[0].traffic, NULL);
    limit.refused = true;
    for (const contender &c : all) {
        if (c.kernel == NULL && !c.refused && c.variant.barrier >= barrier &&
            (limit.refused || is_faster(&c, &limit))) {
            limit = c;
        }
    }
    return limit;
}

/* Kernels of the same traffic at one shape. */
typedef struct comparison {
    std::vector<contender> kernels;
    contender limit, barrier_limit;
} comparison;

static comparison compare(pools *p, const std::vector<const bench_kernel *> &kernels, size_t rows,
                          size_t cols)
{
    const bench_traffic *t = &kernels[0]->traffic;
    std::vector<contender> all;
    comparison result;

    for (const bench_kernel *kernel : kernels) {
        contender c = make_contender(t, kernel);
        check(p, &c, kernel->only_large ? 8192 : check_rows(t, rows, cols), cols);
        all.push_back(c);
    }
    for (const traffic_variant &variant : finalists(p, t, rows, cols)) {
        contender c = make_contender(t, NULL);
        c.variant = variant;
        all.push_back(c);
    }
    std::vector<contender *> turns = pointers(all);
    for (contender *c : turns) {
        if (rows <= SMALL) {
            add_graphs(p, c, rows, cols, GRAPHS, GRAPH);
        }
    }
    measure(p, turns, rows, cols, ROUNDS);
    drop_graphs(all);
    result.limit = limit_of(all, 0);
    result.barrier_limit = limit_of(all, 1);
    all.resize(kernels.size());
    result.kernels = all;
    return result;
}

/* ------------------------------------------------------------ report */

static FILE *markdown = NULL;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...)
{
    FILE *const files[] = {stdout, markdown};
    for (FILE *file : files) {
        if (file != NULL) {
            va_list arguments;
            va_start(arguments, format);
            vfprintf(file, format, arguments);
            va_end(arguments);
            fflush(file);
        }
    }
}

typedef std::vector<std::vector<std::string>> table;

static std::string text(const char *format, ...) __attribute__((format(printf, 1, 2)));

static std::string text(const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    return line;
}

/* The first column, and the last `left` - 1, flush left. */
static void say_table(const table &rows, size_t left)
{
    std::vector<size_t> width(rows[0].size());

    for (const std::vector<std::string> &row : rows) {
        for (size_t i = 0; i < row.size(); i++) {
            width[i] = std::max(width[i], row[i].size());
        }
    }
    for (size_t r = 0; r < rows.size(); r++) {
        for (size_t i = 0; i < width.size(); i++) {
            const bool is_left = i == 0 || i + left > width.size();
            say(is_left ? "| %-*s " : "| %*s ", (int)width[i], rows[r][i].c_str());
        }
        say("|\n");
        for (size_t i = 0; r == 0 && i < width.size(); i++) {
            const bool is_left = i == 0 || i + left > width.size();
            say("|%s%s", std::string(width[i] + 1, '-').c_str(), is_left ? "-" : ":");
        }
        say(r == 0 ? "|\n" : "");
    }
    say("\n");
}

static const char *layout_text(fp4_layout layout)
{
    return layout == FP4_LAYOUT_128X4 ? "128x4" : layout == FP4_LAYOUT_8X4 ? "8x4" : "linear";
}

static std::string label(const bench_kernel *k)
{
    const std::string words = text("%s %s %s", k->name, k->input, k->format);
    const bool has_layout = k->traffic.way != TRAFFIC_FAKE && k->traffic.way != TRAFFIC_EIGHTH;
    return has_layout ? words + " " + layout_text(k->traffic.layout) : words;
}

/* What a command prints, without the newline. */
static std::string output_of(const char *command)
{
    char line[256] = "";
    FILE *pipe = popen(command, "r");
    if (pipe != NULL) {
        if (fgets(line, sizeof(line), pipe) == NULL) {
            line[0] = '\0';
        }
        pclose(pipe);
    }
    line[strcspn(line, "\n")] = '\0';
    return line;
}

/* Clocks are read while the GPU works. */
static void say_head(pools *p, int argc, char **argv)
{
    const time_t now = time(NULL);
    char date[64], command[256] = "";
    cudaDeviceProp properties;
    int runtime = 0;

    for (int i = 0; i < argc; i++) {
        const size_t at = strlen(command);
        snprintf(command + at, sizeof(command) - at, i == 0 ? "%s" : " %s", argv[i]);
    }
    strftime(date, sizeof(date), "%Y-%m-%d %H:%M UTC", gmtime(&now));
    must(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
    must(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
    for (int i = 0; i < 5000; i++) {
        read_all<<<1024, 256, 0, p->stream>>>((const uint4 *)p->other, FLUSH / 16,
                                              (uint32_t *)p->count);
    }
    const std::string clocks = output_of(
        "nvidia-smi --query-gpu=driver_version,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem "
        "--format=csv,noheader 2>/dev/null");
    must(cudaStreamSynchronize(p->stream), "warming up");
    say("# The last run of gpu_bench\n\n");
    say("%s. `%s`, which `make bench` runs where there is a GPU.\n\n", date, command);
    say("%s, sm_%d%d, %d SMs, %.0f MB of L2, CUDA %d.%d. Driver, SM clock under load and highest, "
        "memory\nclock under load and highest: %s.\n\n",
        properties.name, properties.major, properties.minor, properties.multiProcessorCount,
        properties.l2CacheSize / 1e6, runtime / 1000, runtime % 1000 / 10,
        clocks.empty() ? "not known, no nvidia-smi" : clocks.c_str());
    say("The limit is the fastest of several kernels that move the same bytes, padding of the "
        "scale buffer\nincluded where it is written, and do nothing else (gpu_traffic.cu, "
        "gpu_traffic_back.cu). Kernel and limit\ntake turns; medians of %d rounds; spread is half "
        "the distance from the 10th to the 90th percentile. Every\nlaunch has an input of its own, "
        "cut in turn from 4 GiB, codes from 1 GiB, and the small shapes, graphs of %d\nlaunches, "
        "start on an L2 cache full of something else: the input comes from memory. GB/s counts "
        "what is\nread and what is written, weights too, once, a residual twice: in and out. Fused "
        "kernels (03 to 05) have a\nsecond limit, in which a CTA stores nothing of a row before "
        "all of it is there: the fastest with such a\nbarrier. Their weights stay in the L2 cache, "
        "and the limit does not read them.\n\n",
        ROUNDS, GRAPH);
}

/* ------------------------------------------------------------ the runs */

static bool by_label(const bench_kernel *a, const bench_kernel *b)
{
    return std::make_pair((int)a->baseline, label(a)) < std::make_pair((int)b->baseline, label(b));
}

/* Sorts of kernels, each with shapes of its own. */
typedef enum sort { SORT_ELEMENTS, SORT_WHOLE_ROWS, SORT_LARGE } sort;

static sort sort_of(const bench_kernel *k)
{
    return k->only_large ? SORT_LARGE : k->traffic.whole_rows ? SORT_WHOLE_ROWS : SORT_ELEMENTS;
}

/* Kernels of the same traffic, the baseline last. */
static std::vector<std::vector<const bench_kernel *>> groups(const char *only, const char *input,
                                                             sort which, bool with_baseline)
{
    std::vector<const bench_kernel *> all;
    std::vector<std::vector<const bench_kernel *>> result;

    for (const bench_kernel *k = bench_kernels; k != NULL; k = k->next) {
        if (strcmp(k->input, input) == 0 && strstr(label(k).c_str(), only) != NULL &&
            sort_of(k) == which && (with_baseline || !k->baseline)) {
            all.push_back(k);
        }
    }
    std::sort(all.begin(), all.end(), by_label);
    for (const bench_kernel *k : all) {
        auto same = [k](const std::vector<const bench_kernel *> &group) {
            return memcmp(&group[0]->traffic, &k->traffic, sizeof(k->traffic)) == 0;
        };
        auto at = std::find_if(result.begin(), result.end(), same);
        if (at == result.end()) {
            result.push_back({k});
        } else {
            at->push_back(k);
        }
    }
    return result;
}

static const char *const inputs[] = {"bf16", "f16", "f32", "e4m3", "nvfp4", "mxfp4", "mxfp8"};

/* One table for a large shape. */
static void large(pools *p, const char *only, sort which, size_t rows, size_t cols)
{
    table cells = {{text("%zu x %zu", rows, cols), "us", "spread", "GB/s", "limit", "of limit",
                    which == SORT_WHOLE_ROWS ? "of one with a barrier" : "x cuda_fp4.h",
                    "fastest same-traffic kernel"}};

    for (const char *input : inputs) {
        const std::vector<std::vector<const bench_kernel *>> all = groups(only, input, which, true);
        if (!all.empty()) {
            fill_input(p, input);
        }
        for (const std::vector<const bench_kernel *> &group : all) {
            const bench_traffic *t = &group[0]->traffic;
            if (!is_possible(t, rows, cols)) {
                continue;
            }
            const comparison c = compare(p, group, rows, cols);
            const double kilobytes = kilobytes_of(t, rows, cols);
            const contender &last = c.kernels.back();
            const bool has_baseline = last.kernel->baseline;

            for (size_t i = 0; i < group.size(); i++) {
                const contender &k = c.kernels[i];
                const double weights = 1e-3 * (double)(group[i]->weights * t->element) * cols;
                std::string other;
                if (k.refused || c.limit.refused) {
                    continue;
                }
                if (has_baseline && differences(p, &k, &last) != 0) {
                    fprintf(stderr, "gpu_bench: %s and the baseline differ in %llu bytes\n",
                            label(group[i]).c_str(), differences(p, &k, &last));
                    failures++;
                }
                if (has_baseline) {
                    other = text("%.2f", last.median / k.median);
                } else if (!c.barrier_limit.refused) {
                    other = text("%.1f %%", 100.0 * c.barrier_limit.median / k.median);
                }
                cells.push_back(
                    {label(group[i]), text("%.1f", k.median), text("%.1f %%", 100.0 * k.spread),
                     text("%.0f", (kilobytes + weights) / k.median),
                     text("%.0f", kilobytes / c.limit.median),
                     text("%.1f %%", 100.0 * c.limit.median / k.median), other, name_of(&c.limit)});
            }
        }
    }
    if (cells.size() > 1) {
        say_table(cells, 2);
    }
}

/* A cell of a small shape: microseconds / those of the limit = ratio, / of that with a barrier. */
static std::string small_cell(const contender &k, const comparison &c)
{
    if (k.refused || c.limit.refused) {
        return "-";
    }
    std::string cell =
        text("%.2f / %.2f = %.2f", k.median, c.limit.median, k.median / c.limit.median);
    if (!c.barrier_limit.refused) {
        cell += text(", / %.2f = %.2f", c.barrier_limit.median, k.median / c.barrier_limit.median);
    }
    return cell;
}

/* One table for the small shapes. */
static void small(pools *p, const char *only, sort which, const std::vector<size_t> &shapes,
                  size_t cols)
{
    table cells = {{text("us / limit%s, cols %zu",
                         which == SORT_WHOLE_ROWS ? ", / limit with a barrier" : "", cols)}};

    for (size_t rows : shapes) {
        cells[0].push_back(text("%zu row%s", rows, rows == 1 ? "" : "s"));
    }
    cells[0].push_back("spread");
    for (const char *input : inputs) {
        const std::vector<std::vector<const bench_kernel *>> all =
            groups(only, input, which, false);
        if (!all.empty()) {
            fill_input(p, input);
        }
        for (const std::vector<const bench_kernel *> &group : all) {
            const size_t first = cells.size();
            double spread = 0.0;
            if (!is_possible(&group[0]->traffic, 1, cols)) {
                continue;
            }
            for (const bench_kernel *kernel : group) {
                cells.push_back({label(kernel)});
            }
            for (size_t rows : shapes) {
                const comparison c = compare(p, group, rows, cols);
                for (size_t i = 0; i < group.size(); i++) {
                    const contender &k = c.kernels[i];
                    cells[first + i].push_back(small_cell(k, c));
                    spread = std::max(spread, k.refused ? 0.0 : k.spread);
                }
            }
            for (size_t i = first; i < cells.size(); i++) {
                cells[i].push_back(text("%.1f %%", 100.0 * spread));
            }
        }
    }
    if (cells.size() > 1) {
        say_table(cells, 0);
    }
}

static cudaError_t launch_nothing(const bench_buffers *, cudaStream_t stream)
{
    return cudaLaunchKernel((const void *)nothing, dim3(1), dim3(32), NULL, 0, stream);
}

/* Microseconds of a launch that does nothing, in a graph. */
static double empty_launch(pools *p)
{
    const bench_kernel kernel = {
        "nothing",
        "",
        "",
        {TRAFFIC_TO_CODES, 2, 4, 16, 0, 0, FP4_LAYOUT_LINEAR, TRAFFIC_ONE, 0},
        0,
        0,
        launch_nothing,
        NULL,
        0};
    std::vector<contender> one = {make_contender(&kernel.traffic, &kernel)};

    add_graphs(p, &one[0], 1, 4096, GRAPHS, GRAPH);
    measure(p, pointers(one), 1, 4096, ROUNDS);
    drop_graphs(one);
    return one[0].median;
}

/* What the command line asks for. */
typedef struct options {
    const char *only, *part; /* part: large, small, or empty */
    size_t rows, cols;       /* 0: those of the shapes */
} options;

/* The sizes to measure: all of them, or the one that is asked for. */
static std::vector<size_t> chosen(const std::vector<size_t> &sizes, size_t size)
{
    return size == 0 ? sizes : std::vector<size_t>{size};
}

/* All tables of one sort of kernels. */
static void run(pools *p, const options *o, sort which)
{
    const std::vector<size_t> large_rows[] = {
        {65536, 16384, 4096}, {65536, 16384}, {65536, 16384, 8192}};
    const std::vector<size_t> large_cols[] = {
        {8192}, {2048, 4096, 5120, 7168, 8192, 16384}, {8192}};
    const std::vector<size_t> small_rows[] = {{1, 8, 32, 128, SMALL}, {1, 8, 32, 128}, {}};

    if (o->part[0] != 's' && (o->rows == 0 || o->rows > SMALL)) {
        for (size_t rows : chosen(large_rows[which], o->rows)) {
            for (size_t cols : chosen(large_cols[which], o->cols)) {
                large(p, o->only, which, rows, cols);
            }
        }
    }
    const std::vector<size_t> rows = chosen(small_rows[which], o->rows);
    if (o->part[0] != 'l' && o->rows <= SMALL && !rows.empty()) {
        for (size_t cols : chosen({4096, 8192}, o->cols)) {
            small(p, o->only, which, rows, cols);
        }
    }
}

/* Returns whether the command line makes sense. */
static bool read_options(options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--markdown") == 0 && has_value) {
            markdown = fopen(argv[++i], "w");
            if (markdown == NULL) {
                perror(argv[i]);
                return false;
            }
        } else if (strcmp(argv[i], "--only") == 0 && has_value) {
            o->only = argv[++i];
        } else if (strcmp(argv[i], "--rows") == 0 && has_value) {
            o->rows = strtoul(argv[++i], NULL, 10);
            if (o->rows == 0 || o->rows > MOST_ROWS) {
                return false;
            }
        } else if (strcmp(argv[i], "--cols") == 0 && has_value) {
            o->cols = strtoul(argv[++i], NULL, 10);
            if (o->cols < LEAST_COLS || o->cols > MOST_COLS || o->cols % 32 != 0) {
                return false;
            }
        } else if (strcmp(argv[i], "large") == 0 || strcmp(argv[i], "small") == 0) {
            o->part = argv[i];
        } else {
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    options o = {"", "", 0, 0};
    pools p;

    if (!read_options(&o, argc, argv)) {
        fprintf(stderr,
                "usage: gpu_bench [--markdown FILE] [--only TEXT] [--rows 1..%zu] "
                "[--cols %zu..%zu by 32] [large | small]\n",
                MOST_ROWS, LEAST_COLS, MOST_COLS);
        return 2;
    }
    p = make_pools();
    say_head(&p, argc, argv);
    run(&p, &o, SORT_ELEMENTS);
    run(&p, &o, SORT_WHOLE_ROWS);
    run(&p, &o, SORT_LARGE);
    if (o.part[0] != 'l' && o.rows <= SMALL) {
        say("A launch that does nothing takes %.2f us in such a graph.\n", empty_launch(&p));
    }
    return failures != 0 || (markdown != NULL && fclose(markdown) != 0);
}
