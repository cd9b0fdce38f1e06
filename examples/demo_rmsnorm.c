/*
 * demo_rmsnorm - RMSNorm and FP4 quantization in one kernel, on tokens of a real model.
 *
 *     cc -O3 -Iinclude examples/demo_rmsnorm.c -lcjson -lm -o demo_rmsnorm && ./demo_rmsnorm
 *
 * `make demo` is this, and where there are nvcc and a GPU it links demo_gpu.cu: then the kernel of
 * 03_rmsnorm.cu makes the bytes, the host reference says whether they are right, and the kernel is
 * timed. Elsewhere the host reference makes them. All figures and the picture are of those bytes.
 *
 * The tokens are the first rows of the file's embedding table, the weight is that of the norm that
 * follows it, both rounded to bf16. What came out is compared with RMSNorm of the same bf16 input
 * in double, rounded to f32 once.
 *
 * Any failure is a line on stderr and exit status 1. The picture appears whole or not at all.
 */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include "demo_gpu.h"
#include "demo_picture.h"
#include "safetensors.h"

#include <fp4/host/compare.h>
#include <fp4/host/error.h>
#include <fp4/host/ops.h>

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEMO_FILE "examples/data/all-MiniLM-L6-v2-slice.safetensors"
#define DEMO_PICTURE "rmsnorm.svg"
#define TABLE "embeddings.word_embeddings.weight"
#define WEIGHT "embeddings.LayerNorm.weight"

enum { MOST_TOKENS = 64, VARIANTS = 3, SPEED_TOKENS = 1 << 20 };

/* What stands for the rows of DEMO_FILE in its model's vocabulary. */
static const char *const demo_words[MOST_TOKENS] = {
    "the",   "of",    "and",  "in",   "to",    "was",   "he",   "is",   "as",    "for",  "on",
    "with",  "that",  "it",   "his",  "by",    "at",    "from", "her",  "##s",   "she",  "you",
    "had",   "an",    "were", "but",  "be",    "this",  "are",  "not",  "my",    "they", "one",
    "which", "or",    "have", "him",  "me",    "first", "all",  "also", "their", "has",  "up",
    "who",   "out",   "been", "when", "after", "there", "into", "new",  "two",   "its",  "##a",
    "time",  "would", "no",   "what", "about", "said",  "we",   "over", "then",
};
#define DEMO_SOURCE "sentence-transformers/all-MiniLM-L6-v2"

/* A way to quantize, and what came of it. */
typedef struct variant {
    const char *name;
    fp4_format format;
    float base_dec;  /* not 0: a scale a token */
    fp4_tensor t;    /* the kernel's where there is a GPU, else the host reference's */
    float *decoded;  /* of all elements */
    fp4_error error; /* against exact */
} variant;

typedef struct demo {
    const char *file;
    uint8_t *bytes; /* of the file */
    st_file in;
    uint16_t *x, *weight; /* bf16 */
    demo_tokens tokens;
    float *exact;
    const char *const *words;
    variant variants[VARIANTS];
    const char *gpu; /* its name, or null, and then */
    const char *why; /* there is none */
    char name[256];
    int wrong; /* of the variants, where the GPU's bytes differ from the host's */
} demo;

/* -------------------------------------------------------------------------------- failing */

__attribute__((format(printf, 1, 2))) static _Noreturn void die(const char *format, ...)
{
    st_error error;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(error.text, sizeof error.text, format, arguments);
    va_end(arguments);
    st_make_printable(error.text);
    fflush(stdout);
    fprintf(stderr, "demo_rmsnorm: %s\n", error.text);
    exit(1);
}

static void *allocate(size_t count, size_t size)
{
    void *p = calloc(count + 1, size);

    if (p == NULL) {
        die("out of memory");
    }
    return p;
}

static void must(fp4_status status, const char *what)
{
    if (status != FP4_OK) {
        die("%s: %s", what, fp4_status_text(status));
    }
}

/* -------------------------------------------------------------------------------- input */

static uint8_t *read_file(const char *path, uint64_t *size)
{
    FILE *file = fopen(path, "rb");
    struct stat info;
    uint8_t *bytes;

    if (file == NULL || fstat(fileno(file), &info) != 0) {
        die("%s: cannot be opened: %s", path, strerror(errno));
    }
    if (!S_ISREG(info.st_mode)) {
        die("%s: not a regular file", path);
    }
    *size = (uint64_t)info.st_size;
    bytes = (uint8_t *)allocate((size_t)*size, 1);
    if (fread(bytes, 1, (size_t)*size, file) != *size) {
        die("%s: cannot be read", path);
    }
    fclose(file);
    return bytes;
}

/* The tensor of that name and rank; its elements are numbers. */
static const st_tensor *find(const demo *d, const char *name, size_t rank)
{
    const st_tensor *t = st_find(&d->in, name);

    if (t == NULL) {
        die("%s: has no tensor %s", d->file, name);
    }
    if (strcmp(t->dtype->name, "F32") != 0 && strcmp(t->dtype->name, "F16") != 0 &&
        strcmp(t->dtype->name, "BF16") != 0) {
        die("%s: %s is %s, not F32, F16 or BF16", d->file, name, t->dtype->name);
    }
    if (t->rank != rank) {
        die("%s: %s has %zu dimensions, not %zu", d->file, name, t->rank, rank);
    }
    return t;
}

/* The first n elements of a tensor, rounded to bf16. */
static void load_bf16(const demo *d, const st_tensor *t, uint16_t *to, size_t n)
{
    const uint8_t *from = d->in.data + t->begin;
    const size_t width = t->dtype->bits / 8;
    size_t i;

    for (i = 0; i < n; i++) {
        float x = 0.0f;
        uint16_t half = 0;
        memcpy(width == 4 ? (void *)&x : (void *)&half, from + i * width, width);
        if (width == 2) {
            x = t->dtype->name[0] == 'B' ? fp4_bf16_to_f32(half) : fp4_f16_to_f32(half);
        }
        to[i] = fp4_f32_to_bf16(x);
        if (!(fabsf(fp4_bf16_to_f32(to[i])) < INFINITY)) {
            die("%s: %s holds what is not a finite bf16", d->file, t->name);
        }
    }
}

/* The file is the one whose rows demo_words names. */
static bool is_demo_file(const st_file *in, const st_tensor *table)
{
    const cJSON *source = cJSON_GetObjectItemCaseSensitive(in->metadata, "source");

    return table->shape[0] == MOST_TOKENS && cJSON_IsString(source) &&
           strncmp(source->valuestring, DEMO_SOURCE, strlen(DEMO_SOURCE)) == 0;
}

static void load(demo *d)
{
    const st_tensor *table, *weight;
    demo_tokens *tokens = &d->tokens;
    uint64_t size;
    st_error error;

    d->bytes = read_file(d->file, &size);
    if (!st_read(&d->in, d->bytes, size, &error)) {
        die("%s: %s", d->file, error.text);
    }
    table = find(d, TABLE, 2);
    weight = find(d, WEIGHT, 1);
    if (table->shape[0] == 0 || table->shape[1] == 0 || table->shape[1] % FP4_MXFP4_BLOCK != 0) {
        die("%s: %s is %" PRIu64 " x %" PRIu64 ", not tokens x blocks of 32", d->file, TABLE,
            table->shape[0], table->shape[1]);
    }
    if (weight->shape[0] != table->shape[1]) {
        die("%s: %s has %" PRIu64 " elements, a token %" PRIu64, d->file, WEIGHT, weight->shape[0],
            table->shape[1]);
    }
    tokens->rows = table->shape[0] < MOST_TOKENS ? (size_t)table->shape[0] : MOST_TOKENS;
    tokens->cols = (size_t)table->shape[1];
    tokens->eps = 1e-6f;
    tokens->x = d->x = (uint16_t *)allocate(tokens->rows * tokens->cols, sizeof *d->x);
    tokens->weight = d->weight = (uint16_t *)allocate(tokens->cols, sizeof *d->weight);
    load_bf16(d, table, d->x, tokens->rows * tokens->cols);
    load_bf16(d, weight, d->weight, tokens->cols);
    d->words = is_demo_file(&d->in, table) ? demo_words : NULL;
}

/* -------------------------------------------------------------------------------- computing */

/* RMSNorm in double. The largest |y| gives NVFP4 its global scale. */
static void compute_exact(demo *d)
{
    const size_t rows = d->tokens.rows, cols = d->tokens.cols;
    float amax;
    size_t row, col;

    d->exact = (float *)allocate(rows * cols, sizeof *d->exact);
    for (row = 0; row < rows; row++) {
        const uint16_t *x = d->x + row * cols;
        double sum = 0.0, rms;
        for (col = 0; col < cols; col++) {
            sum += pow((double)fp4_bf16_to_f32(x[col]), 2.0);
        }
        rms = sqrt(sum / (double)cols + (double)d->tokens.eps);
        for (col = 0; col < cols; col++) {
            d->exact[row * cols + col] = (float)((double)fp4_bf16_to_f32(x[col]) / rms *
                                                 (double)fp4_bf16_to_f32(d->weight[col]));
        }
    }
    must(fp4_ref_amax(fp4_matrix_f32(d->exact, rows, cols, cols), &amax), "amax");
    d->tokens.global_enc = fp4_nvfp4_global_enc(amax);
}

static fp4_tensor make_tensor(const demo *d, const variant *v)
{
    const size_t rows = d->tokens.rows, cols = d->tokens.cols;
    const size_t q_bytes = fp4_q_bytes(v->format, rows, cols);
    const size_t sf_bytes =
        fp4_sf_bytes(FP4_LAYOUT_128X4, rows, cols / fp4_format_block(v->format));
    fp4_tensor t =
        fp4_tensor_view(v->format, FP4_LAYOUT_128X4, rows, cols, (uint8_t *)allocate(q_bytes, 1),
                        q_bytes, (uint8_t *)allocate(sf_bytes, 1), sf_bytes);

    if (v->base_dec > 0.0f) {
        t.row_dec = (float *)allocate(rows, sizeof *t.row_dec);
        t.row_dec_bytes = rows * sizeof *t.row_dec;
    }
    return t;
}

static void free_tensor(fp4_tensor *t)
{
    free(t->q);
    free(t->sf);
    free(t->row_dec);
}

static void compute_on_host(const demo *d, const variant *v, fp4_tensor *t)
{
    const demo_tokens *in = &d->tokens;
    const fp4_matrix x = fp4_matrix_bf16(in->x, in->rows, in->cols, in->cols);
    fp4_ref_fused how;

    memset(&how, 0, sizeof how);
    how.global_enc = in->global_enc;
    how.base_dec = v->base_dec;
    must(fp4_ref_rmsnorm_quantize(x, in->weight, in->eps, &how, t), v->name);
}

static const char *compute_on_gpu(const demo *d, const variant *v, fp4_tensor *t)
{
    demo_tokens in = d->tokens;

    in.base_dec = v->base_dec;
    t->global_dec =
        v->format == FP4_NVFP4 && v->base_dec == 0.0f ? fp4_nvfp4_global_dec(in.global_enc) : 1.0f;
    return v->format == FP4_NVFP4 ? demo_gpu_nvfp4(&in, t) : demo_gpu_mxfp4(&in, t);
}

/* The GPU's bytes are the host reference's, or it says where they are not. */
static void compare(demo *d, const variant *v)
{
    fp4_tensor expected = make_tensor(d, v);
    fp4_difference difference;
    char text[FP4_DIFFERENCE_TEXT];

    compute_on_host(d, v, &expected);
    if (!fp4_ref_same(&v->t, &expected, &difference)) {
        printf("  WRONG    %s; %s\n", v->name, fp4_difference_text(&difference, text, sizeof text));
        d->wrong++;
    }
    free_tensor(&expected);
}

/* The bytes of a variant, and what they are worth. */
static void compute(demo *d, variant *v)
{
    const size_t rows = d->tokens.rows, cols = d->tokens.cols;
    const char *failed;

    v->t = make_tensor(d, v);
    if (d->gpu == NULL) {
        compute_on_host(d, v, &v->t);
    } else {
        failed = compute_on_gpu(d, v, &v->t);
        if (failed != NULL) {
            die("%s on the GPU: %s", v->name, failed);
        }
        compare(d, v);
    }
    v->decoded = (float *)allocate(rows * cols, sizeof *v->decoded);
    must(fp4_ref_dequantize(&v->t, v->decoded, rows * cols * sizeof *v->decoded, cols), v->name);
    must(fp4_ref_error(fp4_matrix_f32(d->exact, rows, cols, cols), &v->t, &v->error), v->name);
}

/* -------------------------------------------------------------------------------- table */

/* A number with its thousands apart. */
static const char *grouped(char text[32], size_t n)
{
    char digits[24];
    const size_t length = (size_t)snprintf(digits, sizeof digits, "%zu", n);
    size_t i, used = 0;

    for (i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) {
            text[used++] = ',';
        }
        text[used++] = digits[i];
    }
    text[used] = '\0';
    return text;
}

static void print_input(const demo *d)
{
    const size_t count = d->tokens.rows * d->tokens.cols;
    double sum = 0.0, largest = 0.0;
    size_t i;

    for (i = 0; i < count; i++) {
        sum += (double)d->exact[i] * (double)d->exact[i];
        largest = fmax(largest, fabs((double)d->exact[i]));
    }
    printf("RMSNorm and FP4 quantization in one kernel, on real data\n"
           "  input    %s\n"
           "           %s: %zu tokens x %zu",
           d->file, TABLE, d->tokens.rows, d->tokens.cols);
    if (d->words != NULL) {
        printf(", \"%s\" to \"%s\"", d->words[0], d->words[d->tokens.rows - 1]);
    }
    printf("\n           weight %s; both as bf16; eps %g\n", WEIGHT, (double)d->tokens.eps);
    printf("           y = RMSNorm(x): rms %.4f, largest |y| %.4f, global_enc %.4f\n",
           sqrt(sum / (double)count), largest, (double)d->tokens.global_enc);
    if (d->gpu != NULL) {
        printf("  ran on   %s\n", d->gpu);
    } else {
        printf("  ran on   the CPU, by the host reference\n           (%s)\n", d->why);
    }
}

static const char *decibels(char text[32], double sqnr_db)
{
    snprintf(text, 32, isinf(sqnr_db) ? "exact" : "%.2f", sqnr_db);
    return text;
}

/* Whose bytes they are, and that they are right. */
static void print_comparison(const demo *d)
{
    size_t bytes = 0;
    char text[32];
    int i;

    for (i = 0; i < VARIANTS; i++) {
        bytes += d->variants[i].t.q_bytes + d->variants[i].t.sf_bytes;
    }
    if (d->gpu == NULL) {
        printf("  bytes    %s of codes and scales, the host reference's own\n",
               grouped(text, bytes));
    } else if (d->wrong == 0) {
        printf("  bytes    %s of codes and scales, all equal to the host reference's\n",
               grouped(text, bytes));
    } else {
        printf("  bytes    %d of %d ways NOT those of the host reference\n", d->wrong, VARIANTS);
    }
}

static void print_errors(const demo *d)
{
    char text[32];
    int i;

    printf(
        "\n  error against y in f32    bits/element    SQNR dB   max error   zeroed   saturated\n");
    for (i = 0; i < VARIANTS; i++) {
        const variant *v = &d->variants[i];
        const double bits = 4.0 + 8.0 / (double)fp4_format_block(v->format) +
                            (v->base_dec > 0.0f ? 32.0 / (double)d->tokens.cols : 0.0);
        printf("  %-24s %13.3f %10s %11.4f %7.2f %% %9.2f %%\n", v->name, bits,
               decibels(text, v->error.sqnr_db), v->error.max_abs, 100.0 * v->error.zeroed,
               100.0 * v->error.saturated);
    }
}

/* Of one token. */
static double token_sqnr(const demo *d, const variant *v, size_t row)
{
    double noise = 0.0, signal = 0.0;
    size_t i;

    for (i = row * d->tokens.cols; i < (row + 1) * d->tokens.cols; i++) {
        const double y = (double)d->exact[i], error = (double)v->decoded[i] - y;
        noise += error * error;
        signal += y * y;
    }
    return noise == 0.0 ? (double)INFINITY : 10.0 * log10(signal / noise);
}

static void print_token(const demo *d, size_t row, const char *why)
{
    double largest = 0.0;
    char text[32], word[24] = "";
    size_t i;

    for (i = row * d->tokens.cols; i < (row + 1) * d->tokens.cols; i++) {
        largest = fmax(largest, fabs((double)d->exact[i]));
    }
    if (d->words != NULL) {
        snprintf(word, sizeof word, "\"%s\"", d->words[row]);
    }
    printf("  %2zu %-8s %-14s %11.4f", row, word, why, largest);
    for (i = 0; i < VARIANTS; i++) {
        printf(" %16s", decibels(text, token_sqnr(d, &d->variants[i], row)));
    }
    putchar('\n');
}

/* The first three, and where NVFP4 does worst and best. */
static void print_tokens(const demo *d)
{
    size_t worst = 0, best = 0, row;
    int i;

    for (row = 0; row < d->tokens.rows; row++) {
        const double sqnr = token_sqnr(d, &d->variants[0], row);
        worst = sqnr < token_sqnr(d, &d->variants[0], worst) ? row : worst;
        best = sqnr > token_sqnr(d, &d->variants[0], best) ? row : best;
    }
    printf("\n  SQNR dB by token            largest |y|");
    for (i = 0; i < VARIANTS; i++) {
        printf(" %16s", d->variants[i].name);
    }
    putchar('\n');
    for (row = 0; row < 3 && row < d->tokens.rows; row++) {
        print_token(d, row, "");
    }
    print_token(d, worst, "NVFP4's worst");
    print_token(d, best, "NVFP4's best");
}

static void print_speed(const demo *d)
{
    demo_speed speed = {SPEED_TOKENS, 0.0, 0.0, 0.0};
    char text[32];
    int i;

    printf("\n  %-28s       us     GB/s   same traffic   of it\n", "speed, median launch");
    for (i = 0; i < VARIANTS; i++) {
        const variant *v = &d->variants[i];
        demo_tokens in = d->tokens;
        const char *failed;
        in.base_dec = v->base_dec;
        failed = v->format == FP4_NVFP4 ? demo_gpu_nvfp4_speed(&in, &speed)
                                        : demo_gpu_mxfp4_speed(&in, &speed);
        if (failed != NULL) {
            die("%s on the GPU: %s", v->name, failed);
        }
        printf("  %-28s %8.1f %8.0f %9.0f GB/s %5.1f %%\n", v->name, speed.kernel * 1e6,
               speed.bytes / speed.kernel * 1e-9, speed.bytes / speed.traffic * 1e-9,
               100.0 * speed.traffic / speed.kernel);
    }
    printf("  %s tokens x %zu, those above again and again; scales 128x4. Same traffic: a kernel\n"
           "  that reads and writes as many bytes and computes nothing, the faster of several.\n",
           grouped(text, speed.tokens), d->tokens.cols);
}

/* -------------------------------------------------------------------------------- picture */

/* Also what the input is not. */
static void check_output(const char *in, const char *out)
{
    struct stat from, to;

    if (stat(out, &to) != 0) {
        return;
    }
    if (!S_ISREG(to.st_mode)) {
        die("%s: not a regular file", out);
    }
    if (stat(in, &from) == 0 && from.st_dev == to.st_dev && from.st_ino == to.st_ino) {
        die("%s: the picture would replace the input", out);
    }
}

/* Under another name first, so that no half of a picture can be left under its own. */
static void write_picture(const char *name, const char *text, size_t bytes)
{
    const size_t room = strlen(name) + 32;
    char *temporary = (char *)allocate(room, 1);
    FILE *file;
    bool ok;

    snprintf(temporary, room, "%s.%ld.tmp", name, (long)getpid());
    file = fopen(temporary, "wbx");
    if (file == NULL) {
        const int why = errno;
        free(temporary);
        die("%s: cannot be created: %s", name, strerror(why));
    }
    ok = fwrite(text, 1, bytes, file) == bytes;
    ok = fclose(file) == 0 && ok;
    if (!ok || rename(temporary, name) != 0) {
        const int why = errno;
        unlink(temporary);
        free(temporary);
        die("%s: cannot be written: %s", name, strerror(why));
    }
    free(temporary);
}

static void draw(const demo *d, const char *name)
{
    const variant *nvfp4 = &d->variants[0], *mxfp4 = &d->variants[2];
    const char *slash = strrchr(d->file, '/');
    char subtitle[256];
    const picture p = {
        "RMSNorm fused with FP4 quantization: what four bits cost, element by element",
        subtitle,
        d->tokens.rows,
        d->tokens.cols,
        d->exact,
        d->words,
        {{nvfp4->name, "nvfp4", "#2f6db3", &nvfp4->t, nvfp4->decoded, nvfp4->error.sqnr_db,
          nvfp4->error.max_abs},
         {mxfp4->name, "mxfp4", "#e08a2e", &mxfp4->t, mxfp4->decoded, mxfp4->error.sqnr_db,
          mxfp4->error.max_abs}}};
    char *text = NULL, size[32];
    size_t bytes = 0;
    FILE *memory = open_memstream(&text, &bytes);
    bool ok = memory != NULL;

    snprintf(subtitle, sizeof subtitle,
             "%zu tokens x %zu columns, bf16: the embeddings in %.80s. %s %.60s.", d->tokens.rows,
             d->tokens.cols, slash != NULL ? slash + 1 : d->file, "Made by",
             d->gpu != NULL ? d->gpu : "the host reference on the CPU");
    if (ok) {
        draw_picture(memory, &p);
        ok = !ferror(memory);
        ok = fclose(memory) == 0 && ok;
    }
    if (!ok) {
        die("out of memory");
    }
    write_picture(name, text, bytes);
    free(text);
    printf("\n  picture  %s (%s bytes)\n", name, grouped(size, bytes));
}

/* -------------------------------------------------------------------------------- main */

static const char usage[] =
    "usage: demo_rmsnorm [IN.safetensors [OUT.svg]]\n"
    "\n"
    "RMSNorm fused with quantization to NVFP4 and MXFP4, of the first 64 rows of\n"
    "  " TABLE " and the weight\n"
    "  " WEIGHT "\n"
    "of IN (default " DEMO_FILE "),\n"
    "on the GPU if built with that half. Prints the errors, and draws them to OUT\n"
    "(default " DEMO_PICTURE ").\n"
    "\n"
    "Exit status 0, or 1 after an error, and where the GPU's bytes are not the reference's.\n";

static void finish(demo *d)
{
    int i;

    for (i = 0; i < VARIANTS; i++) {
        free_tensor(&d->variants[i].t);
        free(d->variants[i].decoded);
    }
    free(d->exact);
    free(d->x);
    free(d->weight);
    st_close(&d->in);
    free(d->bytes);
}

int main(int argc, char **argv)
{
    static demo d = {
        .file = DEMO_FILE,
        .variants = {{.name = "NVFP4", .format = FP4_NVFP4},
                     {.name = "NVFP4 per token", .format = FP4_NVFP4, .base_dec = 1.0f / 2688.0f},
                     {.name = "MXFP4", .format = FP4_MXFP4}},
    };
    const char *out = argc > 2 ? argv[2] : DEMO_PICTURE;
    int i;

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    for (i = 1; i < argc; i++) {
        if (argc > 3 || argv[i][0] == '-') {
            fputs(usage, stderr);
            return 1;
        }
    }
    d.file = argc > 1 ? argv[1] : d.file;
    check_output(d.file, out);
    load(&d);
    d.why = demo_gpu_find(d.name, sizeof d.name);
    d.gpu = d.why == NULL ? d.name : NULL;
    compute_exact(&d);
    print_input(&d);
    for (i = 0; i < VARIANTS; i++) {
        compute(&d, &d.variants[i]);
    }
    print_comparison(&d);
    print_errors(&d);
    print_tokens(&d);
    if (d.gpu != NULL) {
        print_speed(&d);
    }
    draw(&d, out);
    finish(&d);
    return d.wrong > 0;
}
