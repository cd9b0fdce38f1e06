/*
 * tests/gpu/test_experts_errors.c - what the launcher of 10_experts refuses: nothing is launched,
 * nothing is written, and the host twin draws the same lines.
 */
#include "experts.h"

/* A good call, for a test to spoil. */
typedef struct good_call {
    experts_case c;
    experts_operands o;
    experts_device d;
} good_call;

static good_call good_call_new(const experts_unit *unit, int is_packed)
{
    uint64_t state = 1100;
    good_call g;

    g.c = experts_case_of(unit, is_packed, 3, 20, 96);
    g.c.gap = 16;
    g.c.has_sources = is_packed;
    g.o = experts_operands_new(&g.c, 0, HOST_NARROW, &state);
    g.d = experts_device_new(&g.c, &g.o);
    experts_poison(&g.d, 0x7f);
    return g;
}

static void expect_poison(gpu_buffer b, const char *text)
{
    uint8_t *poison = (uint8_t *)host_zeros(b.size);

    memset(poison, 0x7f, b.size);
    elements_expect_input(b, poison, text);
    free(poison);
}

/* Nothing has been written by what was refused. */
static void good_call_free(good_call g)
{
    static const uint32_t before = EXPERTS_ERROR_BEFORE;

    gpu_finish(experts_text(&g.c));
    expect_poison(g.d.q, experts_text(&g.c));
    expect_poison(g.d.sf, experts_text(&g.c));
    expect_poison(g.d.sf_starts, experts_text(&g.c));
    elements_expect_input(g.d.errors, &before, experts_text(&g.c));
    experts_device_free(g.d);
    experts_operands_free(g.o);
}

static size_t launched(const good_call *g, const launch_experts_args *args, cudaError_t *error)
{
    const cudaStream_t stream = gpu_capture_begin();

    *error = g->c.unit->launch(args, 0, stream);
    return gpu_capture_end(stream);
}

static void expect_refused(const good_call *g, const launch_experts_args *args, const char *what)
{
    cudaError_t error;
    const size_t nodes = launched(g, args, &error);

    CHECK_EQ(error, cudaErrorInvalidValue, "%s: %s", what, experts_text(&g->c));
    CHECK_EQ(nodes, 0, "%s: launched: %s", what, experts_text(&g->c));
    CHECK_EQ(g->c.unit->launch(args, 0, 0), cudaErrorInvalidValue, "%s: not captured: %s", what,
             experts_text(&g->c));
    CHECK_EQ(cudaGetLastError(), cudaSuccess, "%s: an error is left: %s", what,
             experts_text(&g->c));
}

static void expect_accepted(const good_call *g, const launch_experts_args *args, const char *what)
{
    cudaError_t error;
    const size_t nodes = launched(g, args, &error);

    CHECK_EQ(error, cudaSuccess, "%s: %s", what, experts_text(&g->c));
    CHECK_EQ(nodes, 1, "%s: kernels launched: %s", what, experts_text(&g->c));
}

#define REFUSED(what, change) \
    do { \
        launch_experts_args args = g.d.args; \
        change; \
        expect_refused(&g, &args, what); \
    } while (0)

#define ACCEPTED(what, change) \
    do { \
        launch_experts_args args = g.d.args; \
        change; \
        expect_accepted(&g, &args, what); \
    } while (0)

#define FOR_EACH_CALL(body) \
    for (size_t i = 0; i < 2 * EXPERTS_UNITS; i++) { \
        const good_call g = good_call_new(&experts_units[i / 2], (int)(i % 2)); \
        body; \
        good_call_free(g); \
    }

static void refuse_null_pointers(good_call g)
{
    ACCEPTED("as it is", (void)args);
    REFUSED("no x", args.x = NULL);
    REFUSED("no q", args.q = NULL);
    REFUSED("no sf", args.sf = NULL);
    REFUSED("neither counts nor offsets", args.counts = args.offsets = NULL);
    REFUSED("both counts and offsets",
            args.counts = args.offsets = args.counts != NULL ? args.counts : args.offsets);
    ACCEPTED("no errors", args.errors = NULL);
    ACCEPTED("a number for a scale", args.global_device = NULL; args.global = 1.0f);
    if (g.c.is_packed) {
        ACCEPTED("no sources", args.sources = NULL);
        REFUSED("no x, of no rows", args.x = NULL; args.x_rows = 0);
        ACCEPTED("no starts", args.sf_starts = NULL);
    } else {
        REFUSED("sources of masked rows", args.sources = args.counts);
        REFUSED("starts of masked rows", args.sf_starts = (int32_t *)(void *)g.d.sf_starts.bytes);
    }
}

GPU_TEST(experts_errors, null_pointers)
{
    FOR_EACH_CALL(refuse_null_pointers(g))
}

static void refuse_shapes(good_call g)
{
    const size_t columns = g.d.args.x_stride - 16;

    REFUSED("no columns", args.cols = 0);
    REFUSED("columns that are not whole blocks", args.cols = 88);
    REFUSED("columns of q that are not whole blocks", args.q_cols = 104);
    REFUSED("fewer columns of q", args.q_cols = 64);
    ACCEPTED("more columns of q", args.q_cols = 128);
    REFUSED("columns without end", args.cols = args.q_cols = args.x_stride = (size_t)1 << 62);
    REFUSED("columns of q without end", args.q_cols = (size_t)1 << 62);
    REFUSED("more rows than numbers have", args.rows = args.x_rows = (size_t)1 << 31);
    REFUSED("rows without end", args.rows = args.x_rows = (size_t)-1);
    REFUSED("too many groups", args.groups = 513);
    REFUSED("groups without end", args.groups = (size_t)-1);
    REFUSED("rows that overlap", args.x_stride = columns - 16);
    ACCEPTED("no gap", args.x_stride = columns);
    REFUSED("a stride of 4 GiB", args.x_stride = (size_t)1 << 32);
    REFUSED("a stride that overflows", args.x_stride = (size_t)1 << 63);
    REFUSED("a step", args.global_step = 2);
    ACCEPTED("one scale", args.global_step = 0);
    if (g.c.is_packed) {
        REFUSED("half a tile of scales", args.sf_rows = 64);
        REFUSED("scale rows without end", args.sf_rows = (size_t)1 << 40);
        ACCEPTED("no rows of scales", args.sf_rows = 0);
        REFUSED("rows that x lacks", args.x_rows = args.rows - 1; args.sources = NULL);
        ACCEPTED("rows that x lacks, with sources", args.x_rows = args.rows - 1);
        ACCEPTED("no rows of x", args.x_rows = 0);
        ACCEPTED("no experts", args.groups = 0);
        ACCEPTED("no rows", args.rows = 0; args.x = args.q = NULL);
    } else {
        REFUSED("a group stride off 16 bytes", args.x_group_stride += 1);
        REFUSED("a group stride that overflows", args.x_group_stride = (size_t)1 << 62);
        ACCEPTED("a group stride that is not used", args.groups = 1; args.x_group_stride = 1);
    }
}

GPU_TEST(experts_errors, bad_shapes_and_strides)
{
    FOR_EACH_CALL(refuse_shapes(g))
}

static const void *off_by(const void *p, size_t bytes)
{
    return (const void *)((uintptr_t)p + bytes);
}

static void refuse_misaligned(good_call g)
{
    const size_t codes = g.c.unit->format == FP4_MXFP8 ? 16 : 8;

    for (size_t off = 1; off < 16; off += off < 4 ? 1 : 4) {
        REFUSED("x", args.x = off_by(args.x, off));
        REFUSED("sf", args.sf = (uint8_t *)(uintptr_t)off_by(args.sf, off));
        if (off % codes != 0) {
            REFUSED("q", args.q = (uint8_t *)(uintptr_t)off_by(args.q, off));
        }
        if (off % 4 != 0) {
            REFUSED("the scales",
                    args.global_device = (const float *)off_by(g.d.scales.bytes, off));
            REFUSED("errors", args.errors = (uint32_t *)(uintptr_t)off_by(args.errors, off));
        }
        if (off % 4 != 0 && g.c.is_packed) {
            REFUSED("offsets", args.offsets = (const int32_t *)off_by(args.offsets, off));
            REFUSED("sources", args.sources = (const int32_t *)off_by(args.sources, off));
            REFUSED("starts", args.sf_starts = (int32_t *)(uintptr_t)off_by(args.sf_starts, off));
        } else if (off % 4 != 0) {
            REFUSED("counts", args.counts = (const int32_t *)off_by(args.counts, off));
        }
    }
    REFUSED("a stride off 16 bytes", args.x_stride += 1);
}

GPU_TEST(experts_errors, misaligned_pointers)
{
    FOR_EACH_CALL(refuse_misaligned(g))
}

/* The host twin draws the same lines. */
static void refuse_scales(good_call g)
{
    static const float numbers[] = {0.0f,      -1.0f,     INFINITY,    NAN,      0x1p-149f,
                                    0x1p-128f, 0x1p-127f, FP4_F32_MAX, 0x1p126f, 1.0f};

    for (size_t n = 0; n < 2 * sizeof numbers / sizeof(float); n++) {
        const float number = numbers[n / 2];
        fp4_ref_experts e = experts_ref_of(&g.c, &g.o);
        fp4_status status;
        e.global_scales = &number;
        e.global_step = 0;
        e.global_is_dec = (int)(n % 2);
        e.q = (uint8_t *)host_zeros(e.q_bytes);
        e.sf = (uint8_t *)host_zeros(e.sf_bytes);
        status = fp4_ref_experts_quantize(&e);
        if (status == FP4_OK) {
            ACCEPTED("a scale", args.global_device = NULL; args.global = number;
                     args.global_is_dec = (int)(n % 2));
        } else {
            CHECK_EQ(status, FP4_BAD_SCALE, "host, %a", (double)number);
            REFUSED("a scale", args.global_device = NULL; args.global = number;
                    args.global_is_dec = (int)(n % 2));
        }
        ACCEPTED("a scale that is not looked at", args.global = number);
        free(e.q);
        free(e.sf);
    }
}

GPU_TEST(experts_errors, bad_scales){FOR_EACH_CALL(refuse_scales(g))}

/* Sizes that leave nothing to do: success, whatever else is given. */
GPU_TEST(experts_errors, nothing_to_do)
{
    launch_experts_args none;

    memset(&none, 0, sizeof none);
    for (size_t i = 0; i < EXPERTS_UNITS; i++) {
        for (int zero = 0; zero < 3; zero++) {
            none.groups = zero != 0 ? 7 : 0;
            none.rows = zero != 1 ? 7 : 0;
            none.cols = none.q_cols = zero != 2 ? 64 : 0;
            CHECK_EQ(experts_units[i].launch(&none, zero % 2, 0), cudaSuccess, "%s, zero %d",
                     experts_units[i].name, zero);
        }
    }
    CHECK_EQ(cudaPeekAtLastError(), cudaSuccess, "after launching nothing");
    gpu_finish("after launching nothing");
}
