/*
 * tests/gpu/test_fused_stream.c - the fused launchers between other kernels, as
 * test_launch_stream.c has it: behind a producer that starts them at once and writes their inputs
 * late, in front of a consumer that spoils their input and reads late; and in CUDA graphs.
 *
 * A producer has room for three copies: x, the scales' poison, and the residual or the global
 * scale. A consumer too: codes, scales, and the residual, the scales of the tokens, or y.
 */
#include "fused.h"

#if defined(FP4_SIMT) /* on the CPU nothing happens at the same time: tests/simt */
enum { ROUNDS = 3 };
#else
enum { ROUNDS = 250 };
#endif
enum { PRODUCER_SLEEP = 40000, CONSUMER_SLEEP = 15000, PARTS = 3 };

/* A case for which all rounds' inputs and outputs are on the device. */
typedef struct chain {
    fused_case c;
    fused_device d;
    fused_operands o[ROUNDS];
    float scales[ROUNDS];
    fused_buffer in, out; /* the third of what is copied */
    gpu_buffer all_in[PARTS], all_out[PARTS];
    cudaStream_t stream;
} chain;

/* What is copied for a round before it and after it. */
static fused_buffer input_of(const chain *k, size_t part)
{
    return part == 0 ? FUSED_X : part == 1 ? FUSED_SF : k->in;
}

static fused_buffer output_of(const chain *k, size_t part)
{
    return part == 0 ? FUSED_Q : part == 1 ? FUSED_SF : k->out;
}

/* All rounds' share of an input, on the device. FUSED_SF: its poison. */
static gpu_buffer all_of_input(const chain *k, fused_buffer which)
{
    const size_t size = k->d.b[which].size;
    uint8_t *bytes = (uint8_t *)host_zeros(ROUNDS * size);
    gpu_buffer all;

    for (size_t round = 0; round < ROUNDS; round++) {
        uint8_t *to = bytes + round * size;
        if (which == FUSED_SF) {
            memset(to, 0x7f, size);
        } else if (which == FUSED_GLOBAL) {
            memcpy(to, &k->scales[round], size);
        } else {
            memcpy(to, k->o[round].in[which], size);
        }
    }
    all = gpu_buffer_of(bytes, ROUNDS * size, 0);
    free(bytes);
    return all;
}

static chain *chain_new(fused_case c, const fused_pool *pool)
{
    chain *k = (chain *)host_zeros(sizeof *k);
    uint64_t state = 7;

    k->in = c.unit->op == FUSED_add_rmsnorm ? FUSED_RESIDUAL : FUSED_GLOBAL;
    k->out = c.unit->op == FUSED_add_rmsnorm ? FUSED_RESIDUAL
             : c.per_token                   ? FUSED_TOKEN_DEC
                                             : FUSED_Y;
    c.on_device = k->in == FUSED_GLOBAL;
    c.has_y = k->out == FUSED_Y;
    for (size_t round = 0; round < ROUNDS; round++) {
        k->o[round] = fused_operands_of_pool(&c, pool, &state);
        k->scales[round] = k->in == FUSED_GLOBAL ? host_random_scale(&state, -4, 12) : c.scale;
    }
    for (size_t round = 1; round < ROUNDS; round++) { /* copied for no round */
        for (int i = FUSED_WEIGHT; i <= FUSED_BIAS; i++) {
            memcpy(k->o[round].in[i], k->o[0].in[i], fused_own_bytes(&c, (fused_buffer)i));
        }
    }
    k->c = c;
    k->d = fused_device_new(&c, &k->o[0]);
    fused_poison(&k->d, 0x7f);
    for (size_t part = 0; part < PARTS; part++) {
        k->all_in[part] = all_of_input(k, input_of(k, part));
        k->all_out[part] = gpu_buffer_new(ROUNDS * k->d.b[output_of(k, part)].size, 0);
        gpu_poison(k->all_out[part], 0x7f);
    }
    GPU_OK(cudaStreamCreateWithFlags(&k->stream, cudaStreamNonBlocking));
    gpu_finish("chain_new");
    return k;
}

static void chain_free(chain *k)
{
    GPU_OK(cudaStreamDestroy(k->stream));
    for (size_t part = 0; part < PARTS; part++) {
        gpu_buffer_free(k->all_in[part]);
        gpu_buffer_free(k->all_out[part]);
    }
    for (size_t round = 0; round < ROUNDS; round++) {
        fused_operands_free(k->o[round]);
    }
    fused_device_free(k->d);
    free(k);
}

static void produce(const chain *k, size_t round)
{
    gpu_copy copy;

    memset(&copy, 0, sizeof copy);
    for (size_t part = 0; part < PARTS; part++) {
        const gpu_buffer b = k->d.b[input_of(k, part)];
        copy.to[part] = b.bytes;
        copy.from[part] = k->all_in[part].bytes + round * b.size;
        copy.bytes[part] = b.size;
    }
    copy.sleep = PRODUCER_SLEEP;
    GPU_OK(gpu_produce(&copy, k->stream));
}

static void consume(const chain *k, size_t round)
{
    gpu_copy copy;

    memset(&copy, 0, sizeof copy);
    for (size_t part = 0; part < PARTS; part++) {
        const gpu_buffer b = k->d.b[output_of(k, part)];
        copy.from[part] = b.bytes;
        copy.to[part] = k->all_out[part].bytes + round * b.size;
        copy.bytes[part] = b.size;
    }
    copy.fill = k->d.b[FUSED_X].bytes;
    copy.fill_bytes = k->d.b[FUSED_X].size;
    copy.sleep = CONSUMER_SLEEP;
    GPU_OK(gpu_consume(&copy, k->stream));
}

/* What the consumers of all rounds have copied, against the host twin. */
static void expect_all_rounds(chain *k)
{
    uint8_t *got[PARTS];

    GPU_OK(cudaStreamSynchronize(k->stream));
    for (size_t part = 0; part < PARTS; part++) {
        got[part] = (uint8_t *)gpu_copy_of(k->all_out[part]);
    }
    for (size_t round = 0; round < ROUNDS; round++) {
        fused_expected e;
        k->c.scale = k->scales[round];
        e = fused_expected_new(&k->c, &k->o[round]);
        fused_expect_codes(&k->c, got[0] + round * k->d.b[FUSED_Q].size,
                           got[1] + round * k->d.b[FUSED_SF].size, e.out[FUSED_Q], e.sf,
                           "a round of many");
        fused_expect_rows(&k->c, k->out, got[2] + round * k->d.b[k->out].size, e.out[k->out], 0x7f);
        fused_expected_free(e);
    }
    for (int i = 0; i < FUSED_BUFFERS; i++) {
        if (k->d.b[i].memory != NULL) {
            gpu_expect_guards(k->d.b[i], fused_buffer_name[i]);
        }
    }
    for (size_t part = 0; part < PARTS; part++) {
        free(got[part]);
    }
}

/* A chain of rounds, launched or in a graph that is replayed. */
static void run_chain(fused_case c, int in_graph, const fused_pool *pool)
{
    chain *k = chain_new(c, pool);
    cudaGraphExec_t executable;
    cudaGraph_t graph;
    size_t nodes = 0;

    if (in_graph) { /* this mode refuses whatever allocates or waits, on any thread */
        GPU_OK(cudaStreamBeginCapture(k->stream, cudaStreamCaptureModeGlobal));
    }
    for (size_t round = 0; round < ROUNDS; round++) {
        produce(k, round);
        GPU_OK(c.unit->launch(&k->d.args, 1, k->stream));
        consume(k, round);
    }
    if (in_graph) {
        GPU_OK(cudaStreamEndCapture(k->stream, &graph));
        GPU_OK(cudaGraphGetNodes(graph, NULL, &nodes));
        CHECK_EQ(nodes, 3 * ROUNDS, "kernels captured");
        GPU_OK(cudaGraphInstantiate(&executable, graph, 0));
        GPU_OK(cudaGraphDestroy(graph));
        for (int replay = 0; replay < 2; replay++) {
            for (size_t part = 0; part < PARTS; part++) {
                gpu_poison(k->all_out[part], 0x7f);
            }
            gpu_finish("poisoning");
            GPU_OK(cudaGraphLaunch(executable, k->stream));
            expect_all_rounds(k);
        }
        GPU_OK(cudaGraphExecDestroy(executable));
    } else {
        expect_all_rounds(k);
    }
    chain_free(k);
}

/* The launcher alone in a graph; its inputs and outputs are copied outside of it. */
static void run_graph(fused_case c, int pdl, const fused_pool *pool)
{
    const enum cudaMemcpyKind kind = cudaMemcpyDeviceToDevice;
    chain *k = chain_new(c, pool);
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
        for (size_t part = 0; part < PARTS; part++) {
            const gpu_buffer b = k->d.b[input_of(k, part)];
            GPU_OK(cudaMemcpyAsync(b.bytes, k->all_in[part].bytes + round * b.size, b.size, kind,
                                   k->stream));
        }
        GPU_OK(cudaGraphLaunch(executable, k->stream));
        for (size_t part = 0; part < PARTS; part++) {
            const gpu_buffer b = k->d.b[output_of(k, part)];
            GPU_OK(cudaMemcpyAsync(k->all_out[part].bytes + round * b.size, b.bytes, b.size, kind,
                                   k->stream));
        }
    }
    expect_all_rounds(k);
    GPU_OK(cudaGraphExecDestroy(executable));
    chain_free(k);
}

/* ---------------------------------------------------------------- tests */

/* Any row, a few that fill all places, short ones that are not few; in each layout. Then rows that
   are read twice, and so many full ones that they are not few. */
static void run_op(fused_op op, int rounded, int per_token)
{
    static const size_t cols[] = {1056, 4096, 160};
    const fused_unit *u = fused_unit_of(op);
    const fused_pool pool = fused_pool_new(u->dtype);

    for (int layout = 0; layout < 3; layout++) {
        fused_case c = fused_case_of(u, (fp4_layout)layout, 9, cols[layout]);
        c.few = cols[layout] > 512;
        c.rounded = rounded;
        c.per_token = per_token;
        c.scale = per_token ? 1.0f / 2688.0f : 448.0f;
        run_chain(c, layout == 1, &pool);
        run_graph(c, layout % 2, &pool);
    }
    if (!gpu_is_reduced()) {
        run_chain(fused_case_of(u, FP4_LAYOUT_128X4, 9, 20480), 0, &pool);
    }
    if (!gpu_is_reduced() && !rounded) {
        /* more than 132 CTAs that stay have at a time */
        fused_case c = fused_case_of(u, FP4_LAYOUT_LINEAR, 1100, 2048);
        c.period = c.rows;
        c.per_token = per_token;
        c.scale = per_token ? 1.0f / 2688.0f : 448.0f;
        run_chain(c, 0, &pool);
        run_graph(c, 0, &pool);
    }
    fused_pool_free(pool);
}

#define STREAM(name, op, rounded, per_token) \
    Test(launch_stream, name, .init = gpu_begin, .timeout = 300) \
    { \
        run_op(op, rounded, per_token); \
    }

STREAM(rmsnorm, FUSED_rmsnorm, 0, 0)
STREAM(rmsnorm_rounded, FUSED_rmsnorm, 1, 0)
STREAM(rmsnorm_per_token, FUSED_rmsnorm, 0, 1)
STREAM(add_rmsnorm, FUSED_add_rmsnorm, 0, 0)
STREAM(layernorm, FUSED_layernorm, 0, 0)
STREAM(silu, FUSED_silu, 0, 0)
STREAM(silu_rounded_per_token, FUSED_silu, 1, 1)
STREAM(gelu_tanh, FUSED_gelu_tanh, 0, 0)
STREAM(swiglu_oai, FUSED_swiglu_oai, 0, 0)
STREAM(per_token, FUSED_token, 0, 1)
