/*
 * Spreading rows over threads changes no byte: every recipe, fused operation and layout with one
 * thread, with four, and with more threads than rows. Prints ok, or the first place that differs
 * and exits with 1.
 *
 *     gcc -std=c11 -O2 -fopenmp -Iinclude tests/check_openmp.c -o check_openmp -lm
 */
#include <fp4/host/error.h>
#include <fp4/host/ops.h>
#include <fp4/host/quant.h>

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

enum { COLS = 1056, MAX_ROWS = 1000, OPS = 5, RECIPES = 18 + OPS };

static const struct {
    const char *name;
    fp4_format format;
} recipes[RECIPES] = {{"NVFP4", FP4_NVFP4},
                      {"NVFP4 rows", FP4_NVFP4},
                      {"NVFP4 tokens", FP4_NVFP4},
                      {"NVFP4/32", FP4_NVFP4_32},
                      {"NVFP4/32 rows", FP4_NVFP4_32},
                      {"NVFP4/32 tokens", FP4_NVFP4_32},
                      {"MXFP4 up", FP4_MXFP4},
                      {"MXFP4 floor", FP4_MXFP4},
                      {"MXFP4 ceil", FP4_MXFP4},
                      {"MXFP4 even", FP4_MXFP4},
                      {"MXFP4/16 up", FP4_MXFP4_16},
                      {"MXFP4/16 floor", FP4_MXFP4_16},
                      {"MXFP4/16 ceil", FP4_MXFP4_16},
                      {"MXFP4/16 even", FP4_MXFP4_16},
                      {"MXFP8 up", FP4_MXFP8},
                      {"MXFP8 floor", FP4_MXFP8},
                      {"MXFP8 ceil", FP4_MXFP8},
                      {"MXFP8 even", FP4_MXFP8},
                      {"rmsnorm", FP4_NVFP4},
                      {"add_rmsnorm", FP4_MXFP4},
                      {"layernorm", FP4_MXFP8},
                      {"silu_mul", FP4_NVFP4_32},
                      {"gelu_tanh_mul", FP4_MXFP4_16},
                      {"swiglu_oai_mul", FP4_MXFP4}};

static float x[MAX_ROWS * COLS * 2], row_enc[MAX_ROWS], weight[COLS];

/* All that a run produces. */
typedef struct result {
    uint8_t q[MAX_ROWS * COLS];
    uint8_t sf[1024 * 68];
    float row_dec[MAX_ROWS];
    float y[MAX_ROWS * COLS]; /* what a fused operation computes, or what is decoded */
    float residual[MAX_ROWS * COLS];
    fp4_error error;
    float amax;
} result;

/* The recipe is per token where t has a row_dec. */
static fp4_status fused(result *r, int op, size_t rows, fp4_tensor *t)
{
    const fp4_ref_fused how = {40.0f, t->row_dec != NULL ? 1.0f / 2688.0f : 0.0f, 0, r->y, COLS};
    const fp4_matrix m = fp4_matrix_f32(x, rows, COLS, COLS);
    const fp4_matrix pairs = fp4_matrix_f32(x, rows, 2 * COLS, 2 * COLS);

    switch (op) {
    case 0:
        return fp4_ref_rmsnorm_quantize(m, weight, 1e-5f, &how, t);
    case 1:
        return fp4_ref_add_rmsnorm_quantize(m, r->residual, COLS, weight, 1e-5f, &how, t);
    case 2:
        return fp4_ref_layernorm_quantize(m, weight, weight, 1e-5f, &how, t);
    case 3:
        return fp4_ref_silu_mul_quantize(pairs, 0, &how, t);
    case 4:
        return fp4_ref_gelu_tanh_mul_quantize(pairs, 1, &how, t);
    default:
        return fp4_ref_swiglu_oai_mul_quantize(pairs, 1, &how, t);
    }
}

static fp4_status quantize(int recipe, fp4_matrix m, fp4_tensor *t)
{
    const int rule = recipe < 6 ? recipe % 3 : recipe < 14 ? 3 + (recipe - 6) % 4 : recipe - 7;

    switch (rule) {
    case 0:
        return fp4_ref_nvfp4_quantize(m, 40.0f, t);
    case 1:
        return fp4_ref_nvfp4_quantize_rows(m, row_enc, t);
    case 2:
        return fp4_ref_nvfp4_quantize_tokens(m, 1.0f / 2688.0f, t);
    case 3:
        return fp4_ref_mxfp4_quantize(m, t);
    case 4:
        return fp4_ref_mxfp4_quantize_floor(m, t);
    case 5:
        return fp4_ref_mxfp4_quantize_ceil(m, t);
    case 6:
        return fp4_ref_mxfp4_quantize_even(m, t);
    case 7:
        return fp4_ref_mxfp8_quantize(m, t);
    case 8:
        return fp4_ref_mxfp8_quantize_floor(m, t);
    case 9:
        return fp4_ref_mxfp8_quantize_ceil(m, t);
    default:
        return fp4_ref_mxfp8_quantize_even(m, t);
    }
}

static void run(result *r, int recipe, fp4_layout layout, size_t rows, int threads)
{
    const fp4_matrix m = fp4_matrix_f32(x, rows, COLS, COLS);
    fp4_tensor t = fp4_tensor_view(recipes[recipe].format, layout, rows, COLS, r->q, sizeof r->q,
                                   r->sf, sizeof r->sf);
    const int op = recipe - (RECIPES - OPS);
    fp4_status status;

    memset(r, 0x7f, sizeof *r);
    if ((recipe < 6 && recipe % 3 != 0) || op == 3) {
        t.row_dec = r->row_dec;
        t.row_dec_bytes = sizeof r->row_dec;
    }
    memcpy(r->residual, x + MAX_ROWS * COLS, sizeof r->residual);
    omp_set_dynamic(0);
    omp_set_num_threads(threads);
    if (op >= 0) {
        status = fused(r, op, rows, &t);
    } else {
        status = quantize(recipe, m, &t);
        status = status != FP4_OK ? status : fp4_ref_dequantize(&t, r->y, sizeof r->y, COLS);
        status = status != FP4_OK ? status : fp4_ref_error(m, &t, &r->error);
        status = status != FP4_OK ? status : fp4_ref_amax(m, &r->amax);
    }
    if (status != FP4_OK) {
        printf("FAIL: %s: %s\n", recipes[recipe].name, fp4_status_text(status));
        exit(1);
    }
}

static void compare(const result *one, const result *many, const char *name, size_t rows,
                    int threads)
{
    const uint8_t *a = (const uint8_t *)one, *b = (const uint8_t *)many;
    size_t i;

    for (i = 0; i < sizeof *one; i++) {
        if (a[i] != b[i]) {
            printf("FAIL: %s, %zu rows, %d threads: byte %zu of the result (codes from %zu, scales "
                   "from %zu, row_dec from %zu, y from %zu, residual from %zu) is 0x%02x, with one "
                   "thread "
                   "0x%02x\n",
                   name, rows, threads, i, offsetof(result, q), offsetof(result, sf),
                   offsetof(result, row_dec), offsetof(result, y), offsetof(result, residual), b[i],
                   a[i]);
            exit(1);
        }
    }
}

int main(void)
{
    static const size_t rows[] = {1, 3, 129, MAX_ROWS};
    static const int threads[] = {2, 4, 7};
    static result one, many;
    uint32_t state = 1;
    int recipe, layout, i, j, compared = 0;
    size_t at;

    for (at = 0; at < sizeof x / sizeof x[0]; at++) {
        state = state * 1664525u + 1013904223u;
        x[at] = ((float)(int32_t)state * 0x1p-28f) * (at % 97 == 0 ? 30.0f : 1.0f);
    }
    for (at = 0; at < MAX_ROWS; at++) {
        row_enc[at] = 10.0f + (float)at * 0.37f;
    }
    for (at = 0; at < COLS; at++) {
        weight[at] = 0.5f + (float)(at % 13) * 0.1f;
    }
    for (recipe = 0; recipe < RECIPES; recipe++) {
        for (layout = 0; layout < 3; layout++) {
            for (i = 0; i < 4; i++) {
                if (i == 3 && layout != recipe % 3) {
                    continue; /* many rows in one of the layouts */
                }
                run(&one, recipe, (fp4_layout)layout, rows[i], 1);
                for (j = 0; j < 3; j++, compared++) {
                    run(&many, recipe, (fp4_layout)layout, rows[i], threads[j]);
                    compare(&one, &many, recipes[recipe].name, rows[i], threads[j]);
                }
            }
        }
    }
    printf("ok: %d results with 2, 4 and 7 threads are those of one thread\n", compared);
    return 0;
}
