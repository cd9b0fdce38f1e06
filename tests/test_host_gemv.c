/*
 * fp4/host/gemv.h: against a second implementation, which takes one element after the other, in
 * double and 64-bit integers; and against the product in double, from which it may be as far off as
 * the head of gemv.h says.
 */
#include <fp4/host/gemv.h>

#include "host_util.h"

static const fp4_layout layouts[] = {FP4_LAYOUT_128X4, FP4_LAYOUT_8X4, FP4_LAYOUT_LINEAR};
static const fp4_format formats[] = {FP4_NVFP4, FP4_MXFP4, FP4_NVFP4_32, FP4_MXFP4_16};
static const char *const format_names[] = {"NVFP4", "MXFP4", "MXFP8", "NVFP4/32", "MXFP4/16"};
static const char *const dtype_names[] = {"f32", "f16", "bf16"};

typedef struct gemv_case {
    fp4_format format;
    fp4_layout layout;
    fp4_dtype input, output;
    size_t rows, cols, shift; /* bytes by which x and y miss alignment */
    host_data data;
    int ends;     /* scale bytes of every kind, else such as keep the sums in range */
    int row_decs; /* a scale a row */
    uint64_t seed;
} gemv_case;

static const char *gemv_text(const gemv_case *c)
{
    static char text[256];

    snprintf(text, sizeof text,
             "%s times %s to %s, layout %d, %zu x %zu, shift %zu, data %d, ends %d, row_decs %d, "
             "seed %llu",
             format_names[c->format], dtype_names[c->input], dtype_names[c->output], (int)c->layout,
             c->rows, c->cols, c->shift, (int)c->data, c->ends, c->row_decs,
             (unsigned long long)c->seed);
    return text;
}

static int is_nvfp4(const gemv_case *c)
{
    return c->format == FP4_NVFP4 || c->format == FP4_NVFP4_32;
}

static size_t block_of(const gemv_case *c)
{
    return c->format == FP4_NVFP4 || c->format == FP4_MXFP4_16 ? 16 : 32;
}

/* ---------------------------------------------------------------- operands */

/* Operands in memory of their own, each exactly as long as it is; and scale bytes row-major. */
typedef struct gemv_operands {
    host_buffer q, sf, row_dec, x;
    uint8_t *linear;
    fp4_tensor t;
    fp4_matrix m;
} gemv_operands;

static uint8_t scale_byte(const gemv_case *c, uint64_t *state)
{
    if (c->ends) {
        return (uint8_t)host_random(state);
    }
    return (uint8_t)(is_nvfp4(c) ? 0x28 + host_below(state, 0x20) : 118 + host_below(state, 16));
}

static gemv_operands operands_new(const gemv_case *c)
{
    const size_t sf_cols = c->cols / block_of(c);
    uint64_t state = c->seed;
    gemv_operands o;

    o.q = host_buffer_new(c->rows * c->cols / 2, 0);
    o.sf = host_buffer_new(host_sf_bytes(c->layout, c->rows, sf_cols), 0);
    o.row_dec = host_buffer_new(c->rows * sizeof(float), 0);
    o.x = host_buffer_new(c->cols * host_dtype_bytes(c->input), c->shift);
    o.linear = (uint8_t *)host_zeros(c->rows * sf_cols);
    for (size_t i = 0; i < o.q.size; i++) {
        o.q.bytes[i] = (uint8_t)host_random(&state);
    }
    for (size_t i = 0; i < c->rows * sf_cols; i++) {
        o.linear[i] = scale_byte(c, &state);
    }
    host_place_scales(o.sf.bytes, c->layout, o.linear, c->rows, sf_cols);
    for (size_t row = 0; row < c->rows; row++) {
        const float dec = host_random_scale(&state, -8, 4);
        memcpy(o.row_dec.bytes + row * sizeof(float), &dec, sizeof dec);
    }
    o.m = (fp4_matrix){o.x.bytes, c->input, 1, c->cols, c->cols, 1.0f};
    host_fill(o.x.bytes, o.m, &state, c->data, 16);
    o.t = fp4_tensor_view(c->format, c->layout, c->rows, c->cols, o.q.bytes, o.q.size, o.sf.bytes,
                          o.sf.size);
    o.t.global_dec = is_nvfp4(c) ? host_random_scale(&state, -8, 4) : 1.0f;
    if (c->row_decs) {
        o.t.row_dec = (float *)(void *)o.row_dec.bytes;
        o.t.row_dec_bytes = o.row_dec.size;
    }
    return o;
}

static void operands_free(gemv_operands o, const gemv_case *c)
{
    host_buffer_free(o.q, gemv_text(c));
    host_buffer_free(o.sf, gemv_text(c));
    host_buffer_free(o.row_dec, gemv_text(c));
    host_buffer_free(o.x, gemv_text(c));
    free(o.linear);
}

static float code_at(const gemv_operands *o, size_t row, size_t col)
{
    return host_e2m1(host_code_at(&o->t, row * o->t.cols + col));
}

static float scale_at(const gemv_case *c, const gemv_operands *o, size_t row, size_t col)
{
    const uint8_t sf = o->linear[row * (c->cols / block_of(c)) + col / block_of(c)];
    return is_nvfp4(c) ? host_e4m3(sf) : host_e8m0(sf);
}

static float dec_of(const gemv_operands *o, size_t row)
{
    return o->t.row_dec != NULL ? o->t.row_dec[row] : o->t.global_dec;
}

/* ---------------------------------------------------------------- the naive product */

/* What the elements of a piece are counted in. */
static double unit_of(const gemv_operands *o, size_t first)
{
    float amax = 0;
    int exponent = -96;

    for (size_t i = 0; i < 16; i++) {
        amax = fmaxf(amax, fabsf(host_element(&o->m, 0, first + i)));
    }
    if (amax >= 0x1p-97f && isfinite(amax)) {
        frexp((double)amax, &exponent);
    }
    return oracle_power(exponent - 1 - 21);
}

static float naive_piece(const gemv_case *c, const gemv_operands *o, size_t row, size_t first,
                         float sum)
{
    const double unit = unit_of(o, first);
    int64_t s = 0;

    for (size_t i = first; i < first + 16; i++) {
        if (!isfinite(host_element(&o->m, 0, i))) {
            return NAN;
        }
    }
    for (size_t i = first; i < first + 16; i++) {
        const double x = (double)host_element(&o->m, 0, i);
        s += (int64_t)(2 * code_at(o, row, i)) * (int64_t)rint(x / unit);
    }
    return fmaf((float)((double)(float)s * (unit / 256)), scale_at(c, o, row, first), sum);
}

/* All lanes at once; they must agree in the end. */
static float naive_butterfly(float *lanes)
{
    float before[32];

    for (size_t step = 16; step > 0; step /= 2) {
        memcpy(before, lanes, sizeof before);
        for (size_t lane = 0; lane < 32; lane++) {
            lanes[lane] = (float)((double)before[lane] + (double)before[lane ^ step]);
        }
    }
    return lanes[0];
}

static uint32_t naive_round(fp4_dtype dtype, float value)
{
    const uint32_t bits = host_bits_of(value), sign = bits >> 31 << 15;

    if (dtype == FP4_F32) {
        return isnan(value) ? 0x7fffffffu : bits;
    }
    if (isnan(value)) {
        return 0x7fffu;
    }
    return sign |
           oracle_nearest(dtype == FP4_F16 ? oracle_f16() : oracle_bf16(), oracle_magnitude(bits));
}

static uint32_t naive_element(const gemv_case *c, const gemv_operands *o, size_t row)
{
    float lanes[32] = {0};

    for (size_t piece = 0; piece < c->cols / 16; piece++) {
        float *lane = &lanes[piece / 4 % 32];
        *lane = naive_piece(c, o, row, 16 * piece, *lane);
    }
    return naive_round(c->output,
                       host_mul(host_mul(naive_butterfly(lanes), 128.0f), dec_of(o, row)));
}

static uint32_t y_bits(const gemv_case *c, host_buffer y, size_t row)
{
    const size_t size = host_dtype_bytes(c->output);
    uint32_t bits = 0;

    memcpy(&bits, y.bytes + row * size, size);
    return c->output == FP4_F32 && isnan(host_bits(bits)) ? 0x7fffffffu : bits;
}

static host_buffer multiplied(const gemv_case *c, const gemv_operands *o)
{
    const host_buffer y = host_buffer_new(c->rows * host_dtype_bytes(c->output), c->shift);

    CHECK_EQ(fp4_ref_gemv(&o->t, o->m, c->output, y.bytes, y.size), FP4_OK, "%s", gemv_text(c));
    return y;
}

static void check_equal(const gemv_case *c)
{
    const gemv_operands o = operands_new(c);
    const host_buffer y = multiplied(c, &o);

    for (size_t row = 0; row < c->rows; row++) {
        CHECK_EQ(y_bits(c, y, row), naive_element(c, &o, row), "row %zu, %s", row, gemv_text(c));
    }
    host_buffer_free(y, gemv_text(c));
    operands_free(o, c);
}

Test(host_gemv, equals_the_naive_one)
{
    static const size_t rows[] = {1, 2, 9, 130}, cols[] = {32, 64, 96, 512, 544, 2080, 8256};
    uint64_t seed = 1;

    for (size_t i = 0; i < 4 * 3 * 3; i++) {
        for (size_t shape = 0; shape < 4 * 7; shape++) {
            const gemv_case c = {formats[i % 4],
                                 layouts[seed % 3],
                                 (fp4_dtype)(i / 4 % 3),
                                 (fp4_dtype)(i / 12),
                                 rows[shape / 7],
                                 cols[shape % 7],
                                 seed % 5,
                                 (host_data)(seed / 2 % HOST_DATA),
                                 seed % 4 == 3,
                                 seed % 6 == 5,
                                 seed};
            seed++;
            if (c.rows * c.cols < 200000 || i % 5 == 0) {
                check_equal(&c);
            }
        }
    }
}

/* ---------------------------------------------------------------- accuracy */

/* How far an element of y may be from the product. What is added up is at most `sum`:

       elements     half a unit each, times code and scale
       piece sums   one rounding; so many additions in a lane, five of lanes, and one product
       underflow    of what is added: far below 2^-100
       y            half a unit in the last place of its type */
static double bound_of(const gemv_case *c, const gemv_operands *o, size_t row, double y)
{
    static const double half_ulps[] = {0.0, 0x1p-11, 0x1p-8}, smallest[] = {0.0, 0x1p-25, 0x1p-134};
    const size_t in_lane = (c->cols / 16 + 127) / 128 * 4;
    double elements = 0, sum = 0;

    for (size_t i = 0; i < c->cols; i++) {
        const double weight = fabs((double)code_at(o, row, i) * (double)scale_at(c, o, row, i));
        elements += weight * unit_of(o, i / 16 * 16) / 2;
        sum += weight * fabs((double)host_element(&o->m, 0, i));
    }
    return (elements + (double)(in_lane + 6) * 0x1p-24 * (sum + elements) + 0x1p-100) *
               (double)dec_of(o, row) * (1 + 0x1p-20) +
           (0x1p-24 + half_ulps[c->output]) * fabs(y) + smallest[c->output] + 0x1p-149;
}

static void check_accuracy(const gemv_case *c)
{
    static const double largest[] = {0x1.fffffep127, 65504.0, 0x1.fep127};
    const gemv_operands o = operands_new(c);
    const host_buffer y = multiplied(c, &o);
    const fp4_matrix of_y = {y.bytes, c->output, 1, c->rows, c->rows, 1.0f};

    for (size_t row = 0; row < c->rows; row++) {
        const double got = (double)host_element(&of_y, 0, row);
        double exact = 0, sum = 0; /* to 2^-52 of what is added up */
        for (size_t i = 0; i < c->cols; i++) {
            const double product = (double)host_element(&o.m, 0, i) * (double)code_at(&o, row, i) *
                                   (double)scale_at(c, &o, row, i);
            exact += product;
            sum += fabs(product);
        }
        exact *= (double)dec_of(&o, row);
        if (fabs(exact) < largest[c->output] / 2 && sum < 0x1p127) { /* nothing overflows */
            const double bound = bound_of(c, &o, row, exact);
            CHECK(fabs(got - exact) <= bound,
                  "row %zu: %.9g, exactly %.9g, off by %.3g of %.3g, %s", row, got, exact,
                  fabs(got - exact), bound, gemv_text(c));
        }
    }
    host_buffer_free(y, gemv_text(c));
    operands_free(o, c);
}

Test(host_gemv, is_as_near_to_the_product_as_units_and_sums_allow)
{
    static const size_t cols[] = {32, 64, 512, 2080, 8192, 20480};
    uint64_t seed = 100;

    for (size_t i = 0; i < 4 * 3 * 3; i++) {
        for (size_t k = 0; k < 6 * 3; k++) {
            const gemv_case c = {formats[i % 4],
                                 layouts[seed % 3],
                                 (fp4_dtype)(i / 4 % 3),
                                 (fp4_dtype)(i / 12),
                                 cols[k / 3] > 4096 ? 2 : 7,
                                 cols[k / 3],
                                 0,
                                 (host_data)(k % 3), /* narrow, moderate, wide */
                                 0,
                                 seed % 2 == 1,
                                 seed};
            seed++;
            check_accuracy(&c);
        }
    }
}

/* A single weight of 1 gives the element itself, to half a unit: the largest of the piece to 2^-22,
   all others to the same distance; and whatever has 23 bits or fewer exactly. */
Test(host_gemv, a_weight_of_one_gives_the_element)
{
    enum { COLS = 64 };
    uint8_t q[COLS / 2], sf[COLS / 16];
    float x[COLS], y;
    uint64_t state = 7;

    memset(sf, 0x38, sizeof sf);
    for (int turn = 0; turn < 2000; turn++) {
        const size_t at = host_below(&state, COLS);
        fp4_tensor t =
            fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_LINEAR, 1, COLS, q, sizeof q, sf, sizeof sf);
        double amax = 0;
        t.global_dec = 1.0f;
        memset(q, 0, sizeof q);
        q[at / 2] = (uint8_t)(at % 2 ? 0x20 : 0x02);
        for (size_t i = 0; i < COLS; i++) {
            x[i] = host_random_scale(&state, -100, 100) * (host_random(&state) & 1u ? 1.0f : -1.0f);
            if (turn % 2) { /* all within a few binades, with mantissas of ones in between */
                x[i] = host_bits((host_bits_of(x[i]) & 0x807fffffu) |
                                 (120 + host_below(&state, 4)) << 23 |
                                 (host_below(&state, 4) ? 0 : 0x7fffffu));
            }
            amax = i / 16 == at / 16 ? fmax(amax, fabs((double)x[i])) : amax;
        }
        CHECK_EQ(fp4_ref_gemv(&t, fp4_matrix_f32(x, 1, COLS, COLS), FP4_F32, &y, sizeof y), FP4_OK,
                 "gemv");
        CHECK(fabs((double)y - (double)x[at]) <= amax * 0x1p-22, "turn %d: %a of %a among %a", turn,
              (double)y, (double)x[at], amax);
    }
}

Test(host_gemv, a_product_that_can_be_computed_by_hand)
{
    uint8_t q[32], sf[] = {0x38, 0x40, 0x30, 0xb8}; /* 1, 2, 0.5, -1 */
    fp4_tensor t = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_LINEAR, 1, 64, q, sizeof q, sf, sizeof sf);
    float x[64], y = 0;

    memset(q, 0x42, sizeof q); /* 1, 2, 1, 2, ... */
    for (int i = 0; i < 64; i++) {
        x[i] = (float)(i % 16 + 1);
    }
    t.global_dec = 0.25f;
    CHECK_EQ(fp4_ref_gemv(&t, fp4_matrix_f32(x, 1, 64, 64), FP4_F32, &y, sizeof y), FP4_OK, "gemv");
    CHECK(y == (64.0f + 2 * 72.0f) * (1 + 2 + 0.5f - 1) * 0.25f, "%a", (double)y);
}

/* Scales and units at opposite ends of the range: the sum over a piece meets the unit first. */
Test(host_gemv, scales_far_from_one)
{
    static const struct {
        uint8_t sf, code;
        float x, y;
    } cases[] = {{254, 0x0, 0x1p23f, 0.0f},
                 {254, 0x1, 0x1p-90f, 64 * 0x1p36f},
                 {17, 0x7, 0x1p-18f, 64 * 6 * 0x1p-128f},
                 {0, 0x2, 0x1p127f, 64.0f}, /* 2^-127 */
                 {0, 0x7, 0x1p127f, 64 * 6.0f}};
    uint8_t q[32], sf[2];
    float x[64], y;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fp4_tensor t =
            fp4_tensor_view(FP4_MXFP4, FP4_LAYOUT_LINEAR, 1, 64, q, sizeof q, sf, sizeof sf);
        memset(q, cases[i].code * 0x11, sizeof q);
        memset(sf, cases[i].sf, sizeof sf);
        for (int col = 0; col < 64; col++) {
            x[col] = col / 16 % 2 == 0 ? cases[i].x : 0.0f;
        }
        CHECK_EQ(fp4_ref_gemv(&t, fp4_matrix_f32(x, 1, 64, 64), FP4_F32, &y, sizeof y), FP4_OK,
                 "gemv");
        CHECK(y == cases[i].y / 2, "case %zu: %a, not %a", i, (double)y, (double)cases[i].y / 2);
    }
}

/* ---------------------------------------------------------------- range */

enum { ROWS = 5, COLS = 96 };

/* A product of ROWS x COLS ones in NVFP4, for a test to change and call. */
typedef struct world {
    float x[COLS], row_dec[ROWS];
    uint8_t q[ROWS * COLS / 2], sf[ROWS * COLS / 16], y[ROWS * sizeof(float)];
    fp4_tensor t;
    fp4_matrix m;
    fp4_dtype dtype;
    void *to;
    size_t y_bytes;
} world;

static void world_reset(world *w)
{
    memset(w, 0, sizeof *w);
    memset(w->q, 0x22, sizeof w->q);
    memset(w->sf, 0x38, sizeof w->sf);
    memset(w->y, 0x7f, sizeof w->y);
    for (size_t i = 0; i < COLS; i++) {
        w->x[i] = 1.0f;
    }
    for (size_t row = 0; row < ROWS; row++) {
        w->row_dec[row] = (float)row;
    }
    w->t = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_LINEAR, ROWS, COLS, w->q, sizeof w->q, w->sf,
                           sizeof w->sf);
    w->t.global_dec = 1.0f;
    w->m = fp4_matrix_f32(w->x, 1, COLS, COLS);
    w->dtype = FP4_F32;
    w->to = w->y;
    w->y_bytes = sizeof w->y;
}

static fp4_status world_call(world *w)
{
    return fp4_ref_gemv(&w->t, w->m, w->dtype, w->to, w->y_bytes);
}

static float world_y(const world *w, size_t row)
{
    float y;

    memcpy(&y, w->y + row * sizeof y, sizeof y);
    return y;
}

Test(host_gemv, nan_infinity_overflow_and_zero)
{
    static const float no_numbers[] = {NAN, INFINITY, -INFINITY};
    world w;

    for (size_t i = 0; i < 3; i++) {
        world_reset(&w);
        memset(w.q, 0, sizeof w.q); /* even times zero */
        w.t.global_dec = 0.0f;
        w.x[40 + i] = no_numbers[i];
        CHECK_EQ(world_call(&w), FP4_OK, "gemv");
        for (size_t row = 0; row < ROWS; row++) {
            CHECK_EQ(host_bits_of(world_y(&w, row)), 0x7fffffffu, "x of %f, row %zu",
                     (double)no_numbers[i], row);
        }
    }
    world_reset(&w);
    w.sf[2 * COLS / 16 + 1] = 0x7f;
    CHECK_EQ(world_call(&w), FP4_OK, "gemv");
    for (size_t row = 0; row < ROWS; row++) {
        CHECK(row == 2 ? isnan(world_y(&w, row)) : world_y(&w, row) == (float)COLS, "row %zu", row);
    }
    world_reset(&w);
    for (size_t i = 0; i < COLS; i++) {
        w.x[i] = -FP4_F32_MAX;
    }
    CHECK_EQ(world_call(&w), FP4_OK, "gemv");
    CHECK(world_y(&w, 0) == -INFINITY, "%a", (double)world_y(&w, 0));
    w.dtype = FP4_F16;
    w.t.global_dec = 0x1p-120f; /* 96 * 2^8, but the sum has no end */
    CHECK_EQ(world_call(&w), FP4_OK, "gemv");
    CHECK_EQ(w.y[0] | w.y[1] << 8, 0xfc00, "f16");
    world_reset(&w);
    memset(w.x, 0, sizeof w.x);
    memset(w.sf, 0xb8, sizeof w.sf);
    CHECK_EQ(world_call(&w), FP4_OK, "gemv");
    CHECK_EQ(host_bits_of(world_y(&w, 3)), 0, "zeros");
}

Test(host_gemv, a_scale_a_row)
{
    world w;

    world_reset(&w);
    w.t.row_dec = w.row_dec;
    w.t.row_dec_bytes = sizeof w.row_dec;
    w.t.global_dec = NAN; /* not looked at */
    CHECK_EQ(world_call(&w), FP4_OK, "gemv");
    for (size_t row = 0; row < ROWS; row++) {
        CHECK(world_y(&w, row) == (float)(row * COLS), "row %zu", row);
    }
}

/* ---------------------------------------------------------------- what is refused */

static void refuses(world *w, fp4_status status, const char *what)
{
    CHECK_EQ(world_call(w), status, "%s", what);
    for (size_t i = 0; i < sizeof w->y; i++) {
        CHECK_EQ(w->y[i], 0x7f, "%s: byte %zu was written", what, i);
    }
    world_reset(w);
}

#define REFUSES(status, what, change) \
    do { \
        change; \
        refuses(&w, status, what); \
    } while (0)

Test(host_gemv, what_is_bad_is_refused_and_nothing_is_written)
{
    static const float bad[] = {-1.0f, -0.0f, INFINITY, NAN};
    static const float bad_row[] = {-1.0f, NAN};
    world w;

    world_reset(&w);
    CHECK_EQ(fp4_ref_gemv(NULL, w.m, w.dtype, w.y, w.y_bytes), FP4_NULL, "no tensor");
    REFUSES(FP4_NULL, "no q", w.t.q = NULL);
    REFUSES(FP4_NULL, "no sf", w.t.sf = NULL);
    REFUSES(FP4_NULL, "no x", w.m.data = NULL);
    REFUSES(FP4_NULL, "no y", w.to = NULL);
    REFUSES(FP4_SMALL_BUFFER, "q", w.t.q_bytes--);
    REFUSES(FP4_SMALL_BUFFER, "sf", w.t.sf_bytes--);
    REFUSES(FP4_SMALL_BUFFER, "y", w.y_bytes--);
    REFUSES(FP4_SMALL_BUFFER, "row_dec", w.t.row_dec = w.row_dec;
            w.t.row_dec_bytes = sizeof w.row_dec - 1);
    REFUSES(FP4_BAD_TYPE, "MXFP8", w.t.format = FP4_MXFP8);
    REFUSES(FP4_BAD_TYPE, "an unknown format", w.t.format = (fp4_format)5);
    REFUSES(FP4_BAD_TYPE, "an unknown layout", w.t.layout = (fp4_layout)3);
    REFUSES(FP4_BAD_TYPE, "x of e4m3", w.m.dtype = FP4_E4M3);
    REFUSES(FP4_BAD_TYPE, "an unknown type of x", w.m.dtype = (fp4_dtype)4);
    REFUSES(FP4_BAD_TYPE, "y of e4m3", w.dtype = FP4_E4M3);
    REFUSES(FP4_BAD_TYPE, "an unknown type of y", w.dtype = (fp4_dtype)4);
    REFUSES(FP4_BAD_SHAPE, "two vectors", w.m.rows = 2);
    REFUSES(FP4_BAD_SHAPE, "no vector", w.m.rows = 0);
    REFUSES(FP4_BAD_SHAPE, "a short vector", w.m.cols = w.m.row_stride = COLS - 16);
    REFUSES(FP4_BAD_SHAPE, "a long vector", w.m.cols = w.m.row_stride = COLS + 16);
    REFUSES(FP4_BAD_SHAPE, "half a block", w.m.cols = w.m.row_stride = w.t.cols = COLS - 8);
    REFUSES(FP4_BAD_SHAPE, "sizes that overflow", w.t.rows = SIZE_MAX / 64);
    REFUSES(FP4_BAD_STRIDE, "a stride below the columns", w.m.row_stride = COLS - 1);
    for (size_t i = 0; i < sizeof bad / sizeof(float); i++) {
        REFUSES(FP4_BAD_SCALE, "global_dec", w.t.global_dec = bad[i]);
    }
    for (size_t i = 0; i < sizeof bad_row / sizeof(float); i++) {
        REFUSES(FP4_BAD_SCALE, "row_dec", w.t.row_dec = w.row_dec;
                w.t.row_dec_bytes = sizeof w.row_dec; w.row_dec[ROWS - 1] = bad_row[i]);
    }
}

Test(host_gemv, no_rows_are_fine_and_no_columns_give_zeros)
{
    float not_read = NAN;
    world w;

    world_reset(&w);
    w.t.rows = 0;
    w.to = NULL;
    w.t.q = w.t.sf = NULL;
    refuses(&w, FP4_OK, "no rows");
    w.t.cols = w.m.cols = 0;
    w.m.data = NULL;
    w.t.q = w.t.sf = NULL;
    w.t.row_dec = &not_read; /* as many as there are codes for */
    w.t.row_dec_bytes = 0;
    CHECK_EQ(world_call(&w), FP4_OK, "no columns");
    for (size_t row = 0; row < ROWS; row++) {
        CHECK_EQ(host_bits_of(world_y(&w, row)), 0, "no columns, row %zu", row);
    }
}
