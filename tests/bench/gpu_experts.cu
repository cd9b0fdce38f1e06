/*
 * gpu_experts.cu - examples/10_experts.cu as the benchmark launches it; INPUT, FORMAT, ACTIVATION
 * by -D: rows of one expert, of 64 with as many each, of 64 of which one has half of the rows and a
 * third have none, the same gathered, and of 8 in matrices of their own.
 */
#define NO_MAIN
#include "../../examples/10_experts.cu"

#include "gpu_bench.h"

#include <cstdint>
#include <map>
#include <vector>

enum { ONE, EVEN, SKEWED, GATHERED, MASKED, KINDS };

static const char *const names[KINDS] = {"10_experts one", "10_experts even", "10_experts skewed",
                                         "10_experts gathered", "10_experts masked"};

static int32_t *device_copy(const std::vector<int32_t> &v)
{
    void *p = NULL;

    if (cudaMalloc(&p, v.size() * sizeof v[0]) != cudaSuccess ||
        cudaMemcpy(p, v.data(), v.size() * sizeof v[0], cudaMemcpyHostToDevice) != cudaSuccess) {
        return NULL;
    }
    return (int32_t *)p;
}

/* Rows of the experts, whole tiles of 128. */
static std::vector<size_t> rows_of(int kind, size_t groups, size_t rows)
{
    std::vector<size_t> n(groups, rows / groups);

    if (kind == SKEWED || kind == GATHERED) {
        size_t left = rows / 128 / 2; /* tiles of those that are neither the one nor without */
        for (size_t g = 0; g < groups; g++) {
            n[g] = g == 5 ? rows - 128 * left : 0;
        }
        for (size_t g = 0; left > 0; g = (g + 1) % groups) {
            if (g != 5 && g % 3 != 1) {
                n[g] += 128;
                left--;
            }
        }
    }
    return n;
}

/* The arrays of a kind and so many rows, made when they are first wanted. */
static const int32_t *const *arrays_of(int kind, size_t groups, size_t rows)
{
    static std::map<size_t, int32_t *[2]> all;
    int32_t **const made = all[rows * KINDS + (size_t)kind];
    std::vector<int32_t> offsets, sources;
    size_t at = 0;

    if (made[0] == NULL) {
        for (size_t n : rows_of(kind, groups, rows)) {
            offsets.push_back((int32_t)(kind == MASKED ? n : at));
            at += n;
        }
        offsets.push_back((int32_t)at);
        for (size_t r = 0; r < rows; r++) { /* an odd factor: a permutation of 2^n rows */
            sources.push_back((int32_t)(r * 40503 % rows));
        }
        made[0] = device_copy(offsets);
        made[1] = device_copy(sources);
    }
    return made;
}

template <int KIND> static cudaError_t bench_experts(const bench_buffers *b, cudaStream_t stream)
{
    const size_t groups = KIND == ONE ? 1 : KIND == MASKED ? 8 : 64;
    const int32_t *const *arrays = arrays_of(KIND, groups, b->rows);
    experts_args a = {};

    if (arrays[0] == NULL || b->rows % (128 * groups) != 0) {
        return cudaErrorInvalidValue;
    }
    a.q = b->q;
    a.sf = b->sf;
    a.x = b->x;
    a.groups = groups;
    a.rows = KIND == MASKED ? b->rows / groups : b->rows;
    a.cols = a.q_cols = b->cols;
    a.x_stride = b->cols * (GATED ? 2 : 1);
    a.x_group_stride = a.rows * a.x_stride;
    a.x_rows = b->rows;
    a.counts = KIND == MASKED ? arrays[0] : NULL;
    a.offsets = KIND == MASKED ? NULL : arrays[0];
    a.sources = KIND == GATHERED ? arrays[1] : NULL;
    a.sf_rows = b->rows;
    a.global_device = b->global_enc;
    return experts_quantize(&a, 0, stream);
}

template <int KIND> static bench_kernel bench_entry(void)
{
    bench_kernel k = {};

    k.name = names[KIND];
    k.input = BENCH_TEXT(INPUT);
    k.format = GATED ? BENCH_TEXT(FORMAT) " " BENCH_TEXT(ACTIVATION) : BENCH_TEXT(FORMAT);
    if (GATED) {
        k.traffic =
            bench_fused(BENCH_TEXT(INPUT), BENCH_TEXT(FORMAT), FP4_LAYOUT_128X4, TRAFFIC_GATED);
    } else {
        k.traffic = {TRAFFIC_TO_CODES, ELEMENT,     CODES / 2, BLOCK, BLOCK == 16, 0,
                     FP4_LAYOUT_128X4, TRAFFIC_ONE, 0};
    }
    k.only_large = 1;
    k.launch = bench_experts<KIND>;
    return k;
}

BENCH_KERNELS(bench_entry<ONE>(), bench_entry<EVEN>(), bench_entry<SKEWED>(),
              bench_entry<GATHERED>(), bench_entry<MASKED>());
