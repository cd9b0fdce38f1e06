/*
 * tests/simt/cuda.cpp - the runtime calls of include/cuda_runtime_api.h. A launch runs the grid to
 * its end before it returns; while a stream is captured it becomes a node of the graph instead, its
 * arguments copied.
 */
#include "simt.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_ARGUMENTS = 16 };

/* A launch in a graph. */
struct simt_node {
    const simt_kernel *kernel;
    cudaLaunchConfig_t config;
    int is_dependent;
    void *arguments[MOST_ARGUMENTS];
    simt_node *next;
};

struct simt_graph {
    simt_node *first, **end;
    size_t count;
    int uses; /* the graph, and those made executable of it */
};

struct simt_stream {
    simt_graph *captured; /* NULL: what comes is run */
};

static cudaError_t last_error;

static cudaError_t result(cudaError_t error)
{
    if (error != cudaSuccess) {
        last_error = error;
    }
    return error;
}

/* ------------------------------------------------------------------------------ device */

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return result(device == 0 ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

static int processors = SIMT_PROCESSORS;

extern "C" void simt_have_processors(int n)
{
    processors = n;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    *value = processors;
    return result(device == 0 && attribute == cudaDevAttrMultiProcessorCount
                      ? cudaSuccess
                      : cudaErrorInvalidValue);
}

/* One CTA each, whatever the kernel is. */
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *ctas, const void *kernel, int,
                                                          size_t)
{
    *ctas = 1;
    return result(kernel != nullptr ? cudaSuccess : cudaErrorInvalidDeviceFunction);
}

cudaError_t cudaDeviceSynchronize(void)
{
    return last_error;
}

cudaError_t cudaGetLastError(void)
{
    const cudaError_t error = last_error;

    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidConfiguration:
        return "invalid configuration argument";
    case cudaErrorInvalidDeviceFunction:
        return "invalid device function";
    }
    return "unrecognized error code";
}

/* ------------------------------------------------------------------------------ memory */

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    *memory = simt_memory_new(bytes);
    return result(*memory == NULL ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaFree(void *memory)
{
    simt_memory_free(memory);
    return cudaSuccess;
}

cudaError_t cudaMallocManaged(void **memory, size_t bytes, unsigned)
{
    const cudaError_t error = cudaMalloc(memory, bytes);

    if (error == cudaSuccess) {
        simt_memory_written(*memory, bytes); /* by the host, at any time, unseen */
    }
    return error;
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    *memory = malloc(bytes);
    return result(*memory == NULL ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaFreeHost(void *memory)
{
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaMemset(void *to, int byte, size_t bytes)
{
    if (bytes != 0) {
        memset(to, byte, bytes);
        simt_memory_written(to, bytes);
    }
    return cudaSuccess;
}

static void expect_no_capture(cudaStream_t stream, const char *what)
{
    if (stream != NULL && stream->captured != NULL) {
        simt_fail("a %s is captured, which this runtime cannot", what);
    }
}

cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t stream)
{
    expect_no_capture(stream, "memset");
    return cudaMemset(to, byte, bytes);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind)
{
    if (bytes != 0) {
        memcpy(to, from, bytes);
        simt_memory_written(to, bytes);
    }
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    expect_no_capture(stream, "copy");
    return cudaMemcpy(to, from, bytes, kind);
}

cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                         size_t width, size_t height, enum cudaMemcpyKind kind)
{
    for (size_t row = 0; row < height; row++) {
        cudaMemcpy((uint8_t *)to + row * to_pitch, (const uint8_t *)from + row * from_pitch, width,
                   kind);
    }
    return cudaSuccess;
}

/* ------------------------------------------------------------------------------ graphs */

static void *copy_of(const void *from, size_t bytes)
{
    void *copy = NULL;

    if (posix_memalign(&copy, 64, bytes) != 0) {
        simt_fail("no memory for arguments");
    }
    memcpy(copy, from, bytes);
    return copy;
}

static void graph_add(simt_graph *graph, const simt_kernel *kernel,
                      const cudaLaunchConfig_t *config, int is_dependent, void **arguments)
{
    simt_node *node = (simt_node *)calloc(1, sizeof *node);

    node->kernel = kernel;
    node->config = *config;
    node->is_dependent = is_dependent;
    for (size_t i = 0; kernel->sizes[i] != 0; i++) {
        if (i == MOST_ARGUMENTS) {
            simt_fail("kernel %s has more arguments than a graph takes here", kernel->name);
        }
        node->arguments[i] = copy_of(arguments[i], kernel->sizes[i]);
    }
    *graph->end = node;
    graph->end = &node->next;
    graph->count++;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode)
{
    if (stream->captured != NULL) {
        return result(cudaErrorInvalidValue);
    }
    stream->captured = (simt_graph *)calloc(1, sizeof *stream->captured);
    stream->captured->end = &stream->captured->first;
    stream->captured->uses = 1;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = stream->captured;
    stream->captured = NULL;
    return result(*graph == NULL ? cudaErrorInvalidValue : cudaSuccess);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    if (nodes != NULL) {
        simt_fail("cudaGraphGetNodes only counts here");
    }
    *count = graph->count;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long)
{
    graph->uses++;
    *executable = graph;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    simt_node *node = graph->first;

    if (--graph->uses > 0) {
        return cudaSuccess;
    }
    while (node != NULL) {
        simt_node *next = node->next;
        for (size_t i = 0; i < MOST_ARGUMENTS; i++) {
            free(node->arguments[i]);
        }
        free(node);
        node = next;
    }
    free(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable)
{
    return cudaGraphDestroy(executable);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t)
{
    for (simt_node *node = executable->first; node != NULL; node = node->next) {
        simt_run_grid(node->kernel, node->config.gridDim, node->config.blockDim,
                      node->config.dynamicSmemBytes, node->is_dependent, node->arguments);
    }
    return cudaSuccess;
}

/* ------------------------------------------------------------------------------ streams */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    *stream = (simt_stream *)calloc(1, sizeof **stream);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    free(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    return last_error;
}

/* ------------------------------------------------------------------------------ events */

struct simt_event {
    timespec when;
};

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    *event = (simt_event *)calloc(1, sizeof **event);
    return result(*event == NULL ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t)
{
    clock_gettime(CLOCK_MONOTONIC, &event->when);
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t)
{
    return last_error;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    *ms = (float)(1e3 * (double)(to->when.tv_sec - from->when.tv_sec) +
                  1e-6 * (double)(to->when.tv_nsec - from->when.tv_nsec));
    return cudaSuccess;
}

/* ------------------------------------------------------------------------------ launches */

static int is_good_configuration(const cudaLaunchConfig_t *c)
{
    const size_t threads = (size_t)c->blockDim.x * c->blockDim.y * c->blockDim.z;

    return c->gridDim.x > 0 && c->gridDim.y > 0 && c->gridDim.z > 0 && threads > 0 &&
           c->gridDim.x <= 0x7fffffffu && c->gridDim.y <= 65535 && c->gridDim.z <= 65535 &&
           c->blockDim.x <= 1024 && c->blockDim.y <= 1024 && c->blockDim.z <= 64 && threads <= 1024;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *function,
                                void **arguments)
{
    const simt_kernel *kernel = simt_kernel_of(function);
    int is_dependent = 0;

    if (kernel == NULL) {
        simt_fail("a kernel is launched that is not known. In a file for `make cpu`: launch it by "
                  "<<<...>>> or cudaLaunchKernelEx(&config, its_name, ...), or with (const void "
                  "*)its_name where it is launched. In tests/simt: a line SIMT_KERNEL(name) in the "
                  "file that includes it");
    }
    for (unsigned i = 0; i < config->numAttrs; i++) {
        is_dependent |= config->attrs[i].id == cudaLaunchAttributeProgrammaticStreamSerialization &&
                        config->attrs[i].val.programmaticStreamSerializationAllowed;
    }
    if (!is_good_configuration(config)) {
        return result(cudaErrorInvalidConfiguration);
    }
    if (config->stream != NULL && config->stream->captured != NULL) {
        graph_add(config->stream->captured, kernel, config, is_dependent, arguments);
        return cudaSuccess;
    }
    simt_run_grid(kernel, config->gridDim, config->blockDim, config->dynamicSmemBytes, is_dependent,
                  arguments);
    return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 cta, void **arguments,
                             size_t dynamic_bytes, cudaStream_t stream)
{
    cudaLaunchConfig_t config = {};

    config.gridDim = grid;
    config.blockDim = cta;
    config.dynamicSmemBytes = dynamic_bytes;
    config.stream = stream;
    return cudaLaunchKernelExC(&config, kernel, arguments);
}
