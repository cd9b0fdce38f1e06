/*
 * tests/gpu/test_experts_stream.c - 10_experts between other kernels, as test_launch_stream.c has
 * it: behind a producer that starts it at once and writes its inputs late, the counts or offsets
 * among them; in front of a consumer that spoils its input and reads late; and in CUDA graphs, in
 * which every round has other counts.
 */
#include "experts.h"

#if defined(FP4_SIMT) /* on the CPU nothing happens at the same time: tests/simt */
enum { ROUNDS = 3 };
#else
enum { ROUNDS = 100 };
#endif
enum { PRODUCER_SLEEP = 40000, CONSUMER_SLEEP = 15000, PARTS = 3 };

/* A case for which all rounds' inputs and outputs are on the device: x, numbers and sources; codes,
   scales and errors. */
typedef struct chain {
    experts_case c;
    experts_device d;
    experts_operands o[ROUNDS];
    gpu_buffer all_in[PARTS], all_out[PARTS];
    cudaStream_t stream;
} chain;

static gpu_buffer input_of(const chain *k, size_t part)
{
    return part == 0 ? k->d.x : part == 1 ? k->d.numbers : k->d.sources;
}

static gpu_buffer output_of(const chain *k, size_t part)
{
    return part == 0 ? k->d.q : part == 1 ? k->d.sf : k->d.errors;
}

static const void *operand_of(const experts_operands *o, size_t part)
{
    return part == 0 ? (const void *)o->x : part == 1 ? (const void *)o->numbers : o->sources;
}

static chain *chain_new(experts_case c)
{
    chain *k = (chain *)host_zeros(sizeof *k);
    uint64_t state = 1110;

    k->c = c;
    for (size_t round = 0; round < ROUNDS; round++) {
        k->o[round] = experts_operands_new(&c, round % 4 == 3, HOST_NARROW, &state);
        memcpy(k->o[round].scales, k->o[0].scales, c.groups * sizeof(float));
    }
    k->d = experts_device_new(&c, &k->o[0]);
    for (size_t part = 0; part < PARTS; part++) {
        const size_t bytes = input_of(k, part).size;
        uint8_t *all = (uint8_t *)host_zeros(ROUNDS * bytes);
        for (size_t round = 0; round < ROUNDS; round++) {
            memcpy(all + round * bytes, operand_of(&k->o[round], part), bytes);
        }
        k->all_in[part] = gpu_buffer_of(all, ROUNDS * bytes, 0);
        k->all_out[part] = gpu_buffer_new(ROUNDS * output_of(k, part).size, 0);
        free(all);
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
        experts_operands_free(k->o[round]);
    }
    experts_device_free(k->d);
    free(k);
}

static void launch_round(const chain *k, size_t round)
{
    gpu_copy in, out;

    memset(&in, 0, sizeof in);
    memset(&out, 0, sizeof out);
    for (size_t part = 0; part < PARTS; part++) {
        in.to[part] = input_of(k, part).bytes;
        in.bytes[part] = input_of(k, part).size;
        in.from[part] = k->all_in[part].bytes + round * in.bytes[part];
        out.from[part] = output_of(k, part).bytes;
        out.bytes[part] = output_of(k, part).size;
        out.to[part] = k->all_out[part].bytes + round * out.bytes[part];
    }
    in.sleep = PRODUCER_SLEEP;
    out.sleep = CONSUMER_SLEEP;
    out.fill = k->d.x.bytes;
    out.fill_bytes = k->d.x.size;
    GPU_OK(gpu_produce(&in, k->stream));
    GPU_OK(k->c.unit->launch(&k->d.args, 1, k->stream));
    GPU_OK(gpu_consume(&out, k->stream));
}

/* What the consumers of all rounds have copied, against the host twin. Errors add up. */
static void expect_all_rounds(chain *k, uint32_t errors)
{
    uint8_t *got[PARTS];

    GPU_OK(cudaStreamSynchronize(k->stream));
    for (size_t part = 0; part < PARTS; part++) {
        got[part] = (uint8_t *)gpu_copy_of(k->all_out[part]);
    }
    for (size_t round = 0; round < ROUNDS; round++) {
        const experts_expected e = experts_expect(&k->c, &k->o[round], 0x7f);
        uint32_t after;
        errors |= e.errors;
        host_expect_bytes(got[0] + round * k->d.q.size, e.q, k->d.q.size, experts_text(&k->c));
        host_expect_bytes(got[1] + round * k->d.sf.size, e.sf, k->d.sf.size, experts_text(&k->c));
        memcpy(&after, got[2] + round * sizeof after, sizeof after);
        CHECK_EQ(after, errors, "round %zu: errors of %s", round, experts_text(&k->c));
        experts_expected_free(e);
    }
    for (size_t part = 0; part < PARTS; part++) {
        gpu_expect_guards(output_of(k, part), experts_text(&k->c));
        gpu_expect_guards(input_of(k, part), experts_text(&k->c));
        free(got[part]);
    }
}

static void run_chain(experts_case c, int in_graph)
{
    chain *k = chain_new(c);
    cudaGraphExec_t executable;
    cudaGraph_t graph;
    size_t nodes = 0;

    if (in_graph) { /* this mode refuses whatever allocates or waits, on any thread */
        GPU_OK(cudaStreamBeginCapture(k->stream, cudaStreamCaptureModeGlobal));
    } else {
        experts_poison(&k->d, 0x7f);
        gpu_finish("poisoning");
    }
    for (size_t round = 0; round < ROUNDS; round++) {
        launch_round(k, round);
    }
    if (in_graph) {
        GPU_OK(cudaStreamEndCapture(k->stream, &graph));
        GPU_OK(cudaGraphGetNodes(graph, NULL, &nodes));
        CHECK_EQ(nodes, 3 * ROUNDS, "kernels captured");
        GPU_OK(cudaGraphInstantiate(&executable, graph, 0));
        GPU_OK(cudaGraphDestroy(graph));
        for (int replay = 0; replay < 2; replay++) {
            experts_poison(&k->d, 0x7f);
            gpu_finish("poisoning");
            GPU_OK(cudaGraphLaunch(executable, k->stream));
            expect_all_rounds(k, 0);
        }
        GPU_OK(cudaGraphExecDestroy(executable));
    } else {
        expect_all_rounds(k, 0);
    }
    chain_free(k);
}

/* A unit with an activation and one without, every width. */
static void run_shape(int is_packed, int in_graph)
{
    static const size_t cols[] = {1056, 256, 64};

    for (size_t i = 0; i < 6; i++) {
        const experts_unit *unit = &experts_units[(i * 4 + (size_t)is_packed) % EXPERTS_UNITS];
        experts_case c = experts_case_of(unit, is_packed, is_packed ? 9 : 3, 150, cols[i / 2]);
        c.has_sources = is_packed && i % 2;
        c.has_starts = 0;
        run_chain(c, in_graph);
    }
}

#define STREAM(name, is_packed, in_graph) \
    Test(launch_stream, name, .init = gpu_begin, .timeout = 300) \
    { \
        run_shape(is_packed, in_graph); \
    }

STREAM(experts_masked, 0, 0)
STREAM(experts_packed, 1, 0)
STREAM(experts_masked_in_a_graph, 0, 1)
STREAM(experts_packed_in_a_graph, 1, 1)
