/*
 * tests/gpu/test_launch.c - the launchers of the examples: every input type, format and layout,
 * over a grid of shapes.
 *
 * What else can be asked for (batches, strides, wider outputs, where scales come from, alignment,
 * programmatic dependent launch) is drawn at random for every shape, from a fixed seed, so that
 * over the shapes of one launcher each value of each option comes up many times.
 */
#include "cases.h"

enum { POOL_ROWS = 61, RANDOM_CASES = 60 };

static const size_t all_rows[] = {0, 1, 5, 32, 127, 128, 129, 1000};
static const size_t few_rows[] = {1, 5, 129};

/* Blocks of a row. Not multiples of 4: columns of padding. 0 stands for 16384 columns, 1 block
   less than that where it is `almost`. */
enum { ALMOST = 1000000, WHOLE };
static const size_t all_blocks[] = {1, 2, 3, 4, 5, 7, 9, 16, 33, 66, 129, ALMOST, WHOLE};
static const size_t few_blocks[] = {1, 3, 9, 66};

/* Shapes of narrow, middling and wide rows, all just over 2^23 elements: a kernel may cut large
   matrices in another way than small ones. (On the CPU it does so earlier: tests/simt.) */
#if defined(FP4_SIMT)
enum { BIG_ELEMENTS = 1 << 15 };
#else
enum { BIG_ELEMENTS = 1 << 23 };
#endif
static const size_t big_blocks[] = {1, 47, 513, 5, 17, 67};

static size_t cols_of(size_t blocks, size_t block)
{
    return blocks == WHOLE ? 16384 : blocks == ALMOST ? 16384 - block : blocks * block;
}

/* Options for a shape. */
static void draw_options(gpu_case *c, uint64_t *state)
{
    const size_t block = case_block(c), unit = 16 / host_dtype_bytes(c->dtype);
    const size_t gaps[] = {0, 0, unit, 5 * unit, c->cols};
    const size_t wider[] = {0, 0, block, 4 * block, (0 - c->cols) % 128};
    const int is_small = c->rows * c->cols <= 1000000;

    if (c->columns) {
        c->row_stride = (c->rows + 3) / 4 * 4 + 4 * host_below(state, 3);
    } else {
        c->row_stride = (c->cols + unit - 1) / unit * unit + gaps[host_below(state, 5)];
        c->q_cols = c->cols + wider[host_below(state, 5)];
        c->batches = is_small && host_below(state, 3) == 0 ? 3 : c->batches;
        c->batch_stride = c->rows * c->row_stride + unit * host_below(state, 3);
    }
    c->shift = host_below(state, 4);
    c->pdl = (int)host_below(state, 2);
    c->global = (cases_scale)host_below(state, SCALE_KINDS);
    c->is_dec = (int)host_below(state, 2);
    c->scale = host_random_scale(state, -10, 14);
    c->x_dec_from = (cases_scale)host_below(state, 2);
    if (c->columns) {
        c->global = c->global > SCALE_ROWS ? SCALE_ROWS : c->global;
        c->x_dec_from = SCALE_HOST;
    } else if (c->batches > 1 && host_below(state, 2)) {
        c->x_dec_from = SCALE_BATCHES;
    }
    c->x_dec = host_random_scale(state, -6, 6);
}

static void run_drawn(gpu_case c, const uint8_t *pool, uint64_t *state)
{
    uint8_t *x;

    draw_options(&c, state);
    x = case_x_of_pool(&c, pool, POOL_ROWS, state);
    case_run(&c, x);
    free(x);
}

static void run_shapes(fp4_dtype dtype, fp4_format format, int columns)
{
    const int few = gpu_is_reduced() || columns;
    const size_t row_count =
        few ? sizeof few_rows / sizeof few_rows[0] : sizeof all_rows / sizeof all_rows[0];
    const size_t block_count =
        few ? sizeof few_blocks / sizeof few_blocks[0] : sizeof all_blocks / sizeof all_blocks[0];
    const int random_cases = gpu_is_reduced() ? 3 : RANDOM_CASES;
    const size_t big_count = columns || gpu_is_reduced() ? 3 : sizeof big_blocks / sizeof(size_t);
    const size_t block = fp4_format_block(format);
    uint8_t *pool = cases_pool(dtype, POOL_ROWS);
    uint64_t state = 1000u * (unsigned)dtype + 100u * (unsigned)format + (unsigned)columns;

    for (int layout = 0; layout < 3; layout++) {
        gpu_case c = case_of(dtype, format, (fp4_layout)layout, 0, 0);
        c.columns = columns;
        for (size_t i = 0; i < big_count; i++) {
            c.cols = c.q_cols = big_blocks[i] * block;
            c.batches = columns ? 1 : 1 + i % 2 * 2;
            c.rows = BIG_ELEMENTS / c.cols / c.batches + 3;
            run_drawn(c, pool, &state);
        }
        c.batches = 1;
        if (columns) { /* a tile more than CTAs go through at a time */
            c.rows = 8193;
            c.cols = c.q_cols = block;
            run_drawn(c, pool, &state);
        }
        for (size_t i = 0; i < row_count; i++) {
            for (size_t j = 0; j < block_count; j++) {
                c.rows = (few ? few_rows : all_rows)[i];
                c.cols = c.q_cols = cols_of((few ? few_blocks : all_blocks)[j], block);
                run_drawn(c, pool, &state);
            }
        }
        for (int i = 0; i < random_cases; i++) {
            c.rows = host_below(&state, 400);
            c.cols = c.q_cols = block * (1 + host_below(&state, 100));
            run_drawn(c, pool, &state);
        }
    }
    free(pool);
}

#define SHAPES(name, dtype, format) \
    GPU_TEST(launch_shapes, name) \
    { \
        run_shapes(dtype, format, 0); \
    }

SHAPES(f32_to_nvfp4, FP4_F32, FP4_NVFP4)
SHAPES(f32_to_mxfp4, FP4_F32, FP4_MXFP4)
SHAPES(f32_to_mxfp8, FP4_F32, FP4_MXFP8)
SHAPES(f16_to_nvfp4, FP4_F16, FP4_NVFP4)
SHAPES(f16_to_mxfp4, FP4_F16, FP4_MXFP4)
SHAPES(f16_to_mxfp8, FP4_F16, FP4_MXFP8)
SHAPES(bf16_to_nvfp4, FP4_BF16, FP4_NVFP4)
SHAPES(bf16_to_mxfp4, FP4_BF16, FP4_MXFP4)
SHAPES(bf16_to_mxfp8, FP4_BF16, FP4_MXFP8)
SHAPES(e4m3_to_nvfp4, FP4_E4M3, FP4_NVFP4)
SHAPES(e4m3_to_mxfp4, FP4_E4M3, FP4_MXFP4)
SHAPES(e4m3_to_mxfp8, FP4_E4M3, FP4_MXFP8)

#define COLUMNS(name, dtype) \
    GPU_TEST(launch_columns, name) \
    { \
        for (int format = 0; format < 3; format++) { \
            run_shapes(dtype, (fp4_format)format, 1); \
        } \
    }

COLUMNS(f32, FP4_F32)
COLUMNS(f16, FP4_F16)
COLUMNS(bf16, FP4_BF16)
COLUMNS(e4m3, FP4_E4M3)

/* Sizes that leave nothing to do: success, whatever else is given. */
GPU_TEST(launch_shapes, nothing_to_do)
{
    launch_args none;

    memset(&none, 0, sizeof none);
    for (size_t i = 0; i < 36; i++) {
        for (int zero = 0; zero < 3; zero++) {
            none.batches = zero != 0;
            none.rows = zero != 1;
            none.cols = none.q_cols = none.row_stride = zero == 2 ? 0 : 32;
            CHECK_EQ(cases_rows[i](&none, zero % 2, 0), cudaSuccess, "launcher %zu, zero %d", i,
                     zero);
            if (zero != 0) {
                CHECK_EQ(cases_columns[i](&none, zero % 2, 0), cudaSuccess,
                         "column-major launcher %zu, zero %d", i, zero);
            }
        }
    }
    CHECK_EQ(cudaPeekAtLastError(), cudaSuccess, "after launching nothing");
    gpu_finish("after launching nothing");
}
