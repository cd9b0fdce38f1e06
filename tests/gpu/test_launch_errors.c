/*
 * tests/gpu/test_launch_errors.c - what the launchers refuse: cudaErrorInvalidValue, nothing
 * launched, nothing written, no error left behind. Each call is captured into a graph, which shows
 * whether anything was launched.
 */
#include "cases.h"

/* A good call, for a test to spoil. */
typedef struct good_call {
    gpu_case c;
    case_device d;
    uint8_t *x;
} good_call;

static good_call good_call_new(size_t launcher, int columns)
{
    good_call g;
    gpu_case c = case_of((fp4_dtype)(launcher / 9), (fp4_format)(launcher / 3 % 3),
                         (fp4_layout)(launcher % 3), 8, 128);

    c.columns = columns;
    if (columns) {
        c.row_stride = 16;
    } else {
        c.batches = 2;
        c.q_cols = 160;
        c.row_stride = 144;
        c.batch_stride = 8 * 144;
    }
    g.c = c;
    g.x = (uint8_t *)host_zeros(case_x_bytes(&c));
    g.d = case_device_new(&c, g.x);
    gpu_poison(g.d.q, 0x7f);
    gpu_poison(g.d.sf, 0x7f);
    return g;
}

static void good_call_free(good_call g)
{
    case_device_free(g.d);
    free(g.x);
}

/* Calls the launcher; answers how many kernels it launched. */
static size_t launched(const gpu_case *c, const launch_args *args, cudaError_t *error)
{
    const cudaStream_t stream = gpu_capture_begin();

    *error = case_launcher(c)(args, 0, stream);
    return gpu_capture_end(stream);
}

static void expect_refused(const good_call *g, const launch_args *args, const char *what)
{
    cudaError_t error;
    const size_t nodes = launched(&g->c, args, &error);

    CHECK_EQ(error, cudaErrorInvalidValue, "%s: %s", what, case_text(&g->c));
    CHECK_EQ(nodes, 0, "%s: launched: %s", what, case_text(&g->c));
    CHECK_EQ(case_launcher(&g->c)(args, 0, 0), cudaErrorInvalidValue, "%s: not captured: %s", what,
             case_text(&g->c));
    CHECK_EQ(cudaGetLastError(), cudaSuccess, "%s: an error is left: %s", what, case_text(&g->c));
}

static void expect_accepted(const good_call *g, const launch_args *args, const char *what)
{
    cudaError_t error;
    const size_t nodes = launched(&g->c, args, &error);

    CHECK_EQ(error, cudaSuccess, "%s: %s", what, case_text(&g->c));
    CHECK_EQ(nodes, 1, "%s: kernels launched: %s", what, case_text(&g->c));
}

/* Nothing has been written by what was refused. */
static void expect_untouched(const good_call *g)
{
    gpu_finish(case_text(&g->c));
    gpu_expect_poison(g->d.q, 0x7f, "codes", case_text(&g->c));
    gpu_expect_poison(g->d.sf, 0x7f, "scales", case_text(&g->c));
}

#define REFUSED(what, change) \
    do { \
        launch_args args = g.d.args; \
        change; \
        expect_refused(&g, &args, what); \
    } while (0)

#define ACCEPTED(what, change) \
    do { \
        launch_args args = g.d.args; \
        change; \
        expect_accepted(&g, &args, what); \
    } while (0)

GPU_TEST(launch_errors, null_pointers)
{
    for (size_t i = 0; i < 72; i++) {
        const good_call g = good_call_new(i % 36, i >= 36);
        ACCEPTED("as it is", (void)args);
        REFUSED("no q", args.q = NULL);
        REFUSED("no sf", args.sf = NULL);
        REFUSED("no x", args.x = NULL);
        expect_untouched(&g);
        good_call_free(g);
    }
}

GPU_TEST(launch_errors, bad_shapes_and_strides)
{
    for (size_t i = 0; i < 36; i++) {
        const good_call g = good_call_new(i, 0);
        const size_t block = case_block(&g.c), size = host_dtype_bytes(g.c.dtype);
        REFUSED("columns that are not whole blocks", args.cols -= block / 2);
        REFUSED("one column less", args.cols--);
        REFUSED("columns of q that are not whole blocks", args.q_cols += block / 2);
        REFUSED("q narrower than x", args.q_cols = args.cols - block);
        REFUSED("columns of q alone", args.cols = 0);
        REFUSED("matrices without end", args.batches = (size_t)-1);
        REFUSED("codes that overflow", args.batches = ((size_t)1 << 60) + 1);
        if (g.c.dtype == FP4_E4M3) {
            REFUSED("an input scale a row", args.x_dec.row_step = 1);
        }
        REFUSED("rows that overlap", args.row_stride = args.cols - 16);
        REFUSED("a row stride of half a vector", args.row_stride += 8 / size);
        REFUSED("a row stride one element off", args.row_stride += 1);
        REFUSED("a matrix stride of half a vector", args.batch_stride += 8 / size);
        REFUSED("a matrix stride that overflows", args.batch_stride += ((size_t)1 << 63) / size);
        REFUSED("more rows than can be counted", args.rows = (size_t)1 << 32);
        REFUSED("rows of 4 GiB", args.row_stride = ((size_t)1 << 32) / size);
        REFUSED("sizes that overflow", args.cols = args.q_cols = args.row_stride = (size_t)1 << 63);
        expect_untouched(&g);
        good_call_free(g);
    }
    for (size_t i = 0; i < 36; i++) {
        const good_call g = good_call_new(i, 1);
        const size_t block = case_block(&g.c), size = host_dtype_bytes(g.c.dtype);
        REFUSED("columns that are not whole blocks", args.cols -= block / 2);
        REFUSED("columns that overlap", args.row_stride = args.rows - 4);
        REFUSED("a column stride that overflows", args.row_stride = (size_t)-1 / size / 4 * 4);
        REFUSED("more rows than can be counted", args.row_stride = args.rows = (size_t)1 << 32);
        if (g.c.dtype != FP4_F32) {
            REFUSED("a column stride of half a word", args.row_stride += 1);
        }
        expect_untouched(&g);
        good_call_free(g);
    }
}

GPU_TEST(launch_errors, misaligned_pointers)
{
    for (size_t i = 0; i < 72; i++) {
        const good_call g = good_call_new(i % 36, i >= 36);
        const size_t x_align = g.c.columns ? 4 : 16;
        const size_t q_align = g.c.columns || g.c.format == FP4_MXFP8 ? 16 : 8;
        for (size_t off = 1; off < x_align; off *= 2) {
            REFUSED("x", args.x = g.d.x.bytes + off);
        }
        for (size_t off = 1; off < q_align; off *= 2) {
            REFUSED("q", args.q += off);
        }
        for (size_t off = 1; g.c.layout != FP4_LAYOUT_LINEAR && off < 16; off *= 2) {
            REFUSED("sf", args.sf += off);
        }
        for (size_t off = 1; off < 4; off *= 2) {
            const float *const scale = (const float *)(const void *)(g.d.x.bytes + off);
            if (g.c.format == FP4_NVFP4) {
                REFUSED("a scale on the device", args.global.device = scale);
            } else {
                ACCEPTED("one that is not used", args.global.device = scale);
            }
            if (g.c.dtype == FP4_E4M3 && !g.c.columns) {
                REFUSED("an input scale on the device", args.x_dec.device = scale);
            }
        }
        expect_untouched(&g);
        good_call_free(g);
    }
}

/* More CTAs than a grid has, or than can be counted: sizes for which there is no memory. */
GPU_TEST(launch_errors, grids_that_are_too_large)
{
    for (size_t i = 0; i < 36; i++) {
        const good_call g = good_call_new(i, 0);
        REFUSED("more matrices than can be counted", args.batches = (size_t)1 << 36);
        REFUSED("more tiles than a grid has", args.batches = 0xffffffffu; args.batch_stride = 0);
        if (g.c.layout == FP4_LAYOUT_LINEAR) {
            REFUSED("a run of 2^45 pieces", args.batches = 1; args.rows = 0xffffff00u;
                    args.cols = args.q_cols = args.row_stride = 131072);
        }
        expect_untouched(&g);
        good_call_free(g);
    }
    for (size_t i = 0; i < 36; i++) {
        const good_call g = good_call_new(i, 1);
        REFUSED("more than 65,535 tiles next to each other", args.cols = (size_t)1 << 23);
        expect_untouched(&g);
        good_call_free(g);
    }
}

/* A host scale in encode sense: positive and finite, and so its reciprocal. In decode sense the
   same of what it is turned round to. The scale of e4m3 input: positive and finite. */
GPU_TEST(launch_errors, bad_host_scales)
{
    static const float bad[] = {0.0f, -0.0f, -1.0f, INFINITY, -INFINITY, NAN, -0x1p-149f};
    static const float good[] = {0x1.000008p-128f, 0x1p-126f, 1.0f, 0x1p127f};

    for (size_t i = 0; i < 72; i++) {
        const good_call g = good_call_new(i % 36, i >= 36);
        const int has_global = g.c.format == FP4_NVFP4, has_dec = g.c.dtype == FP4_E4M3;
        for (size_t b = 0; b < sizeof bad / sizeof bad[0]; b++) {
            if (has_global) {
                REFUSED("global_enc", args.global.value = bad[b]);
                REFUSED("global_dec", args.global.value = bad[b]; args.global.is_dec = 1);
            } else {
                ACCEPTED("unused global_enc", args.global.value = bad[b]);
            }
            if (has_dec) {
                REFUSED("x_dec", args.x_dec.value = bad[b]);
            } else {
                ACCEPTED("unused x_dec", args.x_dec.value = bad[b]);
            }
        }
        for (size_t k = 0; k < sizeof good / sizeof good[0]; k++) {
            ACCEPTED("global_enc", args.global.value = good[k]);
            ACCEPTED("global_dec", args.global.value = good[k]; args.global.is_dec = 1);
            ACCEPTED("x_dec", args.x_dec.value = good[k]);
        }
        ACCEPTED("global_enc", args.global.value = FP4_F32_MAX);
        ACCEPTED("global_dec", args.global.value = 0x1p-149f; args.global.is_dec = 1);
        ACCEPTED("x_dec", args.x_dec.value = 0x1p-149f);
        ACCEPTED("x_dec", args.x_dec.value = FP4_F32_MAX);
        if (has_global) {
            REFUSED("global_enc without a reciprocal", args.global.value = 0x1p-128f);
            REFUSED("global_dec", args.global.value = FP4_F32_MAX; args.global.is_dec = 1);
        }
        good_call_free(g);
    }
}

/* The host reference draws the same lines. */
GPU_TEST(launch_errors, host_reference_agrees_on_scales)
{
    static const float scales[] = {
        0.0f, -1.0f, INFINITY, NAN, 0x1p-149f, 0x1p-128f, 0x1.000008p-128f, 1.0f, FP4_F32_MAX};
    const good_call g = good_call_new(9 * FP4_BF16, 0);

    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        uint8_t q[64], sf[512];
        fp4_matrix m = fp4_matrix_bf16((const uint16_t *)(const void *)g.x, 1, 128, 128);
        fp4_tensor t = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_LINEAR, 1, 128, q, 64, sf, 512);
        if (fp4_ref_nvfp4_quantize(m, scales[i], &t) == FP4_OK) {
            ACCEPTED("global_enc", args.global.value = scales[i]);
        } else {
            REFUSED("global_enc", args.global.value = scales[i]);
        }
    }
    good_call_free(g);
}
