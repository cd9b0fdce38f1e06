/*
 * tests/gpu/test_fake_errors.c - what the launcher of 07_fake_quant refuses: cudaErrorInvalidValue,
 * nothing launched, nothing written, no error left behind; and that there is nothing to do for
 * sizes of 0. Each call is captured into a graph, which shows whether anything was launched.
 */
#include "fake.h"

/* A good call that asks for everything, for a test to spoil. */
typedef struct good_call {
    fake_case c;
    fake_operands o;
    fake_device d;
} good_call;

static good_call good_call_new(const fake_unit *unit, int is_static, size_t cols, size_t block)
{
    good_call g;

    g.c = fake_case_of(unit, 8, cols);
    g.c.is_static = is_static;
    g.c.block = block;
    g.c.wants_clipped = 1;
    if (fake_is_pieces(&g.c)) {
        g.c.x_stride += 16;
        g.c.y_stride += 32;
    }
    g.o.x = (uint8_t *)host_zeros(fake_x_bytes(&g.c));
    g.o.amax = (float *)host_zeros(8 * cols * sizeof(float));
    g.d = fake_device_new(&g.c, &g.o);
    gpu_poison(g.d.y, 0x7f);
    gpu_poison(g.d.clipped, 0x7f);
    return g;
}

static void good_call_free(good_call g)
{
    gpu_finish(fake_text(&g.c));
    gpu_expect_poison(g.d.y, 0x7f, "y", fake_text(&g.c));
    gpu_expect_poison(g.d.clipped, 0x7f, "clipped", fake_text(&g.c));
    fake_device_free(g.d);
    fake_operands_free(g.o);
}

/* Calls the launcher; answers how many kernels it launched. */
static size_t launched(const good_call *g, const launch_fake_args *args, cudaError_t *error)
{
    const cudaStream_t stream = gpu_capture_begin();

    *error = g->c.unit->launch(args, 0, stream);
    return gpu_capture_end(stream);
}

static void expect_refused(const good_call *g, const launch_fake_args *args, const char *what)
{
    cudaError_t error;
    const size_t nodes = launched(g, args, &error);

    CHECK_EQ(error, cudaErrorInvalidValue, "%s: %s", what, fake_text(&g->c));
    CHECK_EQ(nodes, 0, "%s: launched: %s", what, fake_text(&g->c));
    CHECK_EQ(g->c.unit->launch(args, 0, 0), cudaErrorInvalidValue, "%s: not captured: %s", what,
             fake_text(&g->c));
    CHECK_EQ(cudaGetLastError(), cudaSuccess, "%s: an error is left: %s", what, fake_text(&g->c));
}

static void expect_accepted(const good_call *g, const launch_fake_args *args, const char *what)
{
    cudaError_t error;
    const size_t nodes = launched(g, args, &error);

    CHECK_EQ(error, cudaSuccess, "%s: %s", what, fake_text(&g->c));
    CHECK_EQ(nodes, 1, "%s: kernels launched: %s", what, fake_text(&g->c));
}

#define REFUSED(what, change) \
    do { \
        launch_fake_args args = g->d.args; \
        change; \
        expect_refused(g, &args, what); \
    } while (0)

#define ACCEPTED(what, change) \
    do { \
        launch_fake_args args = g->d.args; \
        change; \
        expect_accepted(g, &args, what); \
    } while (0)

static void refuse_shapes(const good_call *g)
{
    const size_t x = host_dtype_bytes(g->c.unit->input), y = host_dtype_bytes(g->c.unit->output);
    const size_t top = (size_t)1 << 63, block = fake_block(&g->c);

    ACCEPTED("as it is", (void)args);
    ACCEPTED("without what is optional", args.clipped = NULL);
    REFUSED("no x", args.x = NULL);
    REFUSED("no y", args.y = NULL);
    REFUSED("rows of x that overlap", args.x_stride = args.cols - 16);
    REFUSED("rows of y that overlap", args.y_stride = args.cols - 16);
    REFUSED("a stride of x that overflows", args.x_stride = top);
    REFUSED("a stride of y that overflows", args.y_stride = top);
    REFUSED("rows that overflow", args.rows = top);
    REFUSED("more columns than can be counted",
            args.cols = args.x_stride = args.y_stride = (size_t)1 << 31 << 10);
    ACCEPTED("a row of more than 2^31 elements",
             args.cols = args.x_stride = args.y_stride =
                 ((size_t)3 << 30) + (fake_is_pieces(&g->c) ? 0 : 6));
    REFUSED("sizes that overflow", args.cols = args.x_stride = args.y_stride = top);
    REFUSED("more CTAs than a grid has", args.rows = (size_t)1 << 40);
    if (block > 1) {
        REFUSED("columns that are not whole blocks", args.cols -= block / 2);
        REFUSED("one column less", args.cols--);
    }
    if (g->c.unit->rule == FP4_FAKE_MODELOPT) {
        REFUSED("blocks of nothing", args.block = 0);
        REFUSED("blocks that do not fill a row", args.block = args.cols - 1);
    } else {
        ACCEPTED("a length that nobody asks for", args.block = 0);
    }
    if (g->c.unit->rule == FP4_FAKE_MODELOPT && !g->c.is_static) {
        REFUSED("blocks of 8 whose amax is to be found", args.block = 8);
        REFUSED("blocks of 48", args.block = 48);
        REFUSED("blocks of 256", args.cols = args.x_stride = args.y_stride = 256; args.block = 256);
    }
    REFUSED("x one element off", args.x_stride += fake_is_pieces(&g->c) ? 8 / x : 1);
    REFUSED("y one element off", args.y_stride += fake_is_pieces(&g->c) ? 8 / y : 1);
}

/* y is x: of the same size, and the same stride. */
static void refuse_in_place(const good_call *g)
{
    const int is_same = host_dtype_bytes(g->c.unit->input) == host_dtype_bytes(g->c.unit->output);

    if (is_same) {
        ACCEPTED("in place", args.y = (void *)(uintptr_t)args.x; args.y_stride = args.x_stride);
    } else {
        REFUSED("in place, of another size", args.y = (void *)(uintptr_t)args.x;
                args.y_stride = args.x_stride);
    }
    REFUSED("in place, of another stride", args.y = (void *)(uintptr_t)args.x;
            args.y_stride = args.x_stride + 16);
    REFUSED("in place, of a smaller stride", args.y = (void *)(uintptr_t)args.x;
            args.x_stride += 32);
}

/* A pointer `off` bytes on. */
static void *moved(const void *p, size_t off)
{
    return (uint8_t *)(uintptr_t)p + off;
}

static void refuse_misaligned(const good_call *g)
{
    const int is_pieces = fake_is_pieces(&g->c);
    const size_t x = is_pieces ? 16 : host_dtype_bytes(g->c.unit->input);
    const size_t y = is_pieces ? 16 : host_dtype_bytes(g->c.unit->output);

    for (size_t off = 1; off < 16; off *= 2) {
        if (off < x) {
            REFUSED("x", args.x = moved(args.x, off));
        } else {
            ACCEPTED("x", args.x = moved(args.x, off));
        }
        if (off < y) {
            REFUSED("y", args.y = moved(args.y, off));
        } else {
            ACCEPTED("y", args.y = moved(args.y, off));
        }
        if (off < 4 && g->c.is_static) {
            REFUSED("amax", args.amax = (const float *)moved(args.amax, off));
        }
        if (off < 4 && fake_has_global(g->c.unit)) {
            REFUSED("the number on the device",
                    args.global_device = (const float *)moved(g->d.globals.bytes, off));
        } else {
            ACCEPTED("the number on the device",
                     args.global_device = (const float *)moved(g->d.globals.bytes, off / 4 * 4));
        }
    }
    if (is_pieces) {
        REFUSED("clipped", args.clipped++);
    } else {
        ACCEPTED("clipped", args.clipped++);
    }
}

/* Refused or not, as on the host. */
static void expect_as_host(const good_call *g, float global, float fp8_max)
{
    uint8_t *y = (uint8_t *)host_zeros(fake_y_bytes(&g->c));
    fp4_fake f;

    memset(&f, 0, sizeof f);
    f.rule = g->c.unit->rule;
    f.amax = g->c.is_static ? g->o.amax : NULL;
    f.block = g->c.block;
    f.fp8_max = fp8_max;
    f.global = global;
    if (fp4_ref_fake_quantize(fake_matrix(&g->c, g->o.x), &f, g->c.unit->output, y,
                              fake_y_bytes(&g->c), g->c.y_stride, NULL, 0) == FP4_OK) {
        ACCEPTED("numbers that the host takes", args.global = global; args.fp8_max = fp8_max);
    } else {
        REFUSED("numbers that the host refuses", args.global = global; args.fp8_max = fp8_max);
    }
    free(y);
}

/* Encode scales: positive and finite, and so their reciprocals. Largest amaxes: not negative, not
   NaN. Numbers that nothing follows from may be anything. */
static void refuse_numbers(const good_call *g)
{
    static const float numbers[] = {
        0.0f,      -0.0f,     -1.0f,    INFINITY,         -INFINITY, NAN,        -0x1p-149f,
        0x1p-149f, 0x1p-128f, 0x1p126f, 0x1.000008p-128f, 1.0f,      FP4_F32_MAX};
    static const float most[] = {448.0f, 256.0f, 0.0f, 447.0f, -256.0f, NAN, INFINITY, 1.0f};
    const int is_modelopt = g->c.unit->rule == FP4_FAKE_MODELOPT;

    for (size_t i = 0; i < sizeof numbers / sizeof(float); i++) {
        expect_as_host(g, numbers[i], 448.0f);
        expect_as_host(g, numbers[i], 0.0f);
        ACCEPTED("a global that is not looked at", args.global = numbers[i];
                 args.global_device = (const float *)(const void *)g->d.globals.bytes);
        if (!fake_has_global(g->c.unit) || (is_modelopt && g->c.is_static)) {
            ACCEPTED("a global that nothing follows from", args.global = numbers[i];
                     args.fp8_max = 0.0f);
        }
    }
    if (fake_has_global(g->c.unit)) {
        REFUSED("a negative global", args.global = -1.0f);
    }
    for (size_t i = 0; i < sizeof most / sizeof(float); i++) {
        expect_as_host(g, 1.0f, most[i]);
    }
    if (is_modelopt && g->c.is_static) {
        REFUSED("fp8_max", args.fp8_max = 447.0f);
    }
}

/* Blocks of 16 and 32, and where they are not whole pieces the other kernel. */
static void for_each_call(void (*refuse)(const good_call *g))
{
    for (size_t u = 0; u < FAKE_UNITS; u++) {
        const fake_unit *unit = &fake_units[u];
        for (int is_static = 0; is_static < 2; is_static++) {
            const good_call g = good_call_new(unit, is_static, 96, is_static ? 48 : 32);
            refuse(&g);
            good_call_free(g);
        }
        if (!fake_is_ours(unit)) {
            const good_call g = good_call_new(unit, 1, 90, 6);
            refuse(&g);
            good_call_free(g);
        }
    }
}

GPU_TEST(fake_errors, bad_shapes_strides_and_null_pointers)
{
    for_each_call(refuse_shapes);
}

GPU_TEST(fake_errors, in_place)
{
    for_each_call(refuse_in_place);
}

GPU_TEST(fake_errors, misaligned_pointers)
{
    for_each_call(refuse_misaligned);
}

GPU_TEST(fake_errors, bad_numbers)
{
    for_each_call(refuse_numbers);
}

/* Sizes that leave nothing to do: success, whatever else is given. */
GPU_TEST(fake_errors, nothing_to_do)
{
    launch_fake_args none;

    memset(&none, 0, sizeof none);
    for (size_t u = 0; u < FAKE_UNITS; u++) {
        for (int zero = 0; zero < 3; zero++) {
            none.rows = zero == 1;
            none.cols = zero == 0 ? 32 : 0;
            CHECK_EQ(fake_units[u].launch(&none, zero % 2, 0), cudaSuccess, "%s, zero %d",
                     fake_units[u].name, zero);
        }
    }
    CHECK_EQ(cudaPeekAtLastError(), cudaSuccess, "after launching nothing");
    gpu_finish("after launching nothing");
}
