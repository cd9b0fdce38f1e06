/*
 * tests/gpu/test_fused_large.c - the fused launchers where indices pass 2^31 elements and 2^32
 * bytes, as test_launch_large.c has it: the rows repeat themselves with a period that divides no
 * power of two, the host twin computes one period, the device compares all bytes. Needs up to 24 GB
 * of device memory.
 */
#include "fused.h"

enum { TILE_ROWS = 128, PERIOD = 15 * TILE_ROWS };

/* Differences between what a buffer holds and its first period, on the device. */
static void expect_periods(const fused_case *c, fused_buffer which, gpu_buffer b, size_t bytes,
                           const uint8_t *own, size_t own_bytes)
{
    const gpu_buffer period = gpu_buffer_of(own, own_bytes, 0), found = gpu_differences_new(1);
    gpu_difference d;

    GPU_OK(gpu_compare(b.bytes, period.bytes, bytes, own_bytes, 0, gpu_difference_at(found, 0)));
    gpu_download(&d, found);
    CHECK_EQ(d.count, 0, "%s: bytes of %s that differ, the first at %llu", fused_text(c),
             fused_buffer_name[which], d.first);
    gpu_buffer_free(period);
    gpu_buffer_free(found);
}

/* The scales: whole tiles by period, and what is left of them from there on, with its padding. */
static void expect_scales(const fused_case *c, gpu_buffer b, const fused_expected *e)
{
    const size_t sf_cols = fused_sf_cols(c), whole = c->rows / TILE_ROWS * TILE_ROWS;
    const size_t row_sf = fp4_sf_cols_padded(c->layout, sf_cols), left = c->rows - whole;
    const size_t n = fp4_sf_bytes(c->layout, left, sf_cols);
    uint8_t *period = (uint8_t *)host_zeros(PERIOD * row_sf), *tail = (uint8_t *)host_zeros(n);
    uint8_t *got = (uint8_t *)host_zeros(n);

    cr_assert(whole % PERIOD + left <= PERIOD);
    host_place_scales(period, c->layout, e->out[FUSED_SF_LINEAR], PERIOD, sf_cols);
    expect_periods(c, FUSED_SF, b, whole * row_sf, period, PERIOD * row_sf);
    host_place_scales(tail, c->layout, e->out[FUSED_SF_LINEAR] + whole % PERIOD * sf_cols, left,
                      sf_cols);
    GPU_OK(cudaMemcpy(got, b.bytes + whole * row_sf, n, cudaMemcpyDeviceToHost));
    host_expect_bytes(got, tail, n, fused_text(c));
    free(period);
    free(tail);
    free(got);
}

static void run_large(fused_case c)
{
    const fused_pool pool = fused_pool_new(c.unit->dtype);
    fused_case own;
    fused_operands o;
    fused_expected e;
    fused_device d;
    uint64_t state = c.rows;

    c.period = PERIOD;
    own = c;
    own.rows = PERIOD;
    o = fused_operands_of_pool(&own, &pool, &state);
    e = fused_expected_new(&own, &o);
    d = fused_device_new(&c, &o);
    fused_poison(&d, 0x7f);
    fused_launch(&c, &d.args, 0);
    for (int i = FUSED_RESIDUAL; i < FUSED_GLOBAL; i++) {
        const fused_buffer which = (fused_buffer)i;
        if (which == FUSED_SF) {
            expect_scales(&c, d.b[i], &e);
        } else if (fused_has(&c, which)) {
            expect_periods(&c, which, d.b[i], d.b[i].size, e.out[i],
                           PERIOD * fused_row_stride(&c, which));
        }
    }
    fused_expect_rest(&c, &d, &o);
    fused_device_free(d);
    fused_expected_free(e);
    fused_operands_free(o);
    fused_pool_free(pool);
}

/* The launcher of an operation for bf16 and NVFP4: of a type whose NaN has one pattern. */
static const fused_unit *bf16_to_nvfp4(fused_op op)
{
    for (size_t i = 0; i < FUSED_UNITS; i++) {
        const fused_unit *u = &fused_units[i];
        if (u->op == op && u->dtype == FP4_BF16 && u->format == FP4_NVFP4) {
            return u;
        }
    }
    cr_assert_fail("no launcher for operation %d", (int)op);
    return NULL;
}

/* 2,149,588,992 elements: passes 2^31 elements and 2^32 bytes in row 262,144. And few elements far
   apart: the last row starts beyond 2^32 elements. */
static void run_beyond(fused_op op)
{
    for (int layout = 0; layout < 3; layout++) {
        fused_case c = fused_case_of(bf16_to_nvfp4(op), (fp4_layout)layout, 262401, 8192);
        c.has_y = layout == 2 && op != FUSED_token;
        c.has_sf_linear = layout == 2;
        run_large(c);
        c = fused_case_of(c.unit, (fp4_layout)layout, 70001, 64);
        c.x_stride = 65536;
        c.residual_stride = layout == 0 ? 65536 : 64;
        run_large(c);
    }
}

#define BEYOND(name, op) \
    Test(launch_large, name, .init = gpu_begin, .timeout = 300) \
    { \
        run_beyond(op); \
    }

BEYOND(rmsnorm_beyond_2_31, FUSED_rmsnorm)
BEYOND(add_rmsnorm_beyond_2_31, FUSED_add_rmsnorm)
BEYOND(silu_beyond_2_31, FUSED_silu)
BEYOND(per_token_beyond_2_31, FUSED_token)

/* Two rows of 2^24 columns and a bit, in all three ways. */
GPU_TEST(launch_large, wide_rows_of_fused_kernels)
{
    static const fused_op ops[] = {FUSED_rmsnorm, FUSED_silu, FUSED_token};
    const fused_pool pool = fused_pool_new(FP4_BF16);
    uint64_t state = 2;

    for (size_t i = 0; i < 9; i++) {
        fused_case c = fused_case_of(bf16_to_nvfp4(ops[i / 3]), (fp4_layout)(i % 3), 2,
                                     ((size_t)1 << 24) + 32);
        fused_operands o;
        c.x_stride += 8;
        o = fused_operands_of_pool(&c, &pool, &state);
        fused_run(&c, &o);
        fused_operands_free(o);
    }
    fused_pool_free(pool);
}
