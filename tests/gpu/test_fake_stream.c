/*
 * tests/gpu/test_fake_stream.c - the launcher of 07_fake_quant between other kernels, as
 * test_launch_stream.c has it: behind a producer that starts it at once and writes x, the amaxes
 * and the global number late, in front of a consumer that spoils x and reads late; in place; and in
 * a CUDA graph.
 */
#include "fake.h"

#if defined(FP4_SIMT) /* on the CPU nothing happens at the same time: tests/simt */
enum { ROUNDS = 3 };
#else
enum { ROUNDS = 100 };
#endif
enum { PRODUCER_SLEEP = 40000, CONSUMER_SLEEP = 15000 };

/* A case for which all rounds' inputs and outputs are on the device. */
typedef struct chain {
    fake_case c;
    fake_device d;
    fake_operands o[ROUNDS];
    float globals[ROUNDS];
    gpu_buffer all_x, all_amax, all_globals, all_y, all_clipped;
    cudaStream_t stream;
} chain;

static gpu_buffer all_of(const chain *k, int is_x)
{
    const size_t size = is_x ? k->d.x.size : k->d.amax.size;
    uint8_t *all = (uint8_t *)host_zeros(ROUNDS * size);
    gpu_buffer b;

    for (size_t round = 0; round < ROUNDS; round++) {
        memcpy(all + round * size, is_x ? (const void *)k->o[round].x : k->o[round].amax, size);
    }
    b = gpu_buffer_of(all, ROUNDS * size, 0);
    free(all);
    return b;
}

static chain *chain_new(fake_case c)
{
    chain *k = (chain *)host_zeros(sizeof *k);
    uint64_t state = 7;

    c.on_device = c.wants_clipped = 1;
    k->c = c;
    for (size_t round = 0; round < ROUNDS; round++) {
        k->o[round] = fake_operands_random(&c, &state);
        k->globals[round] = host_random_scale(&state, -4, 12);
    }
    k->d = fake_device_new(&c, &k->o[0]);
    k->all_x = all_of(k, 1);
    k->all_amax = all_of(k, 0);
    k->all_globals = gpu_buffer_of(k->globals, sizeof k->globals, 0);
    k->all_y = gpu_buffer_new(ROUNDS * k->d.y.size, 0);
    k->all_clipped = gpu_buffer_new(ROUNDS * k->d.clipped.size, 0);
    gpu_poison(k->all_y, 0x7f);
    gpu_poison(k->all_clipped, 0x7f);
    gpu_poison(k->d.y, 0x7f);
    GPU_OK(cudaStreamCreateWithFlags(&k->stream, cudaStreamNonBlocking));
    gpu_finish("chain_new");
    return k;
}

/* What the consumers of all rounds have copied, against the host reference. */
static void chain_end(chain *k)
{
    const size_t n = k->d.y.size / host_dtype_bytes(k->c.unit->output);
    uint8_t *all_y, *all_clipped;

    GPU_OK(cudaStreamSynchronize(k->stream));
    all_y = (uint8_t *)gpu_copy_of(k->all_y);
    all_clipped = (uint8_t *)gpu_copy_of(k->all_clipped);
    for (size_t round = 0; round < ROUNDS; round++) {
        fake_expected e;
        k->c.global = k->globals[round];
        e = fake_expect(&k->c, &k->o[round], 0x7f);
        elements_expect(all_y + round * k->d.y.size, e.y, n, k->c.unit->output, fake_text(&k->c),
                        0x7f);
        host_expect_bytes(all_clipped + round * k->d.clipped.size, e.clipped, k->d.clipped.size,
                          fake_text(&k->c));
        fake_expected_free(e);
        fake_operands_free(k->o[round]);
    }
    gpu_expect_guards(k->d.y, fake_text(&k->c));
    GPU_OK(cudaStreamDestroy(k->stream));
    gpu_buffer_free(k->all_x);
    gpu_buffer_free(k->all_amax);
    gpu_buffer_free(k->all_globals);
    gpu_buffer_free(k->all_y);
    gpu_buffer_free(k->all_clipped);
    fake_device_free(k->d);
    free(all_y);
    free(all_clipped);
    free(k);
}

static void produce(const chain *k, size_t round)
{
    gpu_copy copy;

    memset(&copy, 0, sizeof copy);
    copy.to[0] = k->d.x.bytes;
    copy.from[0] = k->all_x.bytes + round * k->d.x.size;
    copy.bytes[0] = k->d.x.size;
    copy.to[1] = k->d.amax.bytes;
    copy.from[1] = k->all_amax.bytes + round * k->d.amax.size;
    copy.bytes[1] = k->d.amax.size;
    copy.to[2] = k->d.globals.bytes;
    copy.from[2] = k->all_globals.bytes + round * sizeof(float);
    copy.bytes[2] = sizeof(float);
    copy.sleep = PRODUCER_SLEEP;
    GPU_OK(gpu_produce(&copy, k->stream));
}

/* In place x is what it reads. */
static void consume(const chain *k, size_t round)
{
    gpu_copy copy;

    memset(&copy, 0, sizeof copy);
    copy.from[0] = k->d.y.bytes;
    copy.to[0] = k->all_y.bytes + round * k->d.y.size;
    copy.bytes[0] = k->d.y.size;
    copy.from[1] = k->d.clipped.bytes;
    copy.to[1] = k->all_clipped.bytes + round * k->d.clipped.size;
    copy.bytes[1] = k->d.clipped.size;
    copy.fill = k->c.in_place ? k->d.amax.bytes : k->d.x.bytes;
    copy.fill_bytes = k->c.in_place ? k->d.amax.size : k->d.x.size;
    copy.sleep = CONSUMER_SLEEP;
    GPU_OK(gpu_consume(&copy, k->stream));
}

static void run_chain(fake_case c)
{
    chain *k = chain_new(c);

    for (size_t round = 0; round < ROUNDS; round++) {
        produce(k, round);
        GPU_OK(c.unit->launch(&k->d.args, 1, k->stream));
        consume(k, round);
    }
    chain_end(k);
}

/* Both ways to have an amax; of ModelOpt's both kernels. */
Test(fake_stream, behind_a_late_producer, .init = gpu_begin, .timeout = 300)
{
    for (size_t u = 0; u < FAKE_UNITS; u++) {
        fake_case c = fake_case_of(&fake_units[u], 37, u % 2 ? 1088 : 96);
        c.in_place = c.unit->input == c.unit->output;
        run_chain(c);
        c.is_static = 1;
        run_chain(c);
        if (!fake_is_ours(c.unit)) {
            c.cols = c.x_stride = c.y_stride = 90;
            c.block = 6;
            run_chain(c);
        }
    }
}

/* The launcher alone in a graph; inputs and outputs are copied outside of it. */
static void run_graph(fake_case c, int pdl)
{
    const enum cudaMemcpyKind kind = cudaMemcpyDeviceToDevice;
    chain *k = chain_new(c);
    cudaGraphExec_t executable;
    cudaGraph_t graph;
    size_t nodes = 0;

    GPU_OK(cudaStreamBeginCapture(k->stream, cudaStreamCaptureModeGlobal));
    GPU_OK(c.unit->launch(&k->d.args, pdl, k->stream));
    GPU_OK(cudaStreamEndCapture(k->stream, &graph));
    GPU_OK(cudaGraphGetNodes(graph, NULL, &nodes));
    CHECK_EQ(nodes, 1, "kernels captured");
    GPU_OK(cudaGraphInstantiate(&executable, graph, 0));
    GPU_OK(cudaGraphDestroy(graph));
    for (size_t round = 0; round < ROUNDS; round++) {
        const size_t x = k->d.x.size, y = k->d.y.size, amax = k->d.amax.size;
        const size_t bits = k->d.clipped.size;
        GPU_OK(cudaMemcpyAsync(k->d.x.bytes, k->all_x.bytes + round * x, x, kind, k->stream));
        GPU_OK(cudaMemcpyAsync(k->d.amax.bytes, k->all_amax.bytes + round * amax, amax, kind,
                               k->stream));
        GPU_OK(cudaMemcpyAsync(k->d.globals.bytes, k->all_globals.bytes + round * sizeof(float),
                               sizeof(float), kind, k->stream));
        GPU_OK(cudaGraphLaunch(executable, k->stream));
        GPU_OK(cudaMemcpyAsync(k->all_y.bytes + round * y, k->d.y.bytes, y, kind, k->stream));
        GPU_OK(cudaMemcpyAsync(k->all_clipped.bytes + round * bits, k->d.clipped.bytes, bits, kind,
                               k->stream));
    }
    GPU_OK(cudaGraphExecDestroy(executable));
    chain_end(k);
}

GPU_TEST(fake_stream, replayed_from_a_graph)
{
    for (size_t u = 0; u < FAKE_UNITS; u++) {
        fake_case c = fake_case_of(&fake_units[u], 33, 288);
        c.is_static = (int)(u % 2);
        run_graph(c, (int)(u / 2 % 2));
    }
}
