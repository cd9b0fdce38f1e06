/*
 * tests/gpu/test_experts_large.c - 10_experts with codes beyond 2^34 bytes and scales beyond 2^31:
 * the rows of a first expert, of a last one that are so far away, and none of x in between. Needs
 * 20 GB of device memory.
 */
#include "experts.h"

enum { ROWS = 540000, COLS = 65536, SOURCES = 16, SEEN = 5, GROUPS = 3 };

static const size_t q_row = COLS / 2, sf_block = COLS / 16 * 128;

/* Scale rows in front of the last expert. */
static const size_t last_start = 128 + (ROWS - 2 * SEEN + 127) / 128 * 128;

/* The few rows that are seen as a case of their own, an expert in between. */
static experts_case few_rows(void)
{
    experts_case c = experts_case_of(&experts_units[0], 1, GROUPS, GROUPS * SEEN, COLS);

    cr_assert(c.unit->format == FP4_NVFP4 && c.unit->activation == FP4_ACTIVATION_NONE);
    c.x_rows = SOURCES;
    c.has_sources = 1;
    c.sf_rows = GROUPS * 128;
    return c;
}

/* The sources of all rows: those in between have none. */
static gpu_buffer far_sources(const experts_operands *o)
{
    int32_t *all = (int32_t *)host_zeros(ROWS * sizeof(int32_t));
    gpu_buffer b;

    for (size_t row = 0; row < ROWS; row++) {
        all[row] = row < SEEN          ? o->sources[row]
                   : row < ROWS - SEEN ? -1
                                       : o->sources[row - ROWS + GROUPS * SEEN];
    }
    b = gpu_buffer_of(all, ROWS * sizeof(int32_t), 0);
    free(all);
    return b;
}

/* Rows `from` on of q, and the block of sf that holds their scales, against expert `group` of the
   few. */
static void expect_seen(gpu_buffer q, gpu_buffer sf, size_t from, size_t sf_row,
                        const experts_expected *e, size_t group)
{
    uint8_t *got = (uint8_t *)host_zeros(SEEN * q_row + sf_block);

    GPU_OK(cudaMemcpy(got, q.bytes + from * q_row, SEEN * q_row, cudaMemcpyDeviceToHost));
    host_expect_bytes(got, e->q + group * SEEN * q_row, SEEN * q_row, "codes");
    GPU_OK(cudaMemcpy(got, sf.bytes + sf_row / 128 * sf_block, sf_block, cudaMemcpyDeviceToHost));
    host_expect_bytes(got, e->sf + group * sf_block, sf_block, "scales");
    free(got);
}

GPU_TEST(launch_large, experts)
{
    const int32_t offsets[GROUPS + 1] = {0, SEEN, ROWS - SEEN, ROWS};
    const experts_case c = few_rows();
    uint64_t state = 1090;
    experts_operands o = experts_operands_new(&c, 0, HOST_NARROW, &state);
    gpu_buffer numbers, sources, q, sf;
    experts_expected e;
    experts_device d;

    for (int32_t g = 0; g <= GROUPS; g++) {
        o.numbers[g] = g * SEEN;
    }
    e = experts_expect(&c, &o, 0x7f);
    d = experts_device_new(&c, &o);
    numbers = gpu_buffer_of(offsets, sizeof offsets, 0);
    sources = far_sources(&o);
    q = gpu_buffer_new(ROWS * q_row, 0);
    sf = gpu_buffer_new((last_start + 128) / 128 * sf_block, 0);
    gpu_poison(sf, 0x7f);
    d.args.q = q.bytes;
    d.args.sf = sf.bytes;
    d.args.rows = ROWS;
    d.args.sf_rows = last_start + 128;
    d.args.offsets = (const int32_t *)(const void *)numbers.bytes;
    d.args.sources = (const int32_t *)(const void *)sources.bytes;
    GPU_OK(c.unit->launch(&d.args, 0, 0));
    gpu_finish("launch_large");
    expect_seen(q, sf, 0, 0, &e, 0);
    expect_seen(q, sf, ROWS - SEEN, last_start, &e, GROUPS - 1);
    gpu_expect_guards(q, "codes");
    gpu_expect_guards(sf, "scales");
    gpu_buffer_free(numbers);
    gpu_buffer_free(sources);
    gpu_buffer_free(q);
    gpu_buffer_free(sf);
    experts_expected_free(e);
    experts_device_free(d);
    experts_operands_free(o);
}
