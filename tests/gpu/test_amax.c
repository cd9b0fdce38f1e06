/*
 * tests/gpu/test_amax.c - the launchers of 08_amax against the host reference: the amaxes of blocks
 * of any length, of the tensor, and its global scales, each alone and all at once; the workspace,
 * which is 0 again after each launch; ModelOpt's scales; what is refused; and between other
 * kernels.
 */
#include <fp4/host/modelopt.h>

#include "elements.h"
#include "launch.h"

/* ---------------------------------------------------------------- launchers */

/* The words of the example as values. */
enum { AMAX_f32 = FP4_F32, AMAX_f16 = FP4_F16, AMAX_bf16 = FP4_BF16 };

/* The launchers and the type that they were compiled with. */
typedef struct amax_unit {
    launch_amax_function launch;
    launch_scales_function launch_scales;
    fp4_dtype dtype;
    const char *name;
} amax_unit;

#define AMAX_UNIT_(input) \
    {LAUNCH_AMAX(input), LAUNCH_SCALES(input), (fp4_dtype)AMAX_##input, #input},
static const amax_unit amax_units[] = {LAUNCH_AMAX_EACH(AMAX_UNIT_)};
enum { AMAX_UNITS = sizeof amax_units / sizeof amax_units[0] };

/* ---------------------------------------------------------------- cases */

/* What is asked for: the numbers of the tensor in their order, and the blocks. */
enum { TENSOR = 3, WANTS_TENSOR = 7, WANTS_BLOCKS = 8, WANTS_ALL = 15 };

typedef struct amax_case {
    const amax_unit *unit;
    size_t rows, cols, x_stride;
    size_t shift; /* of x, in elements */
    size_t block;
    int wants, pdl;
} amax_case;

static const char *amax_text(const amax_case *c)
{
    static char text[256];

    snprintf(text, sizeof text, "%s, %zu x %zu, stride %zu, shift %zu, block %zu, wants %d, pdl %d",
             c->unit->name, c->rows, c->cols, c->x_stride, c->shift, c->block, c->wants, c->pdl);
    return text;
}

/* A case of ordinary shape that asks for everything, for the caller to change. */
static amax_case amax_case_of(const amax_unit *unit, size_t rows, size_t cols, size_t block)
{
    amax_case c;

    memset(&c, 0, sizeof c);
    c.unit = unit;
    c.rows = rows;
    c.cols = c.x_stride = cols;
    c.block = block;
    c.wants = WANTS_ALL;
    return c;
}

static size_t amax_size(const amax_case *c)
{
    return host_dtype_bytes(c->unit->dtype);
}

static size_t amax_x_bytes(const amax_case *c)
{
    return host_span(c->rows, c->cols, c->x_stride) * amax_size(c);
}

static size_t amax_blocks(const amax_case *c)
{
    return c->block == 0 ? 0 : c->rows * (c->cols / c->block);
}

static fp4_matrix amax_matrix(const amax_case *c, const void *x)
{
    return fp4_matrix_of_(x, c->unit->dtype, c->rows, c->cols, c->x_stride, 1.0f);
}

/* ---------------------------------------------------------------- elements */

static const uint32_t nans[] = {0xffc00001u, 0x7e01u, 0xffc1u};

static void put(const amax_case *c, uint8_t *x, size_t row, size_t col, uint32_t bits)
{
    memcpy(x + (row * c->x_stride + col) * amax_size(c), &bits, amax_size(c));
}

/* One element everywhere, infinity between the rows. */
static uint8_t *amax_constant(const amax_case *c, uint32_t bits)
{
    uint8_t *x = (uint8_t *)host_zeros(amax_x_bytes(c));
    uint64_t state = 1;

    host_fill(x, amax_matrix(c, x), &state, HOST_NARROW, 16);
    for (size_t i = 0; i < c->rows * c->cols; i++) {
        put(c, x, i / c->cols, i % c->cols, bits);
    }
    return x;
}

/* All of a kind; or rows of all kinds, some of them NaN, some zeros; or a single one that is not
   zero, which no thread may miss. */
static uint8_t *amax_random(const amax_case *c, uint64_t *state)
{
    const uint32_t kind = host_below(state, HOST_DATA + 2);
    uint8_t *x;

    if (kind == HOST_DATA + 1 && c->rows * c->cols != 0) {
        x = amax_constant(c, 0);
        put(c, x, host_below(state, (uint32_t)c->rows), host_below(state, (uint32_t)c->cols),
            0x3f01u);
        return x;
    }
    x = (uint8_t *)host_zeros(amax_x_bytes(c));
    host_fill(x, amax_matrix(c, x), state, kind < HOST_DATA ? (host_data)kind : HOST_MODERATE, 16);
    for (size_t row = 0; row < c->rows && kind == HOST_DATA; row++) {
        const uint32_t of_row = host_below(state, HOST_DATA + 2);
        amax_case one = *c;
        one.rows = 1;
        if (of_row < HOST_DATA) {
            host_fill(x + row * c->x_stride * amax_size(c), amax_matrix(&one, x), state,
                      (host_data)of_row, 16);
            continue;
        }
        for (size_t col = 0; col < c->cols; col++) {
            put(c, x, row, col, of_row == HOST_DATA ? nans[c->unit->dtype] : 0);
        }
    }
    return x;
}

/* ---------------------------------------------------------------- the host reference */

typedef struct amax_expected {
    float *blocks, tensor[TENSOR];
} amax_expected;

static amax_expected amax_expect(const amax_case *c, const uint8_t *x)
{
    const fp4_matrix m = amax_matrix(c, x);
    const size_t bytes = amax_blocks(c) * sizeof(float);
    amax_expected e;

    e.blocks = (float *)host_zeros(bytes);
    cr_assert(fp4_ref_amax(m, &e.tensor[0]) == FP4_OK, "%s", amax_text(c));
    e.tensor[1] = fp4_nvfp4_global_enc(e.tensor[0]);
    e.tensor[2] = fp4_nvfp4_global_dec(e.tensor[1]);
    if (c->wants & WANTS_BLOCKS) {
        cr_assert(fp4_ref_block_amax(m, c->block, e.blocks, bytes) == FP4_OK, "%s", amax_text(c));
    }
    return e;
}

/* ---------------------------------------------------------------- the run */

/* A case's buffers on the device, and the call. */
typedef struct amax_device {
    gpu_buffer x, blocks, tensor, workspace;
    launch_amax_args args;
} amax_device;

static float *floats(gpu_buffer b)
{
    return (float *)(void *)b.bytes;
}

static amax_device amax_device_new(const amax_case *c, const uint8_t *x)
{
    static const uint32_t zeros[2] = {0, 0};
    amax_device d;

    memset(&d, 0, sizeof d);
    d.x = gpu_buffer_of(x, amax_x_bytes(c), c->shift * amax_size(c));
    d.blocks = gpu_buffer_new(amax_blocks(c) * sizeof(float), 4);
    d.tensor = gpu_buffer_new(TENSOR * sizeof(float), 4);
    d.workspace = gpu_buffer_of(zeros, sizeof zeros, 4);
    d.args.x = d.x.bytes;
    d.args.rows = c->rows;
    d.args.cols = c->cols;
    d.args.x_stride = c->x_stride;
    d.args.block_amax = c->wants & WANTS_BLOCKS ? floats(d.blocks) : NULL;
    d.args.block = c->block;
    d.args.amax = c->wants & 1 ? floats(d.tensor) : NULL;
    d.args.global_enc = c->wants & 2 ? floats(d.tensor) + 1 : NULL;
    d.args.global_dec = c->wants & 4 ? floats(d.tensor) + 2 : NULL;
    d.args.workspace = c->wants & WANTS_TENSOR ? (uint32_t *)(void *)d.workspace.bytes : NULL;
    return d;
}

static void amax_device_free(amax_device d)
{
    gpu_buffer_free(d.x);
    gpu_buffer_free(d.blocks);
    gpu_buffer_free(d.tensor);
    gpu_buffer_free(d.workspace);
}

static void expect_all(gpu_buffer b, const void *expected, const char *text)
{
    uint8_t *got = (uint8_t *)gpu_copy_of(b);

    host_expect_bytes(got, (const uint8_t *)expected, b.size, text);
    gpu_expect_guards(b, text);
    free(got);
}

/* All that a launch may write: what is asked for is as on the host, also of a tensor without
   elements, all else as before, the workspace 0. */
static void amax_expect_written(const amax_case *c, const amax_device *d, const amax_expected *e,
                                int poison)
{
    static const uint32_t zeros[2] = {0, 0};
    uint8_t *blocks = (uint8_t *)host_zeros(d->blocks.size), tensor[sizeof e->tensor];

    memset(blocks, poison, d->blocks.size);
    memset(tensor, poison, sizeof tensor);
    if (c->wants & WANTS_BLOCKS) {
        memcpy(blocks, e->blocks, d->blocks.size);
    }
    for (size_t i = 0; i < TENSOR; i++) {
        if (c->wants >> i & 1) {
            memcpy(tensor + i * sizeof(float), &e->tensor[i], sizeof(float));
        }
    }
    expect_all(d->blocks, blocks, amax_text(c));
    expect_all(d->tensor, tensor, amax_text(c));
    expect_all(d->workspace, zeros, amax_text(c));
    free(blocks);
}

/* Launches the case over outputs full of 0x7f and full of 0xff. */
static void amax_run(const amax_case *c, const uint8_t *x)
{
    static const int poisons[] = {0x7f, 0xff};
    const amax_device d = amax_device_new(c, x);
    const amax_expected e = amax_expect(c, x);

    for (size_t p = 0; p < 2; p++) {
        gpu_poison(d.blocks, poisons[p]);
        gpu_poison(d.tensor, poisons[p]);
        GPU_OK(c->unit->launch(&d.args, c->pdl, 0));
        gpu_finish(amax_text(c));
        amax_expect_written(c, &d, &e, poisons[p]);
    }
    elements_expect_input(d.x, x, amax_text(c));
    free(e.blocks);
    amax_device_free(d);
}

/* ---------------------------------------------------------------- shapes */

static const size_t all_rows[] = {0, 1, 3, 4, 5, 127, 128, 129, 300, 5000};
static const size_t few_rows[] = {1, 5, 300};
static const size_t all_cols[] = {16,   48,   96,    256, 512, 1040, 2048, 4096,
                                  4112, 8208, 12288, 1,   7,   24,   100,  4100};
static const size_t few_cols[] = {16, 96, 1040, 7, 100};

/* Lengths of blocks; 0: a row. */
static const size_t lengths[] = {1, 3, 16, 24, 32, 48, 64, 128, 256, 512, 1024, 0};
enum { LENGTHS = sizeof lengths / sizeof(size_t) };

/* One of them that divides the columns. A warp for each element takes a CPU long. */
static size_t draw_block(size_t rows, size_t cols, uint64_t *state)
{
    const size_t most = gpu_is_reduced() ? 2000 : (size_t)-1;
    size_t block;

    do {
        block = lengths[host_below(state, LENGTHS)];
        block = block == 0 ? cols : block;
    } while (cols % block != 0 || rows * (cols / block) > most);
    return block;
}

/* Options for a shape. Half of the time nothing is misaligned, so that threads take 16 elements. */
static void run_drawn(const amax_unit *unit, size_t rows, size_t cols, uint64_t *state)
{
    amax_case c = amax_case_of(unit, rows, cols, draw_block(rows, cols, state));
    const size_t unit_of_shift = host_below(state, 2) ? 16 / amax_size(&c) : 1;
    uint8_t *x;

    c.x_stride += unit_of_shift * host_below(state, 3);
    c.shift = unit_of_shift * host_below(state, 3);
    c.wants = 1 + (int)host_below(state, WANTS_ALL);
    c.pdl = (int)host_below(state, 2);
    x = amax_random(&c, state);
    amax_run(&c, x);
    free(x);
}

static void run_type(fp4_dtype dtype)
{
    const int few = gpu_is_reduced();
    const size_t row_count =
        few ? sizeof few_rows / sizeof(size_t) : sizeof all_rows / sizeof(size_t);
    const size_t col_count =
        few ? sizeof few_cols / sizeof(size_t) : sizeof all_cols / sizeof(size_t);
    uint64_t state = 800 + (uint64_t)dtype;

    for (size_t i = 0; i < row_count * col_count; i++) {
        const size_t rows = (few ? few_rows : all_rows)[i / col_count];
        const size_t cols = (few ? few_cols : all_cols)[i % col_count];
        for (int turn = 0; turn < (rows * cols > 1000000 ? 1 : 4); turn++) {
            run_drawn(&amax_units[dtype], rows, cols, &state);
        }
    }
    run_drawn(&amax_units[dtype], few ? 11 : 4099, 8208, &state);
}

GPU_TEST(amax, f32)
{
    run_type(FP4_F32);
}

GPU_TEST(amax, f16)
{
    run_type(FP4_F16);
}

GPU_TEST(amax, bf16)
{
    run_type(FP4_BF16);
}

/* Rows of one block, of three and of eight; aligned and not, whole pieces and not. */
GPU_TEST(amax, blocks_of_any_length)
{
    static const size_t times[] = {1, 3, 8};
    uint64_t state = 810;

    for (size_t i = 0; i < 3 * 2 * LENGTHS * AMAX_UNITS; i++) {
        const size_t length = lengths[i / 6 % LENGTHS] == 0 ? 77 : lengths[i / 6 % LENGTHS];
        amax_case c = amax_case_of(&amax_units[i / 6 / LENGTHS], 9, length * times[i % 3], length);
        uint8_t *x;
        c.shift = i / 3 % 2;
        x = amax_random(&c, &state);
        amax_run(&c, x);
        free(x);
    }
}

/* Each set of outputs, by either kernel; a block length that is not asked for may be anything. */
GPU_TEST(amax, each_output_alone)
{
    uint64_t state = 820;

    for (int wants = 1; wants <= WANTS_ALL; wants++) {
        for (size_t i = 0; i < 3 * AMAX_UNITS; i++) {
            const size_t block = wants & WANTS_BLOCKS ? 32 : i % 3 == 0 ? 0 : 7;
            amax_case c = amax_case_of(&amax_units[i / 3], 37, i % 3 == 2 ? 160 : 96, block);
            uint8_t *x;
            c.wants = wants;
            c.shift = i % 3 == 2;
            x = amax_random(&c, &state);
            amax_run(&c, x);
            free(x);
        }
    }
}

/* The tensor alone, of rows without whole pieces: one element that is not zero, in the corners and
   anywhere. With more elements than all threads have at a time, and rows of more and of less. */
GPU_TEST(amax, tensors_of_odd_sizes)
{
    static const size_t shapes[][2] = {{1, 1},    {1, 7},      {3, 5},       {255, 1},    {1025, 3},
                                       {37, 767}, {2, 100003}, {1, 1000003}, {1, 5000011}};
    const size_t count = gpu_is_reduced() ? 8 : 9;
    uint64_t state = 825;

    for (size_t i = 0; i < count * AMAX_UNITS; i++) {
        const size_t *shape = shapes[i % count];
        amax_case c = amax_case_of(&amax_units[i / count], shape[0], shape[1], 0);
        uint8_t *x;
        c.wants = 1 + (int)host_below(&state, WANTS_TENSOR);
        c.x_stride += i % 2 ? 5 : 0;
        c.shift = host_below(&state, 3);
        x = amax_constant(&c, 0);
        for (uint32_t k = 0; k < (shape[1] > 1000 ? 3 : 8); k++) {
            const size_t row = k < 2 ? k * (c.rows - 1) : host_below(&state, (uint32_t)c.rows);
            const size_t col = k < 2 ? k * (c.cols - 1) : host_below(&state, (uint32_t)c.cols);
            put(&c, x, row, col, 0x3f01u);
            amax_run(&c, x);
            put(&c, x, row, col, 0);
        }
        free(x);
    }
}

/* No elements: the numbers are those of the host, whatever x is; there are no blocks. */
GPU_TEST(amax, tensors_of_no_elements)
{
    for (size_t i = 0; i < 3 * AMAX_UNITS * WANTS_ALL; i++) {
        static const size_t shapes[][2] = {{0, 48}, {5, 0}, {0, 0}};
        const size_t *shape = shapes[i / AMAX_UNITS % 3];
        amax_case c = amax_case_of(&amax_units[i % AMAX_UNITS], shape[0], shape[1], 16);
        uint8_t *x = (uint8_t *)host_zeros(1);
        c.wants = 1 + (int)(i / AMAX_UNITS / 3);
        amax_run(&c, x);
        free(x);
    }
}

/* ---------------------------------------------------------------- values */

/* A single element that is not zero, in the corners and anywhere. */
GPU_TEST(amax, one_element_anywhere)
{
    static const size_t shapes[][3] = {{5, 4112, 16}, {37, 48, 48}, {130, 16, 16}, {3, 99, 33}};
    static const uint32_t bits[] = {0x80000001u, 0x8001u, 0x8001u}; /* the smallest */
    uint64_t state = 830;

    for (size_t i = 0; i < 4 * AMAX_UNITS; i++) {
        const size_t *shape = shapes[i % 4];
        const amax_case c = amax_case_of(&amax_units[i / 4], shape[0], shape[1], shape[2]);
        uint8_t *x = amax_constant(&c, 0);
        for (uint32_t k = 0; k < 12; k++) {
            const size_t row = k < 4 ? k / 2 * (c.rows - 1) : host_below(&state, (uint32_t)c.rows);
            const size_t col = k < 4 ? k % 2 * (c.cols - 1) : host_below(&state, (uint32_t)c.cols);
            put(&c, x, row, col, bits[c.unit->dtype]);
            amax_run(&c, x);
            put(&c, x, row, col, 0);
        }
        free(x);
    }
}

/* The same element everywhere, and NaN at every second place. */
GPU_TEST(amax, of_one_element)
{
    static const struct {
        uint32_t bits[3]; /* f32, f16, bf16 */
        float amax[3];
    } elements[] = {
        {{0x00000000u, 0x0000u, 0x0000u}, {0.0f, 0.0f, 0.0f}},
        {{0x80000000u, 0x8000u, 0x8000u}, {0.0f, 0.0f, 0.0f}},
        {{0x7fc00000u, 0x7e00u, 0x7fc0u}, {0.0f, 0.0f, 0.0f}},
        {{0xffffffffu, 0xffffu, 0xffffu}, {0.0f, 0.0f, 0.0f}},
        {{0x7f800001u, 0x7c01u, 0x7f81u}, {0.0f, 0.0f, 0.0f}},
        {{0x7f800000u, 0x7c00u, 0x7f80u}, {INFINITY, INFINITY, INFINITY}},
        {{0xff800000u, 0xfc00u, 0xff80u}, {INFINITY, INFINITY, INFINITY}},
        {{0x00000001u, 0x0001u, 0x0001u}, {0x1p-149f, 0x1p-24f, 0x1p-133f}},
        {{0x807fffffu, 0x83ffu, 0x807fu}, {0x1.fffffcp-127f, 0x1.ff8p-15f, 0x1.fcp-127f}},
        {{0xff7fffffu, 0xfbffu, 0xff7fu}, {FP4_F32_MAX, 65504.0f, 0x1.fep127f}},
        {{0xbf800000u, 0xbc00u, 0xbf80u}, {1.0f, 1.0f, 1.0f}},
    };
    enum { ELEMENTS = sizeof elements / sizeof elements[0] };

    for (size_t i = 0; i < 2 * ELEMENTS * AMAX_UNITS; i++) {
        const amax_unit *unit = &amax_units[i / 2 / ELEMENTS];
        const uint32_t bits = elements[i / 2 % ELEMENTS].bits[unit->dtype];
        const float amax = elements[i / 2 % ELEMENTS].amax[unit->dtype];
        amax_case c = amax_case_of(unit, 3, 64, i % 2 ? 8 : 32);
        uint8_t *x = amax_constant(&c, bits);
        amax_expected e;
        for (size_t at = 1; at < 3 * 64; at += 2) {
            put(&c, x, at / 64, at % 64, nans[unit->dtype]);
        }
        e = amax_expect(&c, x);
        CHECK_EQ(host_bits_of(e.tensor[0]), host_bits_of(amax), "host, %s, %08x", unit->name, bits);
        CHECK_EQ(host_bits_of(e.tensor[1]), host_bits_of(host_global_enc(amax)), "host, %s, %08x",
                 unit->name, bits);
        free(e.blocks);
        amax_run(&c, x);
        free(x);
    }
}

/* ---------------------------------------------------------------- the workspace */

/* Launches of many grids one after the other, with one workspace, and nothing waited for. */
GPU_TEST(amax, launches_share_a_workspace)
{
    enum { LAUNCHES = 24 };
    static const uint32_t zeros[2] = {0, 0};
    const gpu_buffer workspace = gpu_buffer_of(zeros, sizeof zeros, 8);
    uint64_t state = 840;

    for (size_t u = 0; u < AMAX_UNITS; u++) {
        amax_case c[LAUNCHES];
        amax_device d[LAUNCHES];
        uint8_t *x[LAUNCHES];
        for (size_t i = 0; i < LAUNCHES; i++) {
            const size_t cols = 16 * (1 + host_below(&state, 30)) + (i % 4 == 0);
            c[i] = amax_case_of(&amax_units[u], 1 + host_below(&state, 200), cols,
                                i % 4 == 0 ? cols : 16);
            c[i].wants = 1 + (int)host_below(&state, WANTS_ALL);
            c[i].pdl = (int)(i / 2 % 2);
            x[i] = amax_random(&c[i], &state);
            d[i] = amax_device_new(&c[i], x[i]);
            d[i].args.workspace = (uint32_t *)(void *)workspace.bytes;
            gpu_poison(d[i].blocks, 0x7f);
            gpu_poison(d[i].tensor, 0x7f);
        }
        gpu_finish("before the launches");
        for (size_t i = 0; i < LAUNCHES; i++) {
            GPU_OK(amax_units[u].launch(&d[i].args, c[i].pdl, 0));
        }
        gpu_finish("launches_share_a_workspace");
        for (size_t i = 0; i < LAUNCHES; i++) {
            const amax_expected e = amax_expect(&c[i], x[i]);
            amax_expect_written(&c[i], &d[i], &e, 0x7f);
            free(e.blocks);
            amax_device_free(d[i]);
            free(x[i]);
        }
        expect_all(workspace, zeros, "the workspace of all");
    }
    gpu_buffer_free(workspace);
}

/* ---------------------------------------------------------------- between other kernels */

#if defined(FP4_SIMT) /* on the CPU nothing happens at the same time: tests/simt */
enum { ROUNDS = 3 };
#else
enum { ROUNDS = 100 };
#endif
enum { PRODUCER_SLEEP = 40000, CONSUMER_SLEEP = 15000 };

/* A case with the inputs of all rounds on the device, scales made of its amaxes, and room for what
   all rounds give. */
typedef struct chain {
    amax_case c;
    amax_device d;
    gpu_buffer scales, all_x, all_blocks, all_tensor, all_scales;
    launch_scales_args of_blocks;
    uint8_t *x;
    cudaStream_t stream;
} chain;

static chain *chain_new(amax_case c, uint64_t seed)
{
    chain *k = (chain *)host_zeros(sizeof *k);
    const size_t x_bytes = amax_x_bytes(&c);
    uint64_t state = seed;

    k->c = c;
    k->x = (uint8_t *)host_zeros(ROUNDS * x_bytes);
    for (size_t round = 0; round < ROUNDS; round++) {
        uint8_t *x = amax_random(&c, &state);
        memcpy(k->x + round * x_bytes, x, x_bytes);
        free(x);
    }
    k->d = amax_device_new(&c, k->x);
    k->scales = gpu_buffer_new(k->d.blocks.size, 0);
    k->all_x = gpu_buffer_of(k->x, ROUNDS * x_bytes, 0);
    k->all_blocks = gpu_buffer_new(ROUNDS * k->d.blocks.size, 0);
    k->all_tensor = gpu_buffer_new(ROUNDS * k->d.tensor.size, 0);
    k->all_scales = gpu_buffer_new(ROUNDS * k->scales.size, 0);
    k->of_blocks.scales = floats(k->scales);
    k->of_blocks.amax = floats(k->d.blocks);
    k->of_blocks.n = amax_blocks(&c);
    k->of_blocks.global_device = floats(k->d.tensor);
    k->of_blocks.fp8_max = 448.0f;
    GPU_OK(cudaStreamCreateWithFlags(&k->stream, cudaStreamNonBlocking));
    gpu_finish("chain_new");
    return k;
}

/* What has been copied in all rounds, against the host reference. */
static void chain_end(chain *k)
{
    const size_t n = k->of_blocks.n;
    float *blocks, *tensor, *scales, *expected = (float *)host_zeros(n * sizeof(float));

    GPU_OK(cudaStreamSynchronize(k->stream));
    blocks = (float *)gpu_copy_of(k->all_blocks);
    tensor = (float *)gpu_copy_of(k->all_tensor);
    scales = (float *)gpu_copy_of(k->all_scales);
    for (size_t round = 0; round < ROUNDS; round++) {
        const amax_expected e = amax_expect(&k->c, k->x + round * amax_x_bytes(&k->c));
        cr_assert(fp4_ref_modelopt_scales(e.blocks, n, e.tensor[0], 448.0f, expected) == FP4_OK);
        host_expect_bytes((uint8_t *)(blocks + round * n), (const uint8_t *)e.blocks,
                          n * sizeof(float), amax_text(&k->c));
        host_expect_bytes((uint8_t *)(tensor + round * TENSOR), (const uint8_t *)e.tensor,
                          sizeof e.tensor, amax_text(&k->c));
        elements_expect((uint8_t *)(scales + round * n), (const uint8_t *)expected, n, FP4_F32,
                        amax_text(&k->c), 0);
        free(e.blocks);
    }
    gpu_expect_guards(k->d.blocks, amax_text(&k->c));
    gpu_expect_guards(k->scales, amax_text(&k->c));
    GPU_OK(cudaStreamDestroy(k->stream));
    gpu_buffer_free(k->scales);
    gpu_buffer_free(k->all_x);
    gpu_buffer_free(k->all_blocks);
    gpu_buffer_free(k->all_tensor);
    gpu_buffer_free(k->all_scales);
    amax_device_free(k->d);
    free(blocks);
    free(tensor);
    free(scales);
    free(expected);
    free(k->x);
    free(k);
}

/* Behind a producer that starts them at once and writes x late, in front of a consumer that spoils
   x and reads late; the scales behind the amaxes. */
static void run_chain(amax_case c, uint64_t seed)
{
    chain *k = chain_new(c, seed);
    const size_t x = k->d.x.size, blocks = k->d.blocks.size, tensor = k->d.tensor.size;

    for (size_t round = 0; round < ROUNDS; round++) {
        gpu_copy in, out;
        memset(&in, 0, sizeof in);
        memset(&out, 0, sizeof out);
        in.to[0] = k->d.x.bytes;
        in.from[0] = k->all_x.bytes + round * x;
        in.bytes[0] = x;
        in.sleep = PRODUCER_SLEEP;
        out.to[0] = k->all_blocks.bytes + round * blocks;
        out.from[0] = k->d.blocks.bytes;
        out.to[1] = k->all_scales.bytes + round * blocks;
        out.from[1] = k->scales.bytes;
        out.bytes[0] = out.bytes[1] = blocks;
        out.to[2] = k->all_tensor.bytes + round * tensor;
        out.from[2] = k->d.tensor.bytes;
        out.bytes[2] = tensor;
        out.fill = k->d.x.bytes;
        out.fill_bytes = x;
        out.sleep = CONSUMER_SLEEP;
        GPU_OK(gpu_produce(&in, k->stream));
        GPU_OK(c.unit->launch(&k->d.args, 1, k->stream));
        GPU_OK(c.unit->launch_scales(&k->of_blocks, 1, k->stream));
        GPU_OK(gpu_consume(&out, k->stream));
    }
    chain_end(k);
}

Test(amax, behind_a_late_producer, .init = gpu_begin, .timeout = 300)
{
    for (size_t u = 0; u < AMAX_UNITS; u++) {
        run_chain(amax_case_of(&amax_units[u], 37, 1088, 16), 850 + u);
        run_chain(amax_case_of(&amax_units[u], 13, 99, 33), 860 + u);
    }
}

/* Both launchers in a graph; inputs and outputs are copied outside of it. */
static void run_graph(amax_case c, uint64_t seed, int pdl)
{
    const enum cudaMemcpyKind kind = cudaMemcpyDeviceToDevice;
    chain *k = chain_new(c, seed);
    const size_t x = k->d.x.size, blocks = k->d.blocks.size, tensor = k->d.tensor.size;
    cudaGraphExec_t executable;
    cudaGraph_t graph;
    size_t nodes = 0;

    GPU_OK(cudaStreamBeginCapture(k->stream, cudaStreamCaptureModeGlobal));
    GPU_OK(c.unit->launch(&k->d.args, pdl, k->stream));
    GPU_OK(c.unit->launch_scales(&k->of_blocks, pdl, k->stream));
    GPU_OK(cudaStreamEndCapture(k->stream, &graph));
    GPU_OK(cudaGraphGetNodes(graph, NULL, &nodes));
    CHECK_EQ(nodes, 2, "kernels captured");
    GPU_OK(cudaGraphInstantiate(&executable, graph, 0));
    GPU_OK(cudaGraphDestroy(graph));
    for (size_t round = 0; round < ROUNDS; round++) {
        GPU_OK(cudaMemcpyAsync(k->d.x.bytes, k->all_x.bytes + round * x, x, kind, k->stream));
        GPU_OK(cudaGraphLaunch(executable, k->stream));
        GPU_OK(cudaMemcpyAsync(k->all_blocks.bytes + round * blocks, k->d.blocks.bytes, blocks,
                               kind, k->stream));
        GPU_OK(cudaMemcpyAsync(k->all_tensor.bytes + round * tensor, k->d.tensor.bytes, tensor,
                               kind, k->stream));
        GPU_OK(cudaMemcpyAsync(k->all_scales.bytes + round * blocks, k->scales.bytes, blocks, kind,
                               k->stream));
    }
    GPU_OK(cudaGraphExecDestroy(executable));
    chain_end(k);
}

GPU_TEST(amax, replayed_from_a_graph)
{
    for (size_t u = 0; u < AMAX_UNITS; u++) {
        run_graph(amax_case_of(&amax_units[u], 33, 288, 32), 870 + u, (int)(u % 2));
        run_graph(amax_case_of(&amax_units[u], 133, 33, 3), 880 + u, (int)(u % 2 == 0));
    }
}

/* ---------------------------------------------------------------- ModelOpt's scales */

/* Amaxes of all kinds, and such as have a way of their own. */
static float *amaxes(size_t n, uint64_t *state)
{
    static const float special[] = {0.0f, INFINITY, NAN, FP4_F32_MAX, 0x1p-149f, 0x1p-126f};
    float *x = (float *)host_zeros(n * sizeof(float));

    for (size_t i = 0; i < n; i++) {
        const uint32_t which = host_below(state, 4);
        x[i] = which == 0   ? special[host_below(state, 6)]
               : which == 1 ? host_bits(host_below(state, 0x7f800000u))
                            : host_random_scale(state, -12, 4);
    }
    return x;
}

static void run_scales(const amax_unit *unit, size_t n, float global, float fp8_max, int how,
                       uint64_t *state)
{
    float *amax = amaxes(n, state), *expected = (float *)host_zeros(n * sizeof(float));
    const gpu_buffer of = gpu_buffer_of(amax, n * sizeof(float), 4);
    const gpu_buffer scales = gpu_buffer_new(n * sizeof(float), 4);
    const gpu_buffer global_device = gpu_buffer_of(&global, sizeof global, 4);
    launch_scales_args a;
    char text[128];

    snprintf(text, sizeof text, "%s, %zu scales, %s global %a, fp8_max %.0f", unit->name, n,
             how & 1 ? "device" : "host", (double)global, (double)fp8_max);
    memset(&a, 0, sizeof a);
    a.scales = floats(scales);
    a.amax = floats(of);
    a.n = n;
    a.global_device = how & 1 ? floats(global_device) : NULL;
    a.global = how & 1 || fp8_max == 0.0f ? host_bits(0x7fc00000u) : global;
    a.fp8_max = fp8_max;
    cr_assert(fp4_ref_modelopt_scales(amax, n, global, fp8_max, expected) == FP4_OK);
    gpu_poison(scales, 0x7f);
    GPU_OK(unit->launch_scales(&a, how / 2, 0));
    gpu_finish(text);
    elements_expect_buffer(scales, (const uint8_t *)expected, FP4_F32, text, 0x7f);
    elements_expect_input(of, amax, text);
    elements_expect_input(global_device, &global, text);
    gpu_buffer_free(of);
    gpu_buffer_free(scales);
    gpu_buffer_free(global_device);
    free(amax);
    free(expected);
}

GPU_TEST(amax, scales)
{
    static const size_t counts[] = {1, 31, 255, 256, 257, 1000, 300000};
    static const float most[] = {448.0f, 256.0f, 0.0f};
    static const float globals[] = {8.0f, 0.0f,      0x1p-149f,   0x1p-24f,
                                    1e5f, 0x1p+127f, FP4_F32_MAX, INFINITY};
    uint64_t state = 890;

    for (size_t u = 0; u < AMAX_UNITS; u++) {
        for (size_t i = 0; i < 7 * 3 * 4; i++) {
            const size_t n = counts[i / 12];
            const float global = host_random_scale(&state, -10, 10);
            run_scales(&amax_units[u], gpu_is_reduced() && n > 1000 ? 3000 : n, global,
                       most[i / 4 % 3], (int)(i % 4), &state);
        }
        for (size_t i = 0; i < 8 * 3 * 2; i++) {
            run_scales(&amax_units[u], 300, globals[i / 6], most[i / 2 % 3], (int)(i % 2), &state);
        }
    }
}

/* ---------------------------------------------------------------- what is refused */

/* Good calls, for a test to spoil. */
typedef struct good_call {
    amax_case c;
    amax_device d;
    launch_scales_args scales;
} good_call;

static good_call good_call_new(const amax_unit *unit)
{
    good_call g;
    uint8_t *x;

    g.c = amax_case_of(unit, 8, 128, 32);
    g.c.x_stride = 144;
    x = amax_constant(&g.c, 0x3f01u);
    g.d = amax_device_new(&g.c, x);
    free(x);
    gpu_poison(g.d.blocks, 0x7f);
    gpu_poison(g.d.tensor, 0x7f);
    memset(&g.scales, 0, sizeof g.scales);
    g.scales.scales = floats(g.d.blocks);
    g.scales.amax = floats(g.d.tensor);
    g.scales.n = 3;
    g.scales.global = 1.0f;
    g.scales.fp8_max = 448.0f;
    return g;
}

/* Nothing has been written by what was refused. */
static void good_call_free(good_call g)
{
    amax_expected e;

    memset(&e, 0, sizeof e);
    gpu_finish(amax_text(&g.c));
    g.c.wants = 0;
    amax_expect_written(&g.c, &g.d, &e, 0x7f);
    amax_device_free(g.d);
}

/* Calls one launcher or the other; answers how many kernels it launched. */
static size_t launched(const good_call *g, const launch_amax_args *args,
                       const launch_scales_args *scales, cudaError_t *error)
{
    const cudaStream_t stream = gpu_capture_begin();

    *error = scales != NULL ? g->c.unit->launch_scales(scales, 0, stream)
                            : g->c.unit->launch(args, 0, stream);
    return gpu_capture_end(stream);
}

static void expect_refused(const good_call *g, const launch_amax_args *args,
                           const launch_scales_args *scales, const char *what)
{
    cudaError_t error;
    const size_t nodes = launched(g, args, scales, &error);

    CHECK_EQ(error, cudaErrorInvalidValue, "%s: %s", what, g->c.unit->name);
    CHECK_EQ(nodes, 0, "%s: launched: %s", what, g->c.unit->name);
    error = scales != NULL ? g->c.unit->launch_scales(scales, 0, 0) : g->c.unit->launch(args, 0, 0);
    CHECK_EQ(error, cudaErrorInvalidValue, "%s: not captured: %s", what, g->c.unit->name);
    CHECK_EQ(cudaGetLastError(), cudaSuccess, "%s: an error is left: %s", what, g->c.unit->name);
}

static void expect_accepted(const good_call *g, const launch_amax_args *args,
                            const launch_scales_args *scales, const char *what)
{
    cudaError_t error;
    const size_t nodes = launched(g, args, scales, &error);

    CHECK_EQ(error, cudaSuccess, "%s: %s", what, g->c.unit->name);
    CHECK_EQ(nodes, 1, "%s: kernels launched: %s", what, g->c.unit->name);
}

#define REFUSED(what, change) \
    do { \
        launch_amax_args args = g.d.args; \
        change; \
        expect_refused(&g, &args, NULL, what); \
    } while (0)

#define ACCEPTED(what, change) \
    do { \
        launch_amax_args args = g.d.args; \
        change; \
        expect_accepted(&g, &args, NULL, what); \
    } while (0)

#define SCALES_REFUSED(what, change) \
    do { \
        launch_scales_args args = g.scales; \
        change; \
        expect_refused(&g, NULL, &args, "scales: " what); \
    } while (0)

#define SCALES_ACCEPTED(what, change) \
    do { \
        launch_scales_args args = g.scales; \
        change; \
        expect_accepted(&g, NULL, &args, "scales: " what); \
    } while (0)

#define FOR_EACH_CALL(body) \
    for (size_t i = 0; i < AMAX_UNITS; i++) { \
        const good_call g = good_call_new(&amax_units[i]); \
        body; \
        good_call_free(g); \
    }

static void refuse_null_pointers(good_call g)
{
    ACCEPTED("as it is", (void)args);
    REFUSED("no x", args.x = NULL);
    REFUSED("no workspace", args.workspace = NULL);
    ACCEPTED("blocks alone, no workspace", args.workspace = NULL;
             args.amax = args.global_enc = args.global_dec = NULL);
    ACCEPTED("no blocks", args.block_amax = NULL);
    REFUSED("no workspace for amax", args.workspace = NULL;
            args.global_enc = args.global_dec = NULL);
    REFUSED("no workspace for global_enc", args.workspace = NULL;
            args.amax = args.global_dec = NULL);
    REFUSED("no workspace for global_dec", args.workspace = NULL;
            args.amax = args.global_enc = NULL);
    REFUSED("no output", args.block_amax = NULL;
            args.amax = args.global_enc = args.global_dec = NULL);
    SCALES_ACCEPTED("as they are", (void)args);
    SCALES_REFUSED("no scales", args.scales = NULL);
    SCALES_REFUSED("no amaxes", args.amax = NULL);
}

GPU_TEST(amax_errors, null_pointers)
{
    FOR_EACH_CALL(refuse_null_pointers(g))
}

static void refuse_shapes(good_call g)
{
    REFUSED("rows that overlap", args.x_stride = args.cols - 1);
    REFUSED("a stride that overflows", args.x_stride = (size_t)1 << 63);
    REFUSED("rows without end", args.rows = (size_t)-1);
    REFUSED("blocks of nothing", args.block = 0);
    REFUSED("blocks that are not whole", args.block = 24);
    REFUSED("a block longer than a row", args.block = 256);
    ACCEPTED("a row stride one element off", args.x_stride += 1);
    ACCEPTED("no blocks, of nothing", args.block = 0; args.block_amax = NULL);
    ACCEPTED("no blocks, not whole", args.block = 24; args.block_amax = NULL);
    SCALES_REFUSED("more than a grid has", args.n = (size_t)0x7fffffff * (4 * 256) + 1);
    SCALES_REFUSED("without end", args.n = (size_t)-1);
}

GPU_TEST(amax_errors, bad_shapes_and_strides)
{
    FOR_EACH_CALL(refuse_shapes(g))
}

/* A pointer that is off by so many bytes. */
static float *off_by(const void *p, size_t bytes)
{
    return (float *)((uintptr_t)p + bytes);
}

static void refuse_misaligned(good_call g)
{
    for (size_t off = 1; off < 4; off++) {
        if (off % amax_size(&g.c) != 0) {
            REFUSED("x", args.x = off_by(args.x, off));
        } else {
            ACCEPTED("x, by elements", args.x = off_by(args.x, off));
        }
        REFUSED("block_amax", args.block_amax = off_by(args.block_amax, off));
        REFUSED("amax", args.amax = off_by(args.amax, off));
        REFUSED("global_enc", args.global_enc = off_by(args.global_enc, off));
        REFUSED("global_dec", args.global_dec = off_by(args.global_dec, off));
        REFUSED("workspace", args.workspace = (uint32_t *)off_by(args.workspace, off));
        SCALES_REFUSED("misaligned", args.scales = off_by(args.scales, off));
        SCALES_REFUSED("of misaligned amaxes", args.amax = off_by(args.amax, off));
        SCALES_REFUSED("by a misaligned global", args.global_device = off_by(args.amax, off));
    }
}

GPU_TEST(amax_errors, misaligned_pointers)
{
    FOR_EACH_CALL(refuse_misaligned(g))
}

/* The host reference draws the same lines. */
static void refuse_scales(good_call g)
{
    static const float bad_most[] = {1.0f, -448.0f, 447.0f, 6.0f, INFINITY, NAN, 0x1p-149f};
    static const float bad_global[] = {-1.0f, -0x1p-149f, -INFINITY, NAN};
    static const float good_global[] = {0.0f, 0x1p-149f, FP4_F32_MAX, INFINITY};
    const float amax = 1.0f;
    float scale;

    for (size_t i = 0; i < sizeof bad_most / sizeof(float); i++) {
        SCALES_REFUSED("fp8_max", args.fp8_max = bad_most[i]);
        CHECK_EQ(fp4_ref_modelopt_scales(&amax, 1, 1.0f, bad_most[i], &scale), FP4_BAD_SCALE,
                 "host, fp8_max %a", (double)bad_most[i]);
    }
    for (size_t i = 0; i < sizeof bad_global / sizeof(float); i++) {
        SCALES_REFUSED("global", args.global = bad_global[i]);
        SCALES_REFUSED("global", args.global = bad_global[i]; args.fp8_max = 256.0f);
        SCALES_ACCEPTED("unused global", args.global = bad_global[i]; args.fp8_max = 0.0f);
        SCALES_ACCEPTED("global that is not looked at", args.global = bad_global[i];
                        args.global_device = args.amax);
        CHECK_EQ(fp4_ref_modelopt_scales(&amax, 1, bad_global[i], 448.0f, &scale), FP4_BAD_SCALE,
                 "host, global %a", (double)bad_global[i]);
        CHECK_EQ(fp4_ref_modelopt_scales(&amax, 1, bad_global[i], 0.0f, &scale), FP4_OK,
                 "host, unused global %a", (double)bad_global[i]);
    }
    for (size_t i = 0; i < sizeof good_global / sizeof(float); i++) {
        SCALES_ACCEPTED("global", args.global = good_global[i]);
        CHECK_EQ(fp4_ref_modelopt_scales(&amax, 1, good_global[i], 448.0f, &scale), FP4_OK,
                 "host, global %a", (double)good_global[i]);
    }
}

GPU_TEST(amax_errors, bad_scales)
{
    FOR_EACH_CALL(refuse_scales(g))
}

/* Of no elements the numbers are written, and where they go has to be right; nothing else has. */
static void refuse_no_elements(good_call g)
{
    for (int zero = 0; zero < 3; zero++) {
#define ZEROS args.rows = zero == 0 ? 7 : 0, args.cols = zero == 1 ? 7 : 0, args.x = NULL
        ACCEPTED("of nothing", ZEROS);
        ACCEPTED("of nothing, overlapping", ZEROS; args.x_stride = args.block = 0);
        REFUSED("of nothing, no workspace", ZEROS; args.workspace = NULL);
        REFUSED("of nothing, workspace", ZEROS;
                args.workspace = (uint32_t *)off_by(args.workspace, 2));
        REFUSED("of nothing, amax", ZEROS; args.amax = off_by(args.amax, 2));
#undef ZEROS
    }
}

GPU_TEST(amax_errors, no_elements){FOR_EACH_CALL(refuse_no_elements(g))}

/* Sizes that leave nothing to do, where nothing is asked for of the tensor: success, whatever else
   is given. */
GPU_TEST(amax_errors, nothing_to_do)
{
    launch_amax_args none;
    launch_scales_args no_scales;

    memset(&none, 0, sizeof none);
    memset(&no_scales, 0, sizeof no_scales);
    for (size_t i = 0; i < AMAX_UNITS; i++) {
        for (int zero = 0; zero < 2; zero++) {
            none.rows = zero != 0 ? 7 : 0;
            none.cols = zero != 1 ? 7 : 0;
            no_scales.fp8_max = (float)zero;
            CHECK_EQ(amax_units[i].launch(&none, zero, 0), cudaSuccess, "%s, zero %d",
                     amax_units[i].name, zero);
            CHECK_EQ(amax_units[i].launch_scales(&no_scales, zero, 0), cudaSuccess, "%s",
                     amax_units[i].name);
        }
    }
    CHECK_EQ(cudaPeekAtLastError(), cudaSuccess, "after launching nothing");
    gpu_finish("after launching nothing");
}
