/*
 * gpu_packbits.cu - examples/14_packbits.cu as the benchmark launches it: all bytes as one segment,
 * and as segments of 1000 or so and of 100 or so.
 */
#define NO_MAIN
#include "../../examples/14_packbits.cu"

#include "gpu_bench.h"

#include <cstdint>
#include <vector>

static cudaError_t bench_flat(const bench_buffers *b, cudaStream_t stream)
{
    packbits_args a = {};

    a.out = b->q;
    a.x = (const uint8_t *)b->x;
    a.n = b->rows * b->cols;
    a.order = FP4_BITS_LITTLE;
    return packbits(&a, 0, stream);
}

/* Segments of LENGTH bytes and 8 more or less, so that their bits are as many bytes in all. */
template <int LENGTH> static cudaError_t bench_segments(const bench_buffers *b, cudaStream_t stream)
{
    static int64_t *indptr = NULL;
    static uint32_t *workspace = NULL;
    static size_t made_for = 0, segments = 0;
    segment_packbits_args a = {};

    a.n = b->rows * b->cols;
    if (made_for != a.n) {
        std::vector<int64_t> v(1, 0);
        while ((size_t)v.back() < a.n) {
            const int64_t next = v.back() + LENGTH + (v.size() % 2 ? 8 : -8);
            v.push_back(next < (int64_t)a.n ? next : (int64_t)a.n);
        }
        segments = v.size() - 1;
        cudaFree(indptr);
        cudaFree(workspace);
        workspace = NULL;
        if (cudaMalloc((void **)&indptr, v.size() * sizeof v[0]) != cudaSuccess ||
            cudaMemcpy(indptr, v.data(), v.size() * sizeof v[0], cudaMemcpyHostToDevice) !=
                cudaSuccess ||
            cudaMalloc((void **)&workspace, segment_workspace_bytes(segments)) != cudaSuccess ||
            cudaMemset(workspace, 0, segment_workspace_bytes(segments)) != cudaSuccess) {
            return cudaErrorMemoryAllocation;
        }
        made_for = a.n;
    }
    a.out = b->q;
    a.out_bytes = a.n / 8;
    a.x = (const uint8_t *)b->x;
    a.indptr = indptr;
    a.index_bytes = 8;
    a.segments = segments;
    a.order = FP4_BITS_LITTLE;
    a.workspace = workspace;
    return segment_packbits(&a, 0, stream);
}

static bench_kernel bench_entry(const char *name,
                                cudaError_t (*launch)(const bench_buffers *, cudaStream_t))
{
    bench_kernel k = {};

    k.name = name;
    k.input = "e4m3"; /* bytes, few of which are 0 */
    k.format = "bits";
    k.traffic = {TRAFFIC_EIGHTH, 1, 1, 128, 0, 0, FP4_LAYOUT_LINEAR, TRAFFIC_ONE, 0};
    k.only_large = 1;
    k.launch = launch;
    return k;
}

BENCH_KERNELS(bench_entry("14_packbits", bench_flat),
              bench_entry("14_packbits segments of 1000", bench_segments<1000>),
              bench_entry("14_packbits segments of 104", bench_segments<104>));
