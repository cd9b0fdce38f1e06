/*
 * tests/gpu/test_dequantize_errors.c - what the launchers of 06_dequantize refuse:
 * cudaErrorInvalidValue, nothing launched, nothing written, no error left behind; and that there is
 * nothing to do for sizes of 0. Each call is captured into a graph, which shows whether anything
 * was launched.
 */
#include "back.h"

/* Good calls, for a test to spoil: of a matrix, and of blocks in the same memory. */
typedef struct good_call {
    back_case b;
    back_input in;
    back_device d;
    launch_blocks_args blocks;
} good_call;

static good_call good_call_new(const back_unit *unit, fp4_layout layout)
{
    good_call g;

    g.b = back_case_of(unit, layout, 8, 128);
    g.b.c.batches = 2;
    g.b.c.row_stride = 144;
    g.b.c.batch_stride = 8 * 144;
    g.in.q = (uint8_t *)host_zeros(back_q_bytes(&g.b));
    g.in.sf = (uint8_t *)host_zeros(back_sf_bytes(&g.b));
    g.d = back_device_new(&g.b, &g.in);
    gpu_poison(g.d.y, 0x7f);
    memset(&g.blocks, 0, sizeof g.blocks);
    g.blocks.y = g.d.y.bytes;
    g.blocks.q = g.d.q.bytes;
    g.blocks.sf = g.d.sf.bytes;
    g.blocks.global = g.d.args.global;
    g.blocks.n = 48;
    g.blocks.block = 6;
    return g;
}

/* Nothing has been written by what was refused. */
static void good_call_free(good_call g)
{
    uint8_t *y;

    gpu_finish(back_text(&g.b));
    y = (uint8_t *)gpu_copy_of(g.d.y);
    for (size_t i = 0; i < g.d.y.size; i++) {
        CHECK_EQ(y[i], 0x7f, "byte %zu was written: %s", i, back_text(&g.b));
    }
    free(y);
    back_device_free(g.d);
    back_input_free(g.in);
}

/* Calls one launcher or the other; answers how many kernels it launched. */
static size_t launched(const good_call *g, const launch_back_args *args,
                       const launch_blocks_args *blocks, cudaError_t *error)
{
    const cudaStream_t stream = gpu_capture_begin();

    *error = blocks != NULL ? g->b.unit->launch_blocks(blocks, 0, stream)
                            : g->b.unit->launch(args, 0, stream);
    return gpu_capture_end(stream);
}

static void expect_refused(const good_call *g, const launch_back_args *args,
                           const launch_blocks_args *blocks, const char *what)
{
    cudaError_t error;
    const size_t nodes = launched(g, args, blocks, &error);

    CHECK_EQ(error, cudaErrorInvalidValue, "%s: %s", what, back_text(&g->b));
    CHECK_EQ(nodes, 0, "%s: launched: %s", what, back_text(&g->b));
    error = blocks != NULL ? g->b.unit->launch_blocks(blocks, 0, 0) : g->b.unit->launch(args, 0, 0);
    CHECK_EQ(error, cudaErrorInvalidValue, "%s: not captured: %s", what, back_text(&g->b));
    CHECK_EQ(cudaGetLastError(), cudaSuccess, "%s: an error is left: %s", what, back_text(&g->b));
}

static void expect_accepted(const good_call *g, const launch_back_args *args,
                            const launch_blocks_args *blocks, const char *what)
{
    cudaError_t error;
    const size_t nodes = launched(g, args, blocks, &error);

    CHECK_EQ(error, cudaSuccess, "%s: %s", what, back_text(&g->b));
    CHECK_EQ(nodes, 1, "%s: kernels launched: %s", what, back_text(&g->b));
}

#define REFUSED(what, change) \
    do { \
        launch_back_args args = g.d.args; \
        change; \
        expect_refused(&g, &args, NULL, what); \
    } while (0)

#define ACCEPTED(what, change) \
    do { \
        launch_back_args args = g.d.args; \
        change; \
        expect_accepted(&g, &args, NULL, what); \
    } while (0)

#define BLOCKS_REFUSED(what, change) \
    do { \
        launch_blocks_args args = g.blocks; \
        change; \
        expect_refused(&g, NULL, &args, "blocks: " what); \
    } while (0)

#define BLOCKS_ACCEPTED(what, change) \
    do { \
        launch_blocks_args args = g.blocks; \
        change; \
        expect_accepted(&g, NULL, &args, "blocks: " what); \
    } while (0)

#define FOR_EACH_CALL(body) \
    for (size_t i = 0; i < 3 * BACK_UNITS; i++) { \
        const good_call g = good_call_new(&back_units[i / 3], (fp4_layout)(i % 3)); \
        body; \
        good_call_free(g); \
    }

static void refuse_null_pointers(good_call g)
{
    ACCEPTED("as it is", (void)args);
    REFUSED("no y", args.y = NULL);
    REFUSED("no q", args.q = NULL);
    REFUSED("no sf", args.sf = NULL);
    BLOCKS_ACCEPTED("as they are", (void)args);
    BLOCKS_REFUSED("no y", args.y = NULL);
    BLOCKS_REFUSED("no q", args.q = NULL);
    BLOCKS_REFUSED("no sf", args.sf = NULL);
}

GPU_TEST(dequantize_errors, null_pointers)
{
    FOR_EACH_CALL(refuse_null_pointers(g))
}

static void refuse_shapes(good_call g)
{
    const size_t block = case_block(&g.b.c), size = host_dtype_bytes(g.b.unit->dtype);

    REFUSED("columns that are not whole blocks", args.cols -= block / 2);
    REFUSED("one column less", args.cols--);
    REFUSED("rows that overlap", args.row_stride = args.cols - 16);
    REFUSED("a row stride of half a vector", args.row_stride += 8 / size);
    REFUSED("a row stride one element off", args.row_stride += 1);
    REFUSED("a row stride that overflows", args.row_stride = (size_t)1 << 63);
    REFUSED("rows that overflow", args.row_stride = (size_t)1 << 62; args.rows = 3;
            args.batches = 1);
    REFUSED("a matrix stride of half a vector", args.batch_stride += 8 / size);
    REFUSED("matrices that overflow", args.batch_stride = (size_t)1 << 63);
    REFUSED("matrices in one place", args.batch_stride = 0);
    REFUSED("matrices that overlap", args.batch_stride = 7 * 144);
    REFUSED("matrices that overlap by a vector",
            args.batch_stride = 7 * 144 + args.cols - 16 / size);
    ACCEPTED("matrices without a gap", args.batch_stride = 7 * 144 + args.cols);
    REFUSED("rows in one place", args.batch_stride = 144);
    ACCEPTED("rows in turns", args.row_stride = 288; args.batch_stride = 144);
    ACCEPTED("rows in turns, without a gap", args.row_stride = 272; args.batch_stride = 144);
    REFUSED("rows in turns that overlap", args.row_stride = 256; args.batch_stride = 144);
    REFUSED("rows in turns, three a row", args.row_stride = 288; args.batch_stride = 144;
            args.batches = 3);
    REFUSED("rows that overlap their neighbours", args.row_stride = 288; args.batch_stride = 112);
    ACCEPTED("the same of a single matrix", args.batch_stride += 1; args.batches = 1);
    REFUSED("more rows than can be counted", args.rows = 0x7fffff81u);
    REFUSED("2^32 rows", args.rows = (size_t)1 << 32);
    REFUSED("2^32 columns", args.cols = args.row_stride = (size_t)1 << 32);
    REFUSED("sizes that overflow", args.cols = args.row_stride = (size_t)1 << 63);
    REFUSED("matrices without end", args.batches = (size_t)-1);
    REFUSED("more matrices than can be counted", args.batches = (size_t)1 << 36);
    REFUSED("more CTAs than a grid has", args.batches = 0x80000000u);
    REFUSED("an unknown layout", args.layout = 3);
    BLOCKS_REFUSED("none", args.block = 0);
    BLOCKS_REFUSED("an odd number of codes", args.n = 49; args.block = 7);
    BLOCKS_REFUSED("that are not whole", args.n = 50);
    BLOCKS_REFUSED("longer than all there is", args.block = 96);
    BLOCKS_REFUSED("more than a grid has", args.n = (size_t)6 << 50);
    BLOCKS_REFUSED("an unknown type of scales", args.sf_type = 3);
#if !defined(FP4_SIMT) /* UBSan stops at an enumerator that has bits beyond those of all others */
    REFUSED("an unknown association", args.association = 2);
    REFUSED("another unknown association", args.association = -1);
    REFUSED("another unknown layout", args.layout = -1);
    BLOCKS_REFUSED("an unknown association", args.association = 2);
    BLOCKS_REFUSED("another unknown type of scales", args.sf_type = -1);
#endif
}

GPU_TEST(dequantize_errors, bad_shapes_and_strides)
{
    FOR_EACH_CALL(refuse_shapes(g))
}

static void refuse_misaligned(good_call g)
{
    for (size_t off = 1; off < 16; off *= 2) {
        REFUSED("y", args.y = g.d.y.bytes + off);
        BLOCKS_REFUSED("y", args.y = g.d.y.bytes + off);
        if (off < 8) {
            REFUSED("q", args.q += off);
            BLOCKS_REFUSED("q", args.q += off);
        }
        if (g.b.c.layout != FP4_LAYOUT_LINEAR) {
            REFUSED("sf", args.sf += off);
        } else {
            ACCEPTED("linear sf", args.sf += off);
        }
        BLOCKS_ACCEPTED("bytes of scales", args.sf = g.d.sf.bytes + off);
        if (off < 4) {
            BLOCKS_REFUSED("floats", args.sf = g.d.sf.bytes + off; args.sf_type = FP4_SF_F32);
        } else {
            BLOCKS_ACCEPTED("floats", args.sf = g.d.sf.bytes + off; args.sf_type = FP4_SF_F32);
        }
    }
    for (size_t off = 1; off < 8; off++) {
        const float *global = (const float *)(const void *)(g.d.q.bytes + off);
        if (off == 4 || !back_has_global(&g.b)) {
            ACCEPTED("global", args.global.device = global);
        } else {
            REFUSED("global", args.global.device = global);
        }
        if (off == 4) {
            BLOCKS_ACCEPTED("global", args.global.device = global);
        } else {
            BLOCKS_REFUSED("global", args.global.device = global);
        }
    }
}

GPU_TEST(dequantize_errors, misaligned_pointers)
{
    FOR_EACH_CALL(refuse_misaligned(g))
}

/* A host scale: not negative, finite, and so what it is turned round to. The host reference draws
   the same lines. */
static void refuse_scales(good_call g)
{
    static const float bad[] = {-1.0f, INFINITY, -INFINITY, NAN, -0x1p-149f, -0.0f};
    static const float good[] = {0.0f, 0x1p-149f, 0x1p-128f, 1.0f, FP4_F32_MAX};
    static const float bad_enc[] = {0.0f, 0x1p-149f, 0x1p-128f};
    const int has_global = back_has_global(&g.b);
    const launch_scale device = {(const float *)(const void *)g.d.global.bytes, -1.0f, 1, 0, 0};
    uint8_t q[16] = {0}, sf[2] = {0}, y[128];

    for (size_t k = 0; k < sizeof bad / sizeof(float); k++) {
        fp4_tensor t = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_LINEAR, 1, 32, q, sizeof q, sf, 2);
        t.global_dec = bad[k];
        CHECK_EQ(fp4_ref_dequantize_to(&t, FP4_CODE_FIRST, FP4_F32, y, sizeof y, 32), FP4_BAD_SCALE,
                 "host, %a", (double)bad[k]);
        CHECK_EQ(fp4_ref_dequantize_blocks(q, 32, 16, sf, FP4_SF_E4M3, bad[k], FP4_CODE_FIRST,
                                           FP4_F32, y),
                 FP4_BAD_SCALE, "host, blocks, %a", (double)bad[k]);
        if (has_global) {
            REFUSED("global_dec", args.global.value = bad[k]);
            REFUSED("global_enc", args.global.value = bad[k]; args.global.is_dec = 0);
        } else {
            ACCEPTED("unused global_dec", args.global.value = bad[k]);
        }
        BLOCKS_REFUSED("global_dec", args.global.value = bad[k]);
        BLOCKS_REFUSED("global_enc", args.global.value = bad[k]; args.global.is_dec = 0);
    }
    for (size_t k = 0; k < sizeof good / sizeof(float); k++) {
        fp4_tensor t = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_LINEAR, 1, 32, q, sizeof q, sf, 2);
        t.global_dec = good[k];
        CHECK_EQ(fp4_ref_dequantize_to(&t, FP4_CODE_FIRST, FP4_F32, y, sizeof y, 32), FP4_OK,
                 "host, %a", (double)good[k]);
        ACCEPTED("global_dec", args.global.value = good[k]);
        BLOCKS_ACCEPTED("global_dec", args.global.value = good[k]);
    }
    for (size_t k = 0; k < sizeof bad_enc / sizeof(float); k++) {
        if (has_global) {
            REFUSED("global_enc", args.global.value = bad_enc[k]; args.global.is_dec = 0);
        }
        BLOCKS_REFUSED("global_enc", args.global.value = bad_enc[k]; args.global.is_dec = 0);
    }
    ACCEPTED("global_enc", args.global.value = 0x1.000008p-128f; args.global.is_dec = 0);
    ACCEPTED("global_enc", args.global.value = FP4_F32_MAX; args.global.is_dec = 0);
    BLOCKS_ACCEPTED("global_enc", args.global.value = 0x1.000008p-128f; args.global.is_dec = 0);
    ACCEPTED("a scale that is not looked at", args.global = device);
    BLOCKS_ACCEPTED("a scale that is not looked at", args.global = device);
}

GPU_TEST(dequantize_errors, bad_host_scales){FOR_EACH_CALL(refuse_scales(g))}

/* Sizes that leave nothing to do: success, whatever else is given. */
GPU_TEST(dequantize_errors, nothing_to_do)
{
    launch_back_args none;
    launch_blocks_args no_blocks;

    memset(&none, 0, sizeof none);
    memset(&no_blocks, 0, sizeof no_blocks);
    for (size_t i = 0; i < BACK_UNITS; i++) {
        for (int zero = 0; zero < 3; zero++) {
            none.batches = zero != 0;
            none.rows = zero != 1;
            none.cols = none.row_stride = zero == 2 ? 0 : 32;
            no_blocks.block = (size_t)zero;
            CHECK_EQ(back_units[i].launch(&none, zero % 2, 0), cudaSuccess, "%s, zero %d",
                     back_units[i].name, zero);
            CHECK_EQ(back_units[i].launch_blocks(&no_blocks, zero % 2, 0), cudaSuccess,
                     "no blocks, %s, length %d", back_units[i].name, zero);
        }
    }
    CHECK_EQ(cudaPeekAtLastError(), cudaSuccess, "after launching nothing");
    gpu_finish("after launching nothing");
}
