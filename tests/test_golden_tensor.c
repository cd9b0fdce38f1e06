/* The host reference against what other people's quantizers made of the same matrices, byte for
   byte. Where they part, always in a corner, the places are told by a rule and counted.
   golden/README.md says what is whose. */
#include <fp4/host/quant.h>

#include "golden.h"
#include "oracle.h"

static const char *const folders[] = {"t1", "t3", "t4"};
static const char *const dtypes[] = {"f32", "bf16", "f16"};

/* <folder>/input.<dtype>.npy */
static fp4_matrix input_matrix(const char *folder, const char *dtype)
{
    const npy a = golden_load(golden_path("%s/input.%s.npy", folder, dtype),
                              strcmp(dtype, "f32") == 0 ? "<f4" : "<u2");

    cr_assert_eq(a.rank, 2, "%s is not a matrix", golden_path("%s/input.%s.npy", folder, dtype));
    return strcmp(dtype, "f32") == 0 ? fp4_matrix_f32(a.data, a.shape[0], a.shape[1], a.shape[1])
           : strcmp(dtype, "f16") == 0
               ? fp4_matrix_f16(a.data, a.shape[0], a.shape[1], a.shape[1])
               : fp4_matrix_bf16(a.data, a.shape[0], a.shape[1], a.shape[1]);
}

static size_t item(fp4_matrix x)
{
    return x.dtype == FP4_F32 ? 4 : 2;
}

/* Element (row, col) as f32. */
static float element(fp4_matrix x, size_t row, size_t col)
{
    const size_t at = row * x.row_stride + col;
    return x.dtype == FP4_F32    ? ((const float *)x.data)[at]
           : x.dtype == FP4_BF16 ? fp4_bf16_to_f32(((const uint16_t *)x.data)[at])
                                 : fp4_f16_to_f32(((const uint16_t *)x.data)[at]);
}

static fp4_matrix transposed(fp4_matrix x)
{
    uint8_t *to = golden_memory(x.rows * x.cols * item(x), 0);
    const uint8_t *from = x.data;
    fp4_matrix y = x;

    for (size_t r = 0; r < x.rows; r++) {
        for (size_t c = 0; c < x.cols; c++) {
            memcpy(to + (c * x.rows + r) * item(x), from + (r * x.cols + c) * item(x), item(x));
        }
    }
    y.data = to;
    y.rows = x.cols;
    y.cols = x.rows;
    y.row_stride = x.rows;
    return y;
}

/* A bf16 matrix with its subnormals made zeros of their sign, as a GPU does under -ftz=true. */
static fp4_matrix flushed(fp4_matrix x)
{
    uint16_t *to = golden_memory(x.rows * x.cols * 2, 0);
    fp4_matrix y = x;

    for (size_t i = 0; i < x.rows * x.cols; i++) {
        const uint16_t bits = ((const uint16_t *)x.data)[i];
        to[i] = (bits & 0x7f80u) == 0 ? bits & 0x8000u : bits;
    }
    y.data = to;
    return y;
}

/* A tensor to quantize into. Its memory is 0x7f throughout, so that a byte left out shows. */
static fp4_tensor tensor(fp4_format format, fp4_layout layout, size_t rows, size_t cols)
{
    const size_t q_bytes = fp4_q_bytes(format, rows, cols);
    const size_t sf_bytes = fp4_sf_bytes(layout, rows, cols / fp4_format_block(format));

    return fp4_tensor_view(format, layout, rows, cols, golden_memory(q_bytes, 0x7f), q_bytes,
                           golden_memory(sf_bytes, 0x7f), sf_bytes);
}

/* The same with second-level scales for each row. */
static fp4_tensor tensor_of_rows(size_t rows, size_t cols)
{
    fp4_tensor t = tensor(FP4_NVFP4, FP4_LAYOUT_LINEAR, rows, cols);

    t.row_dec_bytes = rows * sizeof(float);
    t.row_dec = golden_memory(t.row_dec_bytes, 0x7f);
    return t;
}

static void same_bytes(const uint8_t *got, size_t count, const char *path)
{
    const uint8_t *expected = golden_data(path, "|u1", count);

    for (size_t i = 0; i < count; i++) {
        CHECK_EQ(got[i], expected[i], "%s: byte %zu", path, i);
    }
}

/* Codes and scale bytes, padding included, of <prefix>.codes.npy and <prefix>.sf.npy. */
static void same_tensor(const fp4_tensor *t, const char *prefix)
{
    same_bytes(t->sf, t->sf_bytes, golden_path("%s.sf.npy", prefix));
    same_bytes(t->q, t->q_bytes, golden_path("%s.codes.npy", prefix));
}

/* The name of a peer's result, without the folder of all golden files. */
__attribute__((format(printf, 1, 2))) static const char *name_of(const char *format, ...)
{
    static char name[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    return name;
}

Test(golden, amax_is_the_peers)
{
    for (int folder = 0; folder < 3; folder++) {
        for (int dtype = 0; dtype < 3; dtype++) {
            const fp4_matrix x = input_matrix(folders[folder], dtypes[dtype]);
            const char *where = name_of("%s, %s", folders[folder], dtypes[dtype]);
            const float *generator = golden_data(
                golden_path("%s/input.%s.amax.npy", folders[folder], dtypes[dtype]), "<f4", 1);
            const float *te = golden_data(
                golden_path("%s/te.%s.1d.amax.npy", folders[folder], dtypes[dtype]), "<f4", 1);
            const float *te_rows = golden_data(
                golden_path("%s/te.%s.rowscaled.amax.npy", folders[folder], dtypes[dtype]), "<f4",
                x.rows);
            float amax = -1.0f;
            CHECK_EQ(fp4_ref_amax(x, &amax), FP4_OK, "%s", where);
            CHECK_EQ(fp4_f32_bits(amax), fp4_f32_bits(*generator), "%s, NumPy", where);
            CHECK_EQ(fp4_f32_bits(amax), fp4_f32_bits(*te), "%s, TransformerEngine", where);
            for (size_t row = 0; row < x.rows; row++) {
                fp4_matrix one = x;
                one.rows = 1;
                one.data = (const uint8_t *)x.data + row * x.cols * item(x);
                CHECK_EQ(fp4_ref_amax(one, &amax), FP4_OK, "%s", where);
                CHECK_EQ(fp4_f32_bits(amax), fp4_f32_bits(te_rows[row]), "%s, row %zu", where, row);
            }
        }
    }
}

/* -------------------------------------------------------------------- TransformerEngine, NVFP4 */

/* Compares with TransformerEngine's codes. Its reference takes the sign of the product x * enc from
   `< -0.0`, which -0 is not: it writes 0 where we write 8. Such places, told by the product in
   double, are counted. */
static size_t same_codes_but_for_minus_zero(const fp4_tensor *t, fp4_matrix x, const char *path)
{
    const uint8_t *theirs = golden_data(path, "|u1", t->q_bytes);
    size_t minus_zeros = 0;

    for (size_t row = 0; row < t->rows; row++) {
        const float dec = t->row_dec != NULL ? t->row_dec[row] : t->global_dec;
        for (size_t col = 0; col < t->cols; col++) {
            const size_t at = row * t->cols + col;
            const int shift = col % 2 ? 4 : 0;
            const double scale = (double)fp4_e4m3_to_f32(t->sf[at / 16]) * (double)dec;
            const double enc = scale > 0 ? 1.0 / scale : (double)FP4_F32_MAX;
            const uint32_t bits = fp4_f32_bits(element(x, row, col));
            unsigned expected = theirs[at / 2] >> shift & 15u;
            if (bits >> 31 && oracle_magnitude(bits) * enc <= oracle_power(-150)) {
                CHECK_EQ(expected, 0u, "%s: row %zu, col %zu, x = %08x, theirs", path, row, col,
                         bits);
                expected = 8u;
                minus_zeros++;
            }
            CHECK_EQ(t->q[at / 2] >> shift & 15, expected, "%s: row %zu, col %zu, x = %08x", path,
                     row, col, bits);
        }
    }
    return minus_zeros;
}

/* One matrix, and the file names' suffix of its orientation. */
static size_t check_transformer_engine(const char *prefix, fp4_matrix x, const char *suffix,
                                       int by_row)
{
    const float *amax =
        golden_data(golden_path("%s.amax%s.npy", prefix, suffix), "<f4", by_row ? x.rows : 1);
    fp4_tensor t;

    if (by_row) {
        float *enc = golden_memory(x.rows * sizeof(float), 0);
        for (size_t row = 0; row < x.rows; row++) {
            enc[row] = fp4_nvfp4_global_enc(amax[row]);
        }
        t = tensor_of_rows(x.rows, x.cols);
        CHECK_EQ(fp4_ref_nvfp4_quantize_rows(x, enc, &t), FP4_OK, "%s", prefix);
    } else {
        t = tensor(FP4_NVFP4, FP4_LAYOUT_LINEAR, x.rows, x.cols);
        CHECK_EQ(fp4_ref_nvfp4_quantize(x, fp4_nvfp4_global_enc(*amax), &t), FP4_OK, "%s", prefix);
    }
    same_bytes(t.sf, t.sf_bytes, golden_path("%s.sf%s.npy", prefix, suffix));
    return same_codes_but_for_minus_zero(&t, x, golden_path("%s.codes%s.npy", prefix, suffix));
}

Test(golden, nvfp4_is_transformer_engines)
{
    size_t minus_zeros = 0;

    for (int folder = 0; folder < 3; folder++) {
        for (int dtype = 0; dtype < 3; dtype++) {
            const fp4_matrix x = input_matrix(folders[folder], dtypes[dtype]);
            for (int by_row = 0; by_row < 2; by_row++) {
                char prefix[128];
                snprintf(prefix, sizeof prefix, "%s/te.%s.%s", folders[folder], dtypes[dtype],
                         by_row ? "rowscaled" : "1d");
                minus_zeros += check_transformer_engine(prefix, x, "", by_row);
                minus_zeros += check_transformer_engine(prefix, transposed(x), "_t", by_row);
            }
        }
    }
    /* all of them in t3: 325, 331 and 995 in the rows of its f32, bf16 and f16 matrix, 650, 654 and
       995 in their columns, twice */
    CHECK_EQ(minus_zeros, 7900u, "products that are -0");
}

/* -------------------------------------------------------------------- FlashInfer, exact mode */

/* One result of its NVFP4 kernel with one global scale. */
static void check_flashinfer_nvfp4(const char *prefix, fp4_matrix x, fp4_layout layout)
{
    const float *global_enc = golden_data(golden_path("%s.gs.npy", prefix), "<f4", 1);
    fp4_tensor t = tensor(FP4_NVFP4, layout, x.rows, x.cols);

    CHECK_EQ(fp4_ref_nvfp4_quantize(x, *global_enc, &t), FP4_OK, "%s", prefix);
    CHECK_EQ(fp4_f32_bits(t.global_dec), fp4_f32_bits(1.0f / *global_enc), "%s", prefix);
    same_tensor(&t, prefix);
}

Test(golden, nvfp4_is_flashinfers_exact_mode)
{
    for (int folder = 0; folder < 3; folder++) {
        for (int dtype = 1; dtype < 3; dtype++) {
            const char *f = folders[folder], *d = dtypes[dtype];
            fp4_matrix x = input_matrix(f, d);
            if (folder == 1 && dtype == 1) { /* its build flushes subnormals */
                x = flushed(x);
            }
            check_flashinfer_nvfp4(name_of("%s/flashinfer.%s.nvfp4_exact.fast", f, d), x,
                                   FP4_LAYOUT_LINEAR);
            check_flashinfer_nvfp4(name_of("%s/flashinfer.%s.nvfp4_gs1_exact.fast", f, d), x,
                                   FP4_LAYOUT_LINEAR);
            if (folder == 0) {
                check_flashinfer_nvfp4(name_of("t1/flashinfer.%s.nvfp4_exact_sf128x4.fast", d), x,
                                       FP4_LAYOUT_128X4);
                check_flashinfer_nvfp4(name_of("t1/flashinfer.%s.nvfp4_exact_sf8x4.fast", d), x,
                                       FP4_LAYOUT_8X4);
            }
        }
    }
}

Test(golden, batched_nvfp4_is_flashinfers)
{
    for (int dtype = 1; dtype < 3; dtype++) {
        const char *prefix =
            name_of("t1/flashinfer.%s.nvfp4_exact_batch2_sf128x4.fast", dtypes[dtype]);
        const float *global_enc = golden_data(golden_path("%s.gs.npy", prefix), "<f4", 1);
        const fp4_matrix x = input_matrix("t1", dtypes[dtype]);
        const size_t rows = x.rows / 2, sf_cols = x.cols / 16;
        const size_t sf_bytes = fp4_sf_bytes(FP4_LAYOUT_128X4, rows, sf_cols);
        fp4_tensor both = tensor(FP4_NVFP4, FP4_LAYOUT_128X4, x.rows, x.cols);
        both.sf_bytes = 2 * sf_bytes;
        both.sf = golden_memory(both.sf_bytes, 0x7f);
        for (size_t batch = 0; batch < 2; batch++) {
            const size_t sf_at =
                fp4_sf_offset_batched(FP4_LAYOUT_128X4, batch, 0, 0, rows, sf_cols);
            const size_t q_at = batch * both.q_bytes / 2;
            fp4_matrix half = x;
            fp4_tensor t = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_128X4, rows, x.cols, both.q + q_at,
                                           both.q_bytes / 2, both.sf + sf_at, sf_bytes);
            half.rows = rows;
            half.data = (const uint8_t *)x.data + batch * rows * x.cols * item(x);
            CHECK_EQ(fp4_ref_nvfp4_quantize(half, *global_enc, &t), FP4_OK, "%s", prefix);
        }
        same_tensor(&both, prefix);
    }
}

/* In how many scale bytes and codes two tensors part. */
typedef struct parting {
    size_t sf, codes;
} parting;

/* Rows whose encode scale is FLT_MAX, and whose decode scale 2^-128 a GPU flushes to zero. There
   FlashInfer's factor is FLT_MAX, ours the reciprocal; everything else must agree. */
static parting part_where_row_enc_is_flt_max(const fp4_tensor *t, const float *row_enc,
                                             const char *prefix)
{
    const uint8_t *codes = golden_data(golden_path("%s.codes.npy", prefix), "|u1", t->q_bytes);
    const uint8_t *sf = golden_data(golden_path("%s.sf.npy", prefix), "|u1", t->sf_bytes);
    parting found = {0, 0};

    for (size_t i = 0; i < t->sf_bytes; i++) {
        found.sf += t->sf[i] != sf[i];
    }
    for (size_t i = 0; i < 2 * t->q_bytes; i++) {
        const int shift = i % 2 ? 4 : 0;
        if ((t->q[i / 2] >> shift & 15) != (codes[i / 2] >> shift & 15)) {
            CHECK(row_enc[i / t->cols] == FP4_F32_MAX, "%s: row %zu, col %zu", prefix, i / t->cols,
                  i % t->cols);
            found.codes++;
        }
    }
    return found;
}

Test(golden, nvfp4_by_row_is_flashinfers)
{
    for (int folder = 0; folder < 2; folder++) {
        for (int dtype = 1; dtype < 3; dtype++) {
            const int flush = folder == 1 && dtype == 1;
            const fp4_matrix given = input_matrix(folders[folder], dtypes[dtype]);
            const fp4_matrix x = flush ? flushed(given) : given;
            const char *prefix = name_of("%s/flashinfer.%s.nvfp4_rowwise_exact.fast",
                                         folders[folder], dtypes[dtype]);
            const float *row_enc = golden_data(golden_path("%s.gs.npy", prefix), "<f4", x.rows);
            fp4_tensor t = tensor_of_rows(x.rows, x.cols);
            CHECK_EQ(fp4_ref_nvfp4_quantize_rows(x, row_enc, &t), FP4_OK, "%s", prefix);
            if (flush) {
                const parting found = part_where_row_enc_is_flt_max(&t, row_enc, prefix);
                CHECK_EQ(found.sf, 0u, "%s: scale bytes", prefix);
                CHECK_EQ(found.codes, 7u, "%s: codes of rows whose scale is FLT_MAX", prefix);
            } else {
                same_tensor(&t, prefix);
            }
        }
    }
}

Test(golden, nvfp4_by_token_is_flashinfers)
{
    for (int folder = 0; folder < 3; folder++) {
        for (int dtype = 1; dtype < 3; dtype++) {
            const int flush = folder == 1 && dtype == 1;
            const fp4_matrix given = input_matrix(folders[folder], dtypes[dtype]);
            const fp4_matrix x = flush ? flushed(given) : given;
            const char *prefix =
                name_of("%s/flashinfer.%s.pertoken_exact.fast", folders[folder], dtypes[dtype]);
            const float *base_dec = golden_data(golden_path("%s.gs.npy", prefix), "<f4", 1);
            const float *token_dec =
                golden_data(golden_path("%s.token_scale.npy", prefix), "<f4", x.rows);
            float *token_enc = golden_memory(x.rows * sizeof(float), 0);
            size_t flushed_decs = 0;
            fp4_tensor t = tensor_of_rows(x.rows, x.cols);
            CHECK_EQ(fp4_ref_nvfp4_quantize_tokens(x, *base_dec, &t), FP4_OK, "%s", prefix);
            for (size_t row = 0; row < x.rows; row++) {
                /* 2^-128, the decode scale of FLT_MAX, is a subnormal */
                const int subnormal = fp4_f32_bits(t.row_dec[row]) == 0x00200000u;
                token_enc[row] = subnormal ? FP4_F32_MAX : 1.0f;
                flushed_decs += flush && subnormal;
                CHECK_EQ(flush && subnormal ? 0u : fp4_f32_bits(t.row_dec[row]),
                         fp4_f32_bits(token_dec[row]), "%s: scale of token %zu", prefix, row);
            }
            if (flush) {
                const parting found = part_where_row_enc_is_flt_max(&t, token_enc, prefix);
                CHECK_EQ(flushed_decs, 4u, "%s: scales of FLT_MAX", prefix);
                CHECK_EQ(found.sf, 0u, "%s: scale bytes", prefix);
                CHECK_EQ(found.codes, 7u, "%s: codes of tokens whose scale is FLT_MAX", prefix);
            } else {
                same_tensor(&t, prefix);
            }
        }
    }
}

/* -------------------------------------------------------------------- MXFP4 and MXFP8 */

static const struct {
    const char *name; /* torchao's */
    fp4_format format;
    fp4_status (*quantize)(fp4_matrix, fp4_tensor *);
} mx_rules[] = {
    {"mxfp4_rceil", FP4_MXFP4, fp4_ref_mxfp4_quantize},
    {"mxfp4_floor", FP4_MXFP4, fp4_ref_mxfp4_quantize_floor},
    {"mxfp4_ceil", FP4_MXFP4, fp4_ref_mxfp4_quantize_ceil},
    {"mxfp4_even", FP4_MXFP4, fp4_ref_mxfp4_quantize_even},
    {"mxfp8_rceil", FP4_MXFP8, fp4_ref_mxfp8_quantize},
    {"mxfp8_floor", FP4_MXFP8, fp4_ref_mxfp8_quantize_floor},
    {"mxfp8_ceil", FP4_MXFP8, fp4_ref_mxfp8_quantize_ceil},
    {"mxfp8_even", FP4_MXFP8, fp4_ref_mxfp8_quantize_even},
};

/* The last block of t3 holds FLT_MAX. torchao's `even` adds to its bits, arrives at infinity, and
   writes the NaN scale for a block of finite values; our rule stays finite, as it is to. Checks
   that this is so, and makes the block ours in a copy of what is compared with. */
static void check_even_at_flt_max(const fp4_tensor *t, const char *prefix)
{
    const size_t block_bytes = fp4_q_bytes(t->format, 1, 32);
    uint8_t *sf = golden_memory(t->sf_bytes, 0), *q = golden_memory(t->q_bytes, 0);

    memcpy(sf, golden_data(golden_path("%s.sf.npy", prefix), "|u1", t->sf_bytes), t->sf_bytes);
    memcpy(q, golden_data(golden_path("%s.codes.npy", prefix), "|u1", t->q_bytes), t->q_bytes);
    for (size_t block = 0; block < t->sf_bytes; block++) {
        if (sf[block] == 0xff) {
            CHECK_EQ(block, t->sf_bytes - 4, "%s: the block with FLT_MAX", prefix);
            CHECK_EQ(t->sf[block], t->format == FP4_MXFP4 ? 253u : 247u, "%s: its scale", prefix);
            sf[block] = t->sf[block];
            memcpy(q + block * block_bytes, t->q + block * block_bytes, block_bytes);
        }
    }
    for (size_t i = 0; i < t->sf_bytes; i++) {
        CHECK_EQ(t->sf[i], sf[i], "%s: scale byte %zu", prefix, i);
    }
    for (size_t i = 0; i < t->q_bytes; i++) {
        CHECK_EQ(t->q[i], q[i], "%s: byte %zu", prefix, i);
    }
}

Test(golden, mx_rules_are_torchaos)
{
    for (int folder = 0; folder < 3; folder++) {
        for (int dtype = 0; dtype < 2; dtype++) {
            const fp4_matrix x = input_matrix(folders[folder], dtypes[dtype]);
            for (int rule = 0; rule < 8; rule++) {
                const char *prefix = name_of("%s/torchao.%s.%s", folders[folder], dtypes[dtype],
                                             mx_rules[rule].name);
                fp4_tensor t = tensor(mx_rules[rule].format, FP4_LAYOUT_LINEAR, x.rows, x.cols);
                CHECK_EQ(mx_rules[rule].quantize(x, &t), FP4_OK, "%s", prefix);
                if (folder == 1 && rule % 4 == 3) {
                    check_even_at_flt_max(&t, prefix);
                } else {
                    same_tensor(&t, prefix);
                }
            }
        }
    }
}

/* FlashInfer multiplies by 0 where the scale byte is 0, so that such a block is all zeros; ours has
   the factor 2^127. Everything else must agree. Returns how many codes part. */
static size_t part_where_scale_byte_is_zero(const fp4_tensor *t, const char *prefix)
{
    const uint8_t *codes = golden_data(golden_path("%s.codes.npy", prefix), "|u1", t->q_bytes);
    const int width = t->format == FP4_MXFP8 ? 8 : 4;
    size_t parted = 0;

    same_bytes(t->sf, t->sf_bytes, golden_path("%s.sf.npy", prefix));
    for (size_t i = 0; i < t->rows * t->cols; i++) {
        const size_t at = i * (size_t)width / 8;
        const int shift = width == 4 && i % 2 ? 4 : 0;
        const unsigned ours = t->q[at] >> shift & ((1u << width) - 1u);
        const unsigned theirs = codes[at] >> shift & ((1u << width) - 1u);
        if (ours != theirs) {
            CHECK_EQ(t->sf[i / 32], 0u, "%s: element %zu", prefix, i);
            CHECK_EQ(theirs, ours & 1u << (width - 1), "%s: element %zu is a zero", prefix, i);
            parted++;
        }
    }
    return parted;
}

Test(golden, mx_is_flashinfers)
{
    static const struct {
        const char *name;
        int rule;
        fp4_layout layout;
        int folders; /* that have it: all three, or t1 alone */
    } results[] = {
        {"mxfp4", 0, FP4_LAYOUT_LINEAR, 3},        {"mxfp8", 4, FP4_LAYOUT_LINEAR, 3},
        {"mxfp4_sf128x4", 0, FP4_LAYOUT_128X4, 1}, {"mxfp8_sf128x4", 4, FP4_LAYOUT_128X4, 1},
        {"mxfp4_sf8x4", 0, FP4_LAYOUT_8X4, 1},
    };

    for (int result = 0; result < 5; result++) {
        for (int folder = 0; folder < results[result].folders; folder++) {
            for (int dtype = 1; dtype < 3; dtype++) {
                const int flush = folder == 1 && dtype == 1;
                const fp4_matrix given = input_matrix(folders[folder], dtypes[dtype]);
                const fp4_matrix x = flush ? flushed(given) : given;
                const char *prefix = name_of("%s/flashinfer.%s.%s.fast", folders[folder],
                                             dtypes[dtype], results[result].name);
                fp4_tensor t = tensor(mx_rules[results[result].rule].format, results[result].layout,
                                      x.rows, x.cols);
                CHECK_EQ(mx_rules[results[result].rule].quantize(x, &t), FP4_OK, "%s", prefix);
                if (flush) {
                    CHECK_EQ(part_where_scale_byte_is_zero(&t, prefix), 39u,
                             "%s: codes under scale byte 0", prefix);
                } else {
                    same_tensor(&t, prefix);
                }
            }
        }
    }
}

/* -------------------------------------------------------------------- dequantization */

/* A peer's own codes and scale bytes as a tensor. */
static fp4_tensor tensor_from(const char *prefix, fp4_format format, size_t rows, size_t cols)
{
    fp4_tensor t = tensor(format, FP4_LAYOUT_LINEAR, rows, cols);

    memcpy(t.q, golden_data(golden_path("%s.codes.npy", prefix), "|u1", t.q_bytes), t.q_bytes);
    memcpy(t.sf, golden_data(golden_path("%s.sf.npy", prefix), "|u1", t.sf_bytes), t.sf_bytes);
    return t;
}

static float *dequantized(const fp4_tensor *t, const char *what)
{
    const size_t bytes = t->rows * t->cols * sizeof(float);
    float *y = golden_memory(bytes, 0x7f);

    CHECK_EQ(fp4_ref_dequantize(t, y, bytes, t->cols), FP4_OK, "%s", what);
    return y;
}

/* The bits of a float, NaNs made one. */
static uint32_t bits_of(float x)
{
    return fp4_is_nan(x) ? 0x7fffffffu : fp4_f32_bits(x);
}

/* y against a file of f32, or of bf16 to which y is rounded. */
static void same_values(const float *y, size_t count, const char *dtype, const char *path)
{
    const int f32 = strcmp(dtype, "f32") == 0;
    const void *expected = golden_data(path, f32 ? "<f4" : "<u2", count);

    for (size_t i = 0; i < count; i++) {
        if (f32) {
            CHECK_EQ(bits_of(y[i]), bits_of(((const float *)expected)[i]), "%s: element %zu", path,
                     i);
        } else {
            const uint16_t theirs = ((const uint16_t *)expected)[i];
            CHECK_EQ(fp4_f32_to_bf16(y[i]), (theirs & 0x7fffu) > 0x7f80u ? 0x7fffu : theirs,
                     "%s: element %zu", path, i);
        }
    }
}

Test(golden, mx_dequantizes_as_torchao_and_modelopt_do)
{
    for (int folder = 0; folder < 3; folder++) {
        for (int dtype = 0; dtype < 2; dtype++) {
            const char *f = folders[folder], *d = dtypes[dtype];
            const fp4_matrix x = input_matrix(f, d);
            fp4_tensor t;
            for (int rule = 0; rule < 8; rule++) {
                const char *name = mx_rules[rule].name;
                t = tensor_from(name_of("%s/torchao.%s.%s", f, d, name), mx_rules[rule].format,
                                x.rows, x.cols);
                same_values(dequantized(&t, name), x.rows * x.cols, d,
                            golden_path("%s/dequant.%s.torchao.%s.%s.%s.npy", f, d, f, d, name));
            }
            if (folder != 1) { /* on t3 its 2^-127 is a unit low: test_modelopt.c has all of it */
                t = tensor_from(name_of("%s/modelopt.%s.mxfp4", f, d), FP4_MXFP4, x.rows, x.cols);
                same_values(dequantized(&t, "modelopt"), x.rows * x.cols, d,
                            golden_path("%s/dequant.%s.modelopt.%s.%s.mxfp4.npy", f, d, f, d));
            }
        }
    }
}

/* How many elements of a file are not what an order makes of a tensor of NVFP4, but for the sign of
   zeros, which not all keep. */
static size_t differing(const fp4_tensor *t, fp4_association association, const char *d,
                        const char *path)
{
    const fp4_dtype dtype = strcmp(d, "f32") == 0    ? FP4_F32
                            : strcmp(d, "bf16") == 0 ? FP4_BF16
                                                     : FP4_F16;
    const size_t count = t->rows * t->cols, size = dtype == FP4_F32 ? 4 : 2;
    const uint8_t *expected = golden_data(path,
                                          dtype == FP4_F32    ? "<f4"
                                          : dtype == FP4_BF16 ? "<u2"
                                                              : "<f2",
                                          count);
    uint8_t *y = golden_memory(count * size, 0x7f);
    size_t differ = 0;

    CHECK_EQ(fp4_ref_dequantize_to(t, association, dtype, y, count * size, t->cols), FP4_OK, "%s",
             path);
    for (size_t i = 0; i < count; i++) {
        uint32_t ours = 0, theirs = 0;
        memcpy(&ours, y + i * size, size);
        memcpy(&theirs, expected + i * size, size);
        differ += ours != theirs && ((ours | theirs) & (0x7fffffffu >> (32 - 8 * size))) != 0;
    }
    return differ;
}

/* code * scale has few bits and is exact, so that in our order the product of the three is rounded
   once: it is the nearest f32 to what the bytes stand for. */
static void nearest_values(const float *y, const fp4_tensor *t)
{
    for (size_t i = 0; i < t->rows * t->cols; i++) {
        const double code = (double)fp4_e2m1_to_f32((uint8_t)(t->q[i / 2] >> (i % 2 ? 4 : 0)));
        const double scale = (double)fp4_e4m3_to_f32(t->sf[i / 16]);
        CHECK_EQ(fp4_f32_bits(y[i]), fp4_f32_bits((float)(code * scale * (double)t->global_dec)),
                 "element %zu", i);
    }
}

/* None with the scales first; answers how many there are with the code first. */
static size_t expect_scales_first(const fp4_tensor *t, const char *d, const char *path)
{
    CHECK_EQ(differing(t, FP4_SCALES_FIRST, d, path), 0, "%s", path);
    return differing(t, FP4_CODE_FIRST, d, path);
}

static float golden_float(const char *path)
{
    return *(const float *)golden_data(path, "<f4", 1);
}

static size_t see_modelopt(fp4_matrix x, const char *f, const char *d)
{
    fp4_tensor t = tensor_from(name_of("%s/modelopt.%s.nvfp4", f, d), FP4_NVFP4, x.rows, x.cols);

    t.global_dec = golden_float(golden_path("%s/modelopt.%s.nvfp4.scale2.npy", f, d));
    return expect_scales_first(&t, d,
                               golden_path("%s/dequant.%s.modelopt.%s.%s.nvfp4.npy", f, d, f, d));
}

static size_t see_torchao(fp4_matrix x, const char *f, const char *d)
{
    fp4_tensor t =
        tensor_from(name_of("%s/torchao.%s.nvfp4_1lvl", f, d), FP4_NVFP4, x.rows, x.cols);
    const char *path = golden_path("%s/dequant.%s.torchao.%s.%s.nvfp4_1lvl.npy", f, d, f, d);

    CHECK_EQ(expect_scales_first(&t, d, path), 0, "%s: orders of one scale", path);
    t = tensor_from(name_of("%s/torchao.%s.nvfp4_2lvl", f, d), FP4_NVFP4, x.rows, x.cols);
    t.global_dec = golden_float(golden_path("%s/torchao.%s.pts.npy", f, d));
    return expect_scales_first(
        &t, d, golden_path("%s/dequant.%s.torchao.%s.%s.nvfp4_2lvl.npy", f, d, f, d));
}

/* The codes that FlashInfer dequantized, always to f32, are ours. */
static size_t see_flashinfer(fp4_matrix x, const char *f, const char *d)
{
    fp4_tensor t = tensor(FP4_NVFP4, FP4_LAYOUT_LINEAR, x.rows, x.cols);
    float amax = 0.0f;

    CHECK_EQ(fp4_ref_amax(x, &amax), FP4_OK, "%s %s", f, d);
    CHECK_EQ(fp4_ref_nvfp4_quantize(x, fp4_nvfp4_global_enc(amax), &t), FP4_OK, "%s %s", f, d);
    nearest_values(dequantized(&t, f), &t);
    return expect_scales_first(&t, "f32",
                               golden_path("%s/dequant.%s.fih.%s.%s.nvfp4_exact.npy", f, d, f, d));
}

/* ModelOpt's NVFP4QTensor, torchao's NVFP4Tensor and FlashInfer's E2M1AndUFP8SFScaleToFloatV2 all
   multiply the scales first: in that order no byte differs, whereas in the other as many elements
   do as are counted here (in f32 only; rounding to 16 bits leaves none of them). */
Test(golden, nvfp4_dequantizes_as_the_peers_do_the_scales_first)
{
    size_t modelopt = 0, torchao = 0, flashinfer = 0;

    for (int folder = 0; folder < 3; folder++) {
        for (int dtype = 0; dtype < 3; dtype++) {
            const char *f = folders[folder], *d = dtypes[dtype];
            const fp4_matrix x = input_matrix(f, d);
            modelopt += see_modelopt(x, f, d);
            torchao += strcmp(d, "f16") == 0 ? 0 : see_torchao(x, f, d);
            flashinfer += strcmp(d, "f32") == 0 ? 0 : see_flashinfer(x, f, d);
        }
    }
    CHECK_EQ(modelopt, 261, "ModelOpt, code first");
    CHECK_EQ(torchao, 404, "torchao, code first");
    CHECK_EQ(flashinfer, 3020, "FlashInfer, code first");
}
