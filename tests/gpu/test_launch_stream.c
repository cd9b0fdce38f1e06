/*
 * tests/gpu/test_launch_stream.c - the launchers between other kernels: programmatic dependent
 * launch, and CUDA graphs.
 *
 * The chain of a round is
 *
 *     produce    lets the quantizer start at once, waits, sleeps, writes its input and its scale,
 *                and fills its scale buffer with 0x7f
 *     quantize
 *     consume    waits, fills the quantizer's input with NaNs, lets the next round start, sleeps,
 *                copies codes and scales away
 *
 * each launched so that it may start before the one in front has ended. A quantizer that reads its
 * input too early gets NaNs, or its scale, that of the round before. One that writes too early
 * changes what the consumer of the round before has not yet copied; padding written too early is
 * 0x7f again.
 */
#include "cases.h"

#if defined(FP4_SIMT) /* on the CPU nothing happens at the same time: tests/simt */
enum { ROUNDS = 3, BIG_ROUNDS = 1 };
#else
enum { ROUNDS = 250, BIG_ROUNDS = 6 };
#endif
enum { PRODUCER_SLEEP = 40000, CONSUMER_SLEEP = 15000 };

/* A case for which all rounds' inputs and outputs are on the device. */
typedef struct chain {
    gpu_case c;
    case_device d;
    size_t rounds;
    uint8_t *x;    /* the inputs of all rounds */
    float *scales; /* and their global scales */
    gpu_buffer all_x, all_scales, all_q, all_sf, poison;
    cudaStream_t stream;
} chain;

static chain chain_new(gpu_case c, size_t rounds, const uint8_t *pool)
{
    const size_t bytes = case_x_bytes(&c);
    uint64_t state = 7;
    chain k;

    c.global = SCALE_DEVICE;
    k.c = c;
    k.rounds = rounds;
    k.x = (uint8_t *)host_zeros(rounds * bytes);
    k.scales = (float *)host_zeros(rounds * sizeof(float));
    for (size_t round = 0; round < rounds; round++) {
        uint8_t *x = case_x_of_pool(&c, pool, 61, &state);
        memcpy(k.x + round * bytes, x, bytes);
        k.scales[round] = host_random_scale(&state, -4, 12);
        free(x);
    }
    k.d = case_device_new(&c, k.x);
    k.all_x = gpu_buffer_of(k.x, rounds * bytes, 0);
    k.all_scales = gpu_buffer_of(k.scales, rounds * sizeof(float), 0);
    k.all_q = gpu_buffer_new(rounds * k.d.q.size, 0);
    k.all_sf = gpu_buffer_new(rounds * k.d.sf.size, 0);
    k.poison = gpu_buffer_new(k.d.sf.size, 0);
    gpu_poison(k.poison, 0x7f);
    gpu_poison(k.all_q, 0x7f);
    gpu_poison(k.all_sf, 0x7f);
    gpu_poison(k.d.q, 0x7f);
    gpu_poison(k.d.sf, 0x7f);
    GPU_OK(cudaStreamCreateWithFlags(&k.stream, cudaStreamNonBlocking));
    gpu_finish("chain_new");
    return k;
}

static void chain_free(chain k)
{
    GPU_OK(cudaStreamDestroy(k.stream));
    gpu_buffer_free(k.all_x);
    gpu_buffer_free(k.all_scales);
    gpu_buffer_free(k.all_q);
    gpu_buffer_free(k.all_sf);
    gpu_buffer_free(k.poison);
    case_device_free(k.d);
    free(k.x);
    free(k.scales);
}

static void produce(const chain *k, size_t round)
{
    gpu_copy copy;

    memset(&copy, 0, sizeof copy);
    copy.to[0] = k->d.x.bytes;
    copy.from[0] = k->all_x.bytes + round * k->d.x.size;
    copy.bytes[0] = k->d.x.size;
    copy.to[1] = k->d.global.bytes;
    copy.from[1] = k->all_scales.bytes + round * sizeof(float);
    copy.bytes[1] = sizeof(float);
    copy.to[2] = k->d.sf.bytes;
    copy.from[2] = k->poison.bytes;
    copy.bytes[2] = k->d.sf.size;
    copy.sleep = PRODUCER_SLEEP;
    GPU_OK(gpu_produce(&copy, k->stream));
}

static void consume(const chain *k, size_t round)
{
    gpu_copy copy;

    memset(&copy, 0, sizeof copy);
    copy.from[0] = k->d.q.bytes;
    copy.to[0] = k->all_q.bytes + round * k->d.q.size;
    copy.bytes[0] = k->d.q.size;
    copy.from[1] = k->d.sf.bytes;
    copy.to[1] = k->all_sf.bytes + round * k->d.sf.size;
    copy.bytes[1] = k->d.sf.size;
    copy.fill = k->d.x.bytes;
    copy.fill_bytes = k->d.x.size;
    copy.sleep = CONSUMER_SLEEP;
    GPU_OK(gpu_consume(&copy, k->stream));
}

/* What the consumers of all rounds have copied, against the host reference. */
static void expect_all_rounds(chain *k)
{
    uint8_t *q = (uint8_t *)host_zeros(k->d.q.size), *sf = (uint8_t *)host_zeros(k->d.sf.size);
    uint8_t *all_q, *all_sf;

    GPU_OK(cudaStreamSynchronize(k->stream));
    all_q = (uint8_t *)gpu_copy_of(k->all_q);
    all_sf = (uint8_t *)gpu_copy_of(k->all_sf);
    for (size_t round = 0; round < k->rounds; round++) {
        k->c.scale = k->scales[round];
        case_expected(&k->c, k->x + round * k->d.x.size, 0, q, sf);
        case_compare(&k->c, round, all_q + round * k->d.q.size, all_sf + round * k->d.sf.size, q,
                     sf, 0x7f);
    }
    gpu_expect_guards(k->d.q, "codes");
    gpu_expect_guards(k->d.sf, "scales");
    free(all_q);
    free(all_sf);
    free(q);
    free(sf);
}

static void run_chain(gpu_case c, size_t rounds, const uint8_t *pool)
{
    chain k = chain_new(c, rounds, pool);

    for (size_t round = 0; round < rounds; round++) {
        produce(&k, round);
        GPU_OK(case_launcher(&k.c)(&k.d.args, 1, k.stream));
        consume(&k, round);
    }
    expect_all_rounds(&k);
    chain_free(k);
}

/* The kernels for small matrices: a run of pieces (linear, no gaps) and the others, in each layout;
   the column-major one. */
static void run_chains(fp4_dtype dtype)
{
    uint8_t *pool = cases_pool(dtype, 61);

    for (int layout = 0; layout < 3; layout++) {
        static const size_t cols[] = {1088, 480, 96};
        for (size_t i = 0; i < 3; i++) {
            gpu_case c = case_of(dtype, (fp4_format)((i + (size_t)layout) % 3), (fp4_layout)layout,
                                 37, cols[i]);
            run_chain(c, ROUNDS, pool);
            c.row_stride += 32;
            run_chain(c, ROUNDS, pool);
        }
        {
            gpu_case c = case_of(dtype, (fp4_format)layout, (fp4_layout)layout, 37, 160);
            c.columns = 1;
            c.row_stride = 40;
            run_chain(c, ROUNDS, pool);
        }
    }
    free(pool);
}

/* The kernels for large matrices: the run, and tiles of three widths. */
Test(launch_stream, large_behind_a_late_producer, .init = gpu_begin, .timeout = 300)
{
    uint8_t *pool = cases_pool(FP4_BF16, 61);

    for (int i = 0; i < 9; i++) {
        static const size_t cols[] = {1024, 768, 1056};
        const size_t rows = BIG_ROUNDS > 1 ? 8400000 / cols[i % 3] + 9 : 201;
        const fp4_layout layout = (fp4_layout)(i / 3);
        gpu_case c = case_of(FP4_BF16, (fp4_format)((i + i / 3) % 3), layout, rows, cols[i % 3]);
        c.row_stride += i % 3 == 0 ? 0 : 32;
        run_chain(c, BIG_ROUNDS, pool);
    }
    free(pool);
}

Test(launch_stream, behind_a_late_producer_bf16, .init = gpu_begin, .timeout = 300)
{
    run_chains(FP4_BF16);
}

Test(launch_stream, behind_a_late_producer_f32, .init = gpu_begin, .timeout = 300)
{
    run_chains(FP4_F32);
}

Test(launch_stream, behind_a_late_producer_e4m3, .init = gpu_begin, .timeout = 300)
{
    run_chains(FP4_E4M3);
}

/* ---------------------------------------------------------------- graphs */

/* A stream's work from here to capture_end as a graph. The mode refuses whatever allocates or
   waits, on any thread. */
static void capture_begin(cudaStream_t stream)
{
    GPU_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
}

static cudaGraphExec_t capture_end(cudaStream_t stream, size_t kernels)
{
    cudaGraphExec_t executable;
    cudaGraph_t graph;
    size_t nodes = 0;

    GPU_OK(cudaStreamEndCapture(stream, &graph));
    GPU_OK(cudaGraphGetNodes(graph, NULL, &nodes));
    CHECK_EQ(nodes, kernels, "kernels captured");
    GPU_OK(cudaGraphInstantiate(&executable, graph, 0));
    GPU_OK(cudaGraphDestroy(graph));
    return executable;
}

/* The launcher alone in a graph; input, scale and outputs are copied outside of it. */
static void run_graph(gpu_case c, int pdl, const uint8_t *pool)
{
    chain k = chain_new(c, ROUNDS, pool);
    cudaGraphExec_t graph;

    capture_begin(k.stream);
    GPU_OK(case_launcher(&k.c)(&k.d.args, pdl, k.stream));
    graph = capture_end(k.stream, 1);
    for (size_t round = 0; round < ROUNDS; round++) {
        const enum cudaMemcpyKind kind = cudaMemcpyDeviceToDevice;
        const size_t x = k.d.x.size, q = k.d.q.size, sf = k.d.sf.size;
        GPU_OK(cudaMemcpyAsync(k.d.x.bytes, k.all_x.bytes + round * x, x, kind, k.stream));
        GPU_OK(cudaMemcpyAsync(k.d.global.bytes, k.all_scales.bytes + round * sizeof(float),
                               sizeof(float), kind, k.stream));
        GPU_OK(cudaGraphLaunch(graph, k.stream));
        GPU_OK(cudaMemcpyAsync(k.all_q.bytes + round * q, k.d.q.bytes, q, kind, k.stream));
        GPU_OK(cudaMemcpyAsync(k.all_sf.bytes + round * sf, k.d.sf.bytes, sf, kind, k.stream));
    }
    expect_all_rounds(&k);
    GPU_OK(cudaGraphExecDestroy(graph));
    chain_free(k);
}

GPU_TEST(launch_stream, replayed_from_a_graph)
{
    uint8_t *pool = cases_pool(FP4_F16, 61);

    for (int i = 0; i < 18; i++) {
        gpu_case c = case_of(FP4_F16, (fp4_format)(i / 3 % 3), (fp4_layout)(i % 3), 33, 288);
        run_graph(c, i / 9, pool);
        if (i < 9) {
            c.columns = 1;
            c.row_stride = 34;
            run_graph(c, i % 2, pool);
        }
    }
    free(pool);
}

/* All rounds of the chain of dependent launches in one graph. */
GPU_TEST(launch_stream, dependent_launches_in_a_graph)
{
    uint8_t *pool = cases_pool(FP4_BF16, 61);

    for (int i = 0; i < 9; i++) {
        chain k = chain_new(case_of(FP4_BF16, (fp4_format)(i / 3), (fp4_layout)(i % 3), 37, 1088),
                            ROUNDS, pool);
        cudaGraphExec_t graph;
        capture_begin(k.stream);
        for (size_t round = 0; round < ROUNDS; round++) {
            produce(&k, round);
            GPU_OK(case_launcher(&k.c)(&k.d.args, 1, k.stream));
            consume(&k, round);
        }
        graph = capture_end(k.stream, 3 * ROUNDS);
        for (int replay = 0; replay < 2; replay++) {
            gpu_poison(k.all_q, 0x7f);
            gpu_poison(k.all_sf, 0x7f);
            gpu_finish("poisoning");
            GPU_OK(cudaGraphLaunch(graph, k.stream));
            expect_all_rounds(&k);
        }
        GPU_OK(cudaGraphExecDestroy(graph));
        chain_free(k);
    }
    free(pool);
}
