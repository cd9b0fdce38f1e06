/*
 * tests/gpu/test_fused_errors.c - what the fused launchers refuse: cudaErrorInvalidValue, nothing
 * launched, nothing written, no error left behind; and that there is nothing to do for sizes of 0.
 * Each call is captured into a graph, which shows whether anything was launched.
 */
#include "fused.h"

/* A good call that asks for everything, for a test to spoil. */
typedef struct good_call {
    fused_case c;
    fused_operands o;
    fused_device d;
} good_call;

static good_call good_call_new(const fused_unit *u, int per_token)
{
    const size_t unit = 16 / host_dtype_bytes(u->dtype);
    good_call g;

    g.c = fused_case_of(u, FP4_LAYOUT_128X4, 3, 96);
    g.c.x_stride += unit;
    g.c.residual_stride += unit;
    g.c.has_y = u->op != FUSED_token;
    g.c.has_sf_linear = 1;
    g.c.per_token = per_token;
    g.c.scale = per_token ? 1.0f / 2688.0f : 448.0f;
    g.o = fused_operands_new(&g.c);
    g.d = fused_device_new(&g.c, &g.o);
    fused_poison(&g.d, 0x7f);
    return g;
}

/* Nothing has been written by what was refused. */
static void good_call_free(good_call g)
{
    gpu_finish(fused_text(&g.c));
    for (int i = FUSED_RESIDUAL; i < FUSED_GLOBAL; i++) {
        if (g.d.b[i].memory != NULL) {
            uint8_t *bytes = (uint8_t *)gpu_copy_of(g.d.b[i]);
            for (size_t at = 0; at < g.d.b[i].size; at++) {
                CHECK_EQ(bytes[at], i == FUSED_RESIDUAL ? 0 : 0x7f,
                         "byte %zu of %s was written: %s", at, fused_buffer_name[i],
                         fused_text(&g.c));
            }
            free(bytes);
        }
    }
    fused_device_free(g.d);
    fused_operands_free(g.o);
}

/* Calls the launcher; answers how many kernels it launched. */
static size_t launched(const good_call *g, const launch_fused_args *args, cudaError_t *error)
{
    const cudaStream_t stream = gpu_capture_begin();

    *error = g->c.unit->launch(args, 0, stream);
    return gpu_capture_end(stream);
}

static void expect_refused(const good_call *g, const launch_fused_args *args, const char *what)
{
    cudaError_t error;
    const size_t nodes = launched(g, args, &error);

    CHECK_EQ(error, cudaErrorInvalidValue, "%s: %s", what, fused_text(&g->c));
    CHECK_EQ(nodes, 0, "%s: launched: %s", what, fused_text(&g->c));
    CHECK_EQ(g->c.unit->launch(args, 0, 0), cudaErrorInvalidValue, "%s: not captured: %s", what,
             fused_text(&g->c));
    CHECK_EQ(cudaGetLastError(), cudaSuccess, "%s: an error is left: %s", what, fused_text(&g->c));
}

static void expect_accepted(const good_call *g, const launch_fused_args *args, const char *what)
{
    cudaError_t error;
    const size_t nodes = launched(g, args, &error);

    CHECK_EQ(error, cudaSuccess, "%s: %s", what, fused_text(&g->c));
    CHECK_EQ(nodes, 1, "%s: kernels launched: %s", what, fused_text(&g->c));
}

#define REFUSED(what, change) \
    do { \
        launch_fused_args args = g->d.args; \
        change; \
        expect_refused(g, &args, what); \
    } while (0)

#define ACCEPTED(what, change) \
    do { \
        launch_fused_args args = g->d.args; \
        change; \
        expect_accepted(g, &args, what); \
    } while (0)

static void refuse_null_pointers(const good_call *g)
{
    const fused_unit *u = g->c.unit;

    ACCEPTED("as it is", (void)args);
    ACCEPTED("without what is optional", args.y = NULL; args.sf_linear = NULL);
    REFUSED("no x", args.x = NULL);
    REFUSED("no q", args.q = NULL);
    REFUSED("no sf", args.sf = NULL);
    if (fused_is_norm(u)) {
        REFUSED("no weight", args.weight = NULL);
    }
    if (u->op == FUSED_layernorm) {
        REFUSED("no bias", args.bias = NULL);
    }
    if (u->op == FUSED_add_rmsnorm) {
        REFUSED("no residual", args.residual = NULL);
    }
    if (u->op == FUSED_token) {
        REFUSED("no token_dec", args.token_dec = NULL);
    }
    if (!fp4_format_is_nvfp4(u->format)) {
        REFUSED("a scale a token in a format without", args.token_dec = (float *)(void *)args.sf);
    }
}

static void refuse_shapes(const good_call *g)
{
    static const int unknown[] = {3, -1, 1 << 16};
    const fused_unit *u = g->c.unit;
    const size_t size = host_dtype_bytes(u->dtype), block = fused_block(&g->c);

    REFUSED("columns that are not whole blocks", args.cols -= block / 2);
    REFUSED("one column less", args.cols--);
    REFUSED("more rows than a grid has", args.rows = (size_t)1 << 31);
    REFUSED("more rows than can be counted", args.rows = (size_t)1 << 32);
    REFUSED("the most columns", args.cols = args.residual_stride = (size_t)-1;
            args.x_stride = (size_t)-1);
    REFUSED("2^32 columns", args.cols = args.residual_stride = (size_t)1 << 32;
            args.x_stride = (size_t)1 << 33);
    REFUSED("sizes that overflow", args.cols = args.residual_stride = (size_t)1 << 62;
            args.x_stride = (size_t)1 << 63);
    REFUSED("rows that overlap", args.x_stride = fused_x_cols(&g->c) - 16);
    REFUSED("a stride of half a vector", args.x_stride += 8 / size);
    REFUSED("a stride one element off", args.x_stride += 1);
    REFUSED("a stride that overflows", args.x_stride = (size_t)1 << 63);
    REFUSED("a stride that overflows in the last row", args.x_stride = (size_t)-1 / size / 16 * 16);
    if (u->op == FUSED_add_rmsnorm) {
        REFUSED("rows of residual that overlap", args.residual_stride = args.cols - 16);
        REFUSED("half a vector off in residual", args.residual_stride += 8 / size);
        REFUSED("a stride of residual that overflows", args.residual_stride = (size_t)1 << 63);
        REFUSED("one that overflows in the last row",
                args.residual_stride = (size_t)-1 / size / 16 * 16);
    }
    /* UBSan stops at an enumerator that has bits beyond those of all others */
    for (size_t i = 0; i < (gpu_is_reduced() ? 1 : sizeof unknown / sizeof unknown[0]); i++) {
        REFUSED("an unknown layout", args.layout = unknown[i]);
    }
}

/* A pointer `off` bytes on. */
static void *moved(const void *p, size_t off)
{
    return (uint8_t *)(uintptr_t)p + off;
}

static void refuse_misaligned(const good_call *g)
{
    const fused_unit *u = g->c.unit;

    for (size_t off = 1; off < 16; off *= 2) {
        REFUSED("x", args.x = moved(args.x, off));
        if (g->c.has_y) {
            REFUSED("y", args.y = moved(args.y, off));
        }
        if (fused_is_norm(u)) {
            REFUSED("weight", args.weight = moved(args.weight, off));
        }
        if (u->op == FUSED_layernorm) {
            REFUSED("bias", args.bias = moved(args.bias, off));
        }
        if (u->op == FUSED_add_rmsnorm) {
            REFUSED("residual", args.residual = moved(args.residual, off));
        }
        if (off < fused_align(&g->c, FUSED_Q)) {
            REFUSED("q", args.q += off);
        }
        if (off < 4 && fp4_format_is_nvfp4(u->format)) {
            REFUSED("a scale on the device", args.global_device = moved(args.x, off));
        }
        if (off < 4) {
            REFUSED("sf", args.sf += off);
            REFUSED("sf of 8x4", args.sf += off; args.layout = FP4_LAYOUT_8X4);
            ACCEPTED("sf, linear", args.sf += off; args.layout = FP4_LAYOUT_LINEAR);
            ACCEPTED("sf_linear", args.sf_linear += off);
        }
    }
}

/* What cannot be multiplied with, or whose reciprocal cannot. In encode sense, in decode sense, and
   as the base of one a token. */
static void refuse_scales(const good_call *g)
{
    static const float bad[] = {0.0f, -0.0f, -1.0f, INFINITY, -INFINITY, NAN, -0x1p-149f};
    static const float good[] = {0x1.000008p-128f, 0x1p-126f, 1.0f, 0x1p127f};
    const fused_unit *u = g->c.unit;
    const int has_global = fp4_format_is_nvfp4(u->format);

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (has_global) {
            REFUSED("global", args.global = bad[i]);
            REFUSED("global, decode sense", args.global = bad[i]; args.global_is_dec = 1);
        } else {
            ACCEPTED("unused global", args.global = bad[i]);
        }
        if (fused_is_norm(u)) {
            REFUSED("eps", args.eps = bad[i]);
        } else {
            ACCEPTED("unused eps", args.eps = bad[i]);
        }
        ACCEPTED("global that is not looked at", args.global = bad[i];
                 args.global_device = (const float *)(const void *)args.x);
    }
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ACCEPTED("global", args.global = good[i]);
        ACCEPTED("global, decode sense", args.global = good[i]; args.global_is_dec = 1);
        ACCEPTED("eps", args.eps = good[i]);
    }
    ACCEPTED("eps", args.eps = 0x1p-149f);
    ACCEPTED("eps", args.eps = FP4_F32_MAX);
    if (has_global) {
        REFUSED("global without a reciprocal", args.global = 0x1p-128f);
    }
    if (has_global && !g->c.per_token) {
        REFUSED("global_dec too large", args.global = FP4_F32_MAX; args.global_is_dec = 1);
        ACCEPTED("global_dec", args.global = 0x1p-149f; args.global_is_dec = 1);
    }
}

/* The host twin draws the same lines. */
static void agree_with_twin(const good_call *g)
{
    static const float scales[] = {0.0f,      -1.0f,           INFINITY,         NAN,
                                   0x1p-149f, 0x1p-128f,       0x1.000008p-128f, 1.0f,
                                   0x1p126f,  0x1.000002p126f, 0x1p127f,         FP4_F32_MAX};

    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        fused_case c = g->c;
        uint8_t q[3 * 96], sf[3 * 6], y[3 * 96 * 4], residual[3 * 112 * 4] = {0};
        float row_dec[3];
        fp4_tensor t =
            fp4_tensor_view(c.unit->format, FP4_LAYOUT_LINEAR, 3, 96, q, sizeof q, sf, sizeof sf);
        c.scale = scales[i];
        t.row_dec = c.per_token ? row_dec : NULL;
        t.row_dec_bytes = sizeof row_dec;
        if (c.per_token && scales[i] == 0.0f) {
            continue; /* the twin's word for none */
        }
        if (fused_twin(&c, &g->o, residual, y, &t) == FP4_OK) {
            ACCEPTED("a scale that the twin takes", args.global = scales[i]);
        } else {
            REFUSED("a scale that the twin refuses", args.global = scales[i]);
        }
    }
}

static void run_refusals(fused_op first, fused_op last)
{
    for (size_t i = 0; i < FUSED_UNITS; i++) {
        const fused_unit *u = &fused_units[i];
        const int most = fp4_format_is_nvfp4(u->format) ? 1 : 0;
        for (int per_token = u->op == FUSED_token; per_token <= most; per_token++) {
            if (u->op >= first && u->op <= last) {
                const good_call g = good_call_new(u, per_token);
                refuse_null_pointers(&g);
                refuse_shapes(&g);
                refuse_misaligned(&g);
                refuse_scales(&g);
                agree_with_twin(&g);
                good_call_free(g);
            }
        }
    }
}

GPU_TEST(launch_norm, refusals)
{
    run_refusals(FUSED_rmsnorm, FUSED_layernorm);
}

GPU_TEST(launch_gated, refusals)
{
    run_refusals(FUSED_silu, FUSED_gelu_tanh);
    run_refusals(FUSED_swiglu_oai, FUSED_swiglu_oai);
}

GPU_TEST(launch_token, refusals)
{
    run_refusals(FUSED_token, FUSED_token);
}

/* token_dec is the only output whose alignment no other test of a token's scale spoils. */
GPU_TEST(launch_token, misaligned_token_dec)
{
    for (size_t i = 0; i < FUSED_UNITS; i++) {
        if (fused_units[i].op == FUSED_token) {
            const good_call of = good_call_new(&fused_units[i], 1), *g = &of;
            REFUSED("token_dec", args.token_dec = (float *)moved(args.token_dec, 1));
            REFUSED("token_dec", args.token_dec = (float *)moved(args.token_dec, 2));
            good_call_free(of);
        }
    }
}

/* Sizes that leave nothing to do: success, whatever else is given. */
static void run_nothing(fused_op first, fused_op last)
{
    launch_fused_args none;
    float nothing = 0.0f; /* never written */

    memset(&none, 0, sizeof none);
    for (size_t i = 0; i < FUSED_UNITS; i++) {
        const fused_unit *u = &fused_units[i];
        for (int zero = 0; zero < 3 && u->op >= first && u->op <= last; zero++) {
            none.rows = zero == 1;
            none.cols = zero == 0 ? 32 : 0;
            none.x_stride = none.residual_stride = 64;
            none.token_dec = fp4_format_is_nvfp4(u->format) && zero == 2 ? &nothing : NULL;
            CHECK_EQ(u->launch(&none, zero % 2, 0), cudaSuccess, "%s, zero %d", u->name, zero);
        }
    }
    CHECK_EQ(cudaPeekAtLastError(), cudaSuccess, "after launching nothing");
    gpu_finish("after launching nothing");
}

GPU_TEST(launch_norm, nothing_to_do)
{
    run_nothing(FUSED_rmsnorm, FUSED_layernorm);
}

GPU_TEST(launch_gated, nothing_to_do)
{
    run_nothing(FUSED_silu, FUSED_gelu_tanh);
    run_nothing(FUSED_swiglu_oai, FUSED_swiglu_oai);
}

GPU_TEST(launch_token, nothing_to_do)
{
    run_nothing(FUSED_token, FUSED_token);
}
