/*
 * tests/gpu/test_dequantize_stream.c - the launchers of 06_dequantize between other kernels, as
 * test_launch_stream.c has it: behind a producer that starts them at once and writes codes, scale
 * bytes and the global scale late, in front of a consumer that spoils the codes and reads late; and
 * in a CUDA graph. The codes of one round are another's with a turn.
 */
#include "back.h"

#if defined(FP4_SIMT) /* on the CPU nothing happens at the same time: tests/simt */
enum { ROUNDS = 3 };
#else
enum { ROUNDS = 100 };
#endif
enum { PRODUCER_SLEEP = 40000, CONSUMER_SLEEP = 15000 };

/* A case for which all rounds' inputs and outputs are on the device. */
typedef struct chain {
    back_case b;
    back_device d;
    back_input in[ROUNDS];
    float scales[ROUNDS];
    gpu_buffer all_q, all_sf, all_scales, all_y;
    launch_blocks_args blocks; /* the same by the other launcher */
    cudaStream_t stream;
} chain;

static gpu_buffer all_of(const chain *k, int is_q)
{
    const size_t size = is_q ? k->d.q.size : k->d.sf.size;
    uint8_t *all = (uint8_t *)host_zeros(ROUNDS * size);
    gpu_buffer b;

    for (size_t round = 0; round < ROUNDS; round++) {
        memcpy(all + round * size, is_q ? k->in[round].q : k->in[round].sf, size);
    }
    b = gpu_buffer_of(all, ROUNDS * size, 0);
    free(all);
    return b;
}

static chain *chain_new(back_case b)
{
    chain *k = (chain *)host_zeros(sizeof *k);
    uint64_t state = 7;

    b.c.global = SCALE_DEVICE;
    k->b = b;
    for (size_t round = 0; round < ROUNDS; round++) {
        k->in[round] = back_input_random(&b, &state);
        k->scales[round] = host_random_scale(&state, -4, 12);
    }
    k->d = back_device_new(&b, &k->in[0]);
    k->all_q = all_of(k, 1);
    k->all_sf = all_of(k, 0);
    k->all_scales = gpu_buffer_of(k->scales, sizeof k->scales, 0);
    k->all_y = gpu_buffer_new(ROUNDS * k->d.y.size, 0);
    k->blocks.y = k->d.y.bytes;
    k->blocks.q = k->d.q.bytes;
    k->blocks.sf = k->d.sf.bytes;
    k->blocks.global = k->d.args.global;
    k->blocks.association = b.association;
    k->blocks.n = b.c.rows * b.c.cols;
    k->blocks.block = case_block(&b.c);
    gpu_poison(k->all_y, 0x7f);
    gpu_poison(k->d.y, 0x7f);
    GPU_OK(cudaStreamCreateWithFlags(&k->stream, cudaStreamNonBlocking));
    gpu_finish("chain_new");
    return k;
}

/* What the consumers of all rounds have copied, against the host reference. */
static void chain_end(chain *k)
{
    const size_t n = k->d.y.size / host_dtype_bytes(k->b.c.dtype);
    uint8_t *all_y;

    GPU_OK(cudaStreamSynchronize(k->stream));
    all_y = (uint8_t *)gpu_copy_of(k->all_y);
    for (size_t round = 0; round < ROUNDS; round++) {
        uint8_t *image;
        k->b.c.scale = k->scales[round];
        image = back_expected(&k->b, &k->in[round], 0x7f);
        elements_expect(all_y + round * k->d.y.size, image, n, k->b.c.dtype, back_text(&k->b),
                        0x7f);
        free(image);
        back_input_free(k->in[round]);
    }
    gpu_expect_guards(k->d.y, back_text(&k->b));
    GPU_OK(cudaStreamDestroy(k->stream));
    gpu_buffer_free(k->all_q);
    gpu_buffer_free(k->all_sf);
    gpu_buffer_free(k->all_scales);
    gpu_buffer_free(k->all_y);
    back_device_free(k->d);
    free(all_y);
    free(k);
}

static void produce(const chain *k, size_t round)
{
    gpu_copy copy;

    memset(&copy, 0, sizeof copy);
    copy.to[0] = k->d.q.bytes;
    copy.from[0] = k->all_q.bytes + round * k->d.q.size;
    copy.bytes[0] = k->d.q.size;
    copy.to[1] = k->d.sf.bytes;
    copy.from[1] = k->all_sf.bytes + round * k->d.sf.size;
    copy.bytes[1] = k->d.sf.size;
    copy.to[2] = k->d.global.bytes;
    copy.from[2] = k->all_scales.bytes + round * sizeof(float);
    copy.bytes[2] = sizeof(float);
    copy.sleep = PRODUCER_SLEEP;
    GPU_OK(gpu_produce(&copy, k->stream));
}

static void consume(const chain *k, size_t round)
{
    gpu_copy copy;

    memset(&copy, 0, sizeof copy);
    copy.from[0] = k->d.y.bytes;
    copy.to[0] = k->all_y.bytes + round * k->d.y.size;
    copy.bytes[0] = k->d.y.size;
    copy.fill = k->d.q.bytes;
    copy.fill_bytes = k->d.q.size;
    copy.sleep = CONSUMER_SLEEP;
    GPU_OK(gpu_consume(&copy, k->stream));
}

static void run_chain(back_case b, int is_blocks)
{
    chain *k = chain_new(b);

    for (size_t round = 0; round < ROUNDS; round++) {
        produce(k, round);
        GPU_OK(is_blocks ? b.unit->launch_blocks(&k->blocks, 1, k->stream)
                         : b.unit->launch(&k->d.args, 1, k->stream));
        consume(k, round);
    }
    chain_end(k);
}

Test(dequantize_stream, behind_a_late_producer, .init = gpu_begin, .timeout = 300)
{
    for (size_t i = 0; i < BACK_UNITS; i++) {
        for (int layout = 0; layout < 3; layout++) {
            const back_unit *unit = &back_units[i];
            back_case b = back_case_of(unit, (fp4_layout)layout, 37, i % 2 ? 1088 : 96);
            run_chain(b, 0);
            if (unit->format == FP4_NVFP4 && layout == FP4_LAYOUT_LINEAR) {
                run_chain(b, 1);
            }
        }
    }
}

/* The launcher alone in a graph; inputs and output are copied outside of it. */
static void run_graph(back_case b, int pdl)
{
    chain *k = chain_new(b);
    cudaGraphExec_t executable;
    cudaGraph_t graph;
    size_t nodes = 0;

    GPU_OK(cudaStreamBeginCapture(k->stream, cudaStreamCaptureModeGlobal));
    GPU_OK(b.unit->launch(&k->d.args, pdl, k->stream));
    GPU_OK(cudaStreamEndCapture(k->stream, &graph));
    GPU_OK(cudaGraphGetNodes(graph, NULL, &nodes));
    CHECK_EQ(nodes, 1, "kernels captured");
    GPU_OK(cudaGraphInstantiate(&executable, graph, 0));
    GPU_OK(cudaGraphDestroy(graph));
    for (size_t round = 0; round < ROUNDS; round++) {
        const enum cudaMemcpyKind kind = cudaMemcpyDeviceToDevice;
        const size_t q = k->d.q.size, sf = k->d.sf.size, y = k->d.y.size;
        GPU_OK(cudaMemcpyAsync(k->d.q.bytes, k->all_q.bytes + round * q, q, kind, k->stream));
        GPU_OK(cudaMemcpyAsync(k->d.sf.bytes, k->all_sf.bytes + round * sf, sf, kind, k->stream));
        GPU_OK(cudaMemcpyAsync(k->d.global.bytes, k->all_scales.bytes + round * sizeof(float),
                               sizeof(float), kind, k->stream));
        GPU_OK(cudaGraphLaunch(executable, k->stream));
        GPU_OK(cudaMemcpyAsync(k->all_y.bytes + round * y, k->d.y.bytes, y, kind, k->stream));
    }
    GPU_OK(cudaGraphExecDestroy(executable));
    chain_end(k);
}

GPU_TEST(dequantize_stream, replayed_from_a_graph)
{
    for (size_t i = 0; i < BACK_UNITS; i++) {
        run_graph(back_case_of(&back_units[i], (fp4_layout)(i % 3), 33, 288), (int)(i % 2));
    }
}
