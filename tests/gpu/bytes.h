/*
 * tests/gpu/bytes.h - launchers that make bytes of bytes: a call with its buffers, run over poison,
 * in a chain of programmatic dependent launches and from a graph; all bytes of the outputs, their
 * guards and the inputs are looked at.
 */
#ifndef FP4_TESTS_GPU_BYTES_H
#define FP4_TESTS_GPU_BYTES_H

#include "gpu.h"
#include "launch.h"

#if defined(FP4_SIMT) /* on the CPU nothing happens at the same time: tests/simt */
enum { BYTES_ROUNDS = 3 };
#else
enum { BYTES_ROUNDS = 100 };
#endif
enum { BYTES_PRODUCER_SLEEP = 40000, BYTES_CONSUMER_SLEEP = 15000 };

/** Nothing of it is on the device twice, but for `in` and `out`, those that there are. */
typedef struct bytes_call {
    cudaError_t (*launch)(const void *args, int pdl, cudaStream_t stream);
    const void *args;
    gpu_buffer in[GPU_COPIES], out[GPU_COPIES];
    char text[200];
} bytes_call;

/** An input of the call, `shift` bytes off alignment; where it is. */
static inline void *bytes_in(bytes_call *call, int i, const void *host, size_t size, size_t shift)
{
    call->in[i] = gpu_buffer_of(host, size, shift);
    return call->in[i].bytes;
}

/** An output of the call. */
static inline void *bytes_out(bytes_call *call, int i, size_t size, size_t shift)
{
    call->out[i] = gpu_buffer_new(size, shift);
    return call->out[i].bytes;
}

static inline void bytes_free(bytes_call *call)
{
    for (int i = 0; i < GPU_COPIES; i++) {
        if (call->in[i].memory != NULL) {
            gpu_buffer_free(call->in[i]);
        }
        if (call->out[i].memory != NULL) {
            gpu_buffer_free(call->out[i]);
        }
    }
}

/** All bytes of a buffer, and its guards. */
static inline void bytes_expect(gpu_buffer b, const void *expected, const char *text)
{
    uint8_t *got = (uint8_t *)gpu_copy_of(b);

    host_expect_bytes(got, (const uint8_t *)expected, b.size, text);
    gpu_expect_guards(b, text);
    free(got);
}

/** Random bytes, none of them 0, so that padding is told apart. */
static inline uint8_t *bytes_random(size_t n, uint64_t *state)
{
    uint8_t *x = (uint8_t *)host_zeros(n);

    for (size_t i = 0; i < n; i++) {
        x[i] = (uint8_t)(1u + host_below(state, 255));
    }
    return x;
}

/** Launches over outputs full of 0x7f and full of 0xff. in: what is in the inputs. */
static inline void bytes_run(const bytes_call *call, const void *const in[GPU_COPIES],
                             const void *const expected[GPU_COPIES], int pdl)
{
    for (int turn = 0; turn < 2; turn++) {
        for (int i = 0; i < GPU_COPIES; i++) {
            if (call->out[i].memory != NULL) {
                gpu_poison(call->out[i], turn == 0 ? 0x7f : 0xff);
            }
        }
        GPU_OK(call->launch(call->args, pdl, 0));
        gpu_finish(call->text);
        for (int i = 0; i < GPU_COPIES; i++) {
            if (call->out[i].memory != NULL) {
                bytes_expect(call->out[i], expected[i], call->text);
            }
        }
    }
    for (int i = 0; i < GPU_COPIES; i++) {
        if (call->in[i].memory != NULL) {
            bytes_expect(call->in[i], in[i], call->text);
        }
    }
}

/* What all rounds read or have given, one behind the other. */
typedef struct bytes_rounds_ {
    gpu_buffer in[GPU_COPIES], out[GPU_COPIES];
    cudaStream_t stream;
} bytes_rounds_;

static inline bytes_rounds_ bytes_begin_(const bytes_call *call, const void *const in[GPU_COPIES])
{
    bytes_rounds_ r;

    memset(&r, 0, sizeof r);
    for (int i = 0; i < GPU_COPIES; i++) {
        if (call->in[i].memory != NULL) {
            r.in[i] = gpu_buffer_of(in[i], BYTES_ROUNDS * call->in[i].size, 0);
        }
        if (call->out[i].memory != NULL) {
            r.out[i] = gpu_buffer_new(BYTES_ROUNDS * call->out[i].size, 0);
        }
    }
    GPU_OK(cudaStreamCreateWithFlags(&r.stream, cudaStreamNonBlocking));
    gpu_finish(call->text);
    return r;
}

static inline void bytes_end_(const bytes_call *call, bytes_rounds_ *r,
                              const void *const expected[GPU_COPIES])
{
    GPU_OK(cudaStreamSynchronize(r->stream));
    for (int i = 0; i < GPU_COPIES; i++) {
        if (r->in[i].memory != NULL) {
            gpu_buffer_free(r->in[i]);
        }
        if (r->out[i].memory != NULL) {
            bytes_expect(r->out[i], expected[i], call->text);
            gpu_expect_guards(call->out[i], call->text);
            gpu_buffer_free(r->out[i]);
        }
    }
    GPU_OK(cudaStreamDestroy(r->stream));
}

/**
 * Behind a producer that starts it at once and writes the inputs late, in front of a consumer that
 * spoils the first of them and reads the outputs late. in, expected: of BYTES_ROUNDS rounds.
 */
static inline void bytes_chain(const bytes_call *call, const void *const in[GPU_COPIES],
                               const void *const expected[GPU_COPIES])
{
    bytes_rounds_ r = bytes_begin_(call, in);

    for (size_t round = 0; round < BYTES_ROUNDS; round++) {
        gpu_copy before, after;
        memset(&before, 0, sizeof before);
        memset(&after, 0, sizeof after);
        for (int i = 0; i < GPU_COPIES; i++) {
            if (call->in[i].memory != NULL) {
                before.to[i] = call->in[i].bytes;
                before.bytes[i] = call->in[i].size;
                before.from[i] = r.in[i].bytes + round * before.bytes[i];
            }
            if (call->out[i].memory != NULL) {
                after.from[i] = call->out[i].bytes;
                after.bytes[i] = call->out[i].size;
                after.to[i] = r.out[i].bytes + round * after.bytes[i];
            }
        }
        before.sleep = BYTES_PRODUCER_SLEEP;
        after.sleep = BYTES_CONSUMER_SLEEP;
        after.fill = call->in[0].bytes;
        after.fill_bytes = call->in[0].size;
        GPU_OK(gpu_produce(&before, r.stream));
        GPU_OK(call->launch(call->args, 1, r.stream));
        GPU_OK(gpu_consume(&after, r.stream));
    }
    bytes_end_(call, &r, expected);
}

/** In a graph; inputs and outputs are copied outside of it. */
static inline void bytes_graph(const bytes_call *call, const void *const in[GPU_COPIES],
                               const void *const expected[GPU_COPIES], int pdl)
{
    const enum cudaMemcpyKind kind = cudaMemcpyDeviceToDevice;
    bytes_rounds_ r = bytes_begin_(call, in);
    cudaGraphExec_t executable;
    cudaGraph_t graph;
    size_t nodes = 0;

    GPU_OK(cudaStreamBeginCapture(r.stream, cudaStreamCaptureModeGlobal));
    GPU_OK(call->launch(call->args, pdl, r.stream));
    GPU_OK(cudaStreamEndCapture(r.stream, &graph));
    GPU_OK(cudaGraphGetNodes(graph, NULL, &nodes));
    CHECK_EQ(nodes, 1, "%s: kernels captured", call->text);
    GPU_OK(cudaGraphInstantiate(&executable, graph, 0));
    GPU_OK(cudaGraphDestroy(graph));
    for (size_t round = 0; round < BYTES_ROUNDS; round++) {
        for (int i = 0; i < GPU_COPIES; i++) {
            if (call->in[i].memory != NULL) {
                GPU_OK(cudaMemcpyAsync(call->in[i].bytes, r.in[i].bytes + round * call->in[i].size,
                                       call->in[i].size, kind, r.stream));
            }
        }
        GPU_OK(cudaGraphLaunch(executable, r.stream));
        for (int i = 0; i < GPU_COPIES; i++) {
            if (call->out[i].memory != NULL) {
                GPU_OK(cudaMemcpyAsync(r.out[i].bytes + round * call->out[i].size,
                                       call->out[i].bytes, call->out[i].size, kind, r.stream));
            }
        }
    }
    GPU_OK(cudaGraphExecDestroy(executable));
    bytes_end_(call, &r, expected);
}

/** Whether the call, with other arguments, is refused without a launch, or makes `launches`. */
static inline void bytes_expect_call(const bytes_call *call, const void *args, cudaError_t expected,
                                     size_t launches, const char *what)
{
    cudaStream_t stream = gpu_capture_begin();
    const cudaError_t error = call->launch(args, 0, stream);
    const size_t nodes = gpu_capture_end(stream);

    CHECK_EQ(error, expected, "%s", what);
    CHECK_EQ(nodes, launches, "%s: kernels launched", what);
    if (expected != cudaSuccess) {
        CHECK_EQ(call->launch(args, 0, 0), expected, "%s: not captured", what);
        CHECK_EQ(cudaGetLastError(), cudaSuccess, "%s: an error is left", what);
    }
}

#endif /* FP4_TESTS_GPU_BYTES_H */
