/*
 * examples/quantize_safetensors.c as its users meet it: files in, files out, status, messages.
 *
 * The program is in this very executable (test_quantize_safetensors_main.c). Every test has a
 * folder of its own under /tmp, removed at its end. T1, T3, T18 and T23 are the cases of the bugs
 * that other tools had.
 */
#if !defined(_XOPEN_SOURCE)
#define _XOPEN_SOURCE 700
#endif

#include <fp4/host/quant.h>

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "safetensors_util.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* ---------------------------------------------------------------- folder and files */

enum { PATH_ROOM = 512, TEXT_ROOM = 16384 };

static char folder[PATH_ROOM];

static void make_folder(void)
{
    strcpy(folder, "/tmp/fp4-test-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
}

/* Removes a folder with the files, and empty folders, in it. */
static void remove_folder(const char *path)
{
    DIR *open_folder = opendir(path);
    const struct dirent *entry;
    char name[2 * PATH_ROOM];

    while (open_folder != NULL && (entry = readdir(open_folder)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
            if (remove(name) != 0) {
                remove_folder(name);
            }
        }
    }
    if (open_folder != NULL) {
        closedir(open_folder);
    }
    rmdir(path);
}

static void remove_test_folder(void)
{
    remove_folder(folder);
}

TestSuite(quantize_safetensors, .init = make_folder, .fini = remove_test_folder);

/* folder/name; a buffer of its own for each of the last eight. */
static const char *path_of(const char *name)
{
    static char paths[8][2 * PATH_ROOM];
    static size_t next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void make_subfolder(const char *name)
{
    cr_assert_eq(mkdir(path_of(name), 0777), 0);
}

static bool exists(const char *name)
{
    return access(path_of(name), F_OK) == 0;
}

/* Files and folders in a folder of the test's. */
static size_t count_files(const char *name)
{
    DIR *open_folder = opendir(path_of(name));
    size_t n = 0;

    cr_assert_not_null(open_folder, "%s", name);
    while (readdir(open_folder) != NULL) {
        n++;
    }
    closedir(open_folder);
    return n - 2; /* . and .. */
}

static void write_bytes(const char *name, const void *bytes, size_t size)
{
    FILE *file = fopen(path_of(name), "wb");

    cr_assert_not_null(file, "%s", name);
    cr_assert_eq(fwrite(bytes, 1, size, file), size);
    cr_assert_eq(fclose(file), 0);
}

static void write_text(const char *name, const char *text)
{
    write_bytes(name, text, strlen(text));
}

static st_bytes read_bytes(const char *name)
{
    FILE *file = fopen(path_of(name), "rb");
    st_bytes all = {NULL, 0};

    cr_assert_not_null(file, "%s", name);
    cr_assert_eq(fseek(file, 0, SEEK_END), 0);
    all.size = (size_t)ftell(file);
    all.bytes = (uint8_t *)calloc(all.size + 1, 1); /* and a NUL, for texts */
    cr_assert_not_null(all.bytes);
    rewind(file);
    cr_assert_eq(fread(all.bytes, 1, all.size, file), all.size);
    fclose(file);
    return all;
}

/* ---------------------------------------------------------------- the program */

typedef struct outcome {
    int status; /* exit status; 128 + number where a signal has ended it */
    char text[TEXT_ROOM];
} outcome;

/* Becomes the program: never returns. Signals do what they do by default, also where a script that
   runs the tests in the background has them ignored. */
static void become_program(const char *const *arguments)
{
    const char *argv[24] = {"quantize_safetensors"};
    size_t n;

    for (n = 0; arguments[n] != NULL; n++) {
        argv[n + 1] = arguments[n];
    }
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    if (setenv("FP4_RUN_EXAMPLE", "1", 1) == 0) {
        execv("/proc/self/exe", (char *const *)(uintptr_t)argv);
    }
    _exit(127);
}

/* Starts the program; what it prints comes out of *output. file_limit: largest file, 0 for any. */
static pid_t start(const char *const *arguments, rlim_t file_limit, int *output)
{
    int ends[2];
    pid_t child;

    cr_assert_eq(pipe(ends), 0);
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        const struct rlimit limit = {file_limit, file_limit};
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        if (file_limit == 0 || setrlimit(RLIMIT_FSIZE, &limit) == 0) {
            become_program(arguments);
        }
        _exit(127);
    }
    close(ends[1]);
    *output = ends[0];
    return child;
}

/* Waits for its end. */
static outcome finish(pid_t child, int output)
{
    outcome o = {0, ""};
    size_t used = 0;
    ssize_t n;
    char more[512];
    int status = 0;

    while ((n = read(output, more, sizeof more)) > 0) {
        const size_t keep = used + (size_t)n < TEXT_ROOM ? (size_t)n : TEXT_ROOM - 1 - used;
        memcpy(o.text + used, more, keep);
        used += keep;
    }
    o.text[used] = '\0';
    close(output);
    cr_assert_eq(waitpid(child, &status, 0), child);
    o.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return o;
}

static outcome run_limited(rlim_t file_limit, const char *const *arguments)
{
    int output;
    const pid_t child = start(arguments, file_limit, &output);

    return finish(child, output);
}

/* run("--format", "mxfp4", path_of("in"), path_of("out")) */
#define run(...) run_limited(0, (const char *const[]){__VA_ARGS__, NULL})

/* It has failed as it should: status 2, a message with these words, no report of a sanitizer. */
static void expect_failure(const outcome *o, const char *words, const char *what)
{
    CHECK_EQ(o->status, 2, "%s: %s", what, o->text);
    CHECK(strstr(o->text, words) != NULL, "%s: no '%s' in: %s", what, words, o->text);
    CHECK(strstr(o->text, "Sanitizer") == NULL && strstr(o->text, "runtime error") == NULL,
          "%s: %s", what, o->text);
}

static void expect_success(const outcome *o)
{
    cr_assert_eq(o->status, 0, "%s", o->text);
}

/* ---------------------------------------------------------------- models */

/* A tensor of a model under construction. */
typedef struct made_tensor {
    const char *name, *dtype;
    size_t rank;
    uint64_t shape[4];
    const void *data;
} made_tensor;

/* Writes them as folder/name, with the metadata {"format":"pt"}. */
static void write_model(const char *name, const made_tensor *made, size_t count)
{
    st_tensor tensors[16];
    st_tensor *order[16];
    cJSON *metadata = cJSON_Parse("{\"format\":\"pt\"}");
    size_t header_bytes, i, k;
    uint8_t *header;
    st_bytes file;

    cr_assert_leq(count, COUNT_OF(tensors));
    for (i = 0; i < count; i++) {
        memset(&tensors[i], 0, sizeof tensors[i]);
        tensors[i].name = made[i].name;
        tensors[i].dtype = st_dtype_find(made[i].dtype);
        tensors[i].rank = made[i].rank;
        memcpy(tensors[i].shape, made[i].shape, made[i].rank * sizeof *made[i].shape);
        order[i] = &tensors[i];
    }
    cr_assert(st_lay_out(order, count));
    header = st_make_header(order, count, metadata, &header_bytes);
    cr_assert_not_null(header);
    file = st_make((const char *)header + 8, header_bytes - 8, NULL,
                   count == 0 ? 0 : (size_t)order[count - 1]->end);
    for (i = 0; i < count; i++) {
        for (k = 0; k < count; k++) { /* order is sorted by st_lay_out */
            if (order[k] == &tensors[i] && order[k]->end != order[k]->begin) {
                memcpy(file.bytes + header_bytes + order[k]->begin, made[i].data,
                       (size_t)(order[k]->end - order[k]->begin));
            }
        }
    }
    write_bytes(name, file.bytes, file.size);
    cJSON_Delete(metadata);
    free(header);
    free(file.bytes);
}

/* A file that has been written, opened. */
typedef struct model {
    st_bytes bytes;
    st_file file;
} model;

static model open_model(const char *name)
{
    model m;
    st_error error;

    m.bytes = read_bytes(name);
    cr_assert(st_read(&m.file, m.bytes.bytes, m.bytes.size, &error), "%s: %s", name, error.text);
    return m;
}

static void close_model(model *m)
{
    st_close(&m->file);
    free(m->bytes.bytes);
}

/* The bytes of a tensor that must be there, with this dtype and shape. */
static const uint8_t *part(const model *m, const char *name, const char *dtype, size_t rank,
                           uint64_t rows, uint64_t cols)
{
    const st_tensor *t = st_find(&m->file, name);

    cr_assert_not_null(t, "no tensor %s", name);
    cr_assert_str_eq(t->dtype->name, dtype, "%s", name);
    cr_assert_eq(t->rank, rank, "%s", name);
    cr_assert(rank < 1 || t->shape[0] == rows, "%s", name);
    cr_assert(rank < 2 || t->shape[1] == cols, "%s", name);
    return m->file.data + t->begin;
}

static float scalar(const model *m, const char *name, size_t rank)
{
    float value;

    memcpy(&value, part(m, name, "F32", rank, 1, 0), sizeof value);
    return value;
}

/* A matrix in which every row and every block of 16 has a magnitude of its own (T18), so that a
   scale in the wrong place shows. */
static void fill(float *x, size_t rows, size_t cols)
{
    size_t r, c;

    for (r = 0; r < rows; r++) {
        for (c = 0; c < cols; c++) {
            const double magnitude = ldexp(1.0 + 0.05 * (double)(r % 13), (int)(r % 5) - 2) *
                                     (1.0 + 0.37 * (double)(c / 16));
            const double wave = sin(0.7 * (double)c + 1.3 * (double)r);
            x[r * cols + c] = (float)(magnitude * wave);
        }
    }
}

static float amax_of(const float *x, size_t n)
{
    float amax = 0.0f;
    size_t i;

    for (i = 0; i < n; i++) {
        amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    }
    return amax;
}

/* ---------------------------------------------------------------- what is written */

/* The value of an e4m3 or e8m0 byte and of a code, straight from their definitions. */
static double e4m3_value(uint8_t byte)
{
    const int exponent = byte >> 3 & 15, mantissa = byte & 7;

    return exponent == 0 ? ldexp(mantissa, -9) : ldexp(8 + mantissa, exponent - 10);
}

static double code_value(const uint8_t *q, size_t i)
{
    static const double values[] = {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0};
    const unsigned code = (unsigned)q[i / 2] >> i % 2 * 4 & 15u;

    return code < 8 ? values[code] : -values[code - 8];
}

/* |x - code * sf * dec| is at most half of the widest gap between codes (4 to 6), or what clipping
   at 6 leaves where the scale byte was rounded down, by 1/16 at most. */
static void check_values(const float *x, const uint8_t *q, const uint8_t *sf, double dec,
                         size_t rows, size_t cols, const char *what)
{
    size_t i;

    for (i = 0; i < rows * cols; i++) {
        const double step = e4m3_value(sf[i / 16]) * dec;
        const double error = fabs((double)x[i] - code_value(q, i) * step);
        CHECK(error <= 1.0001 * step, "%s: element %zu is %g off, its step is %g", what, i, error,
              step);
    }
}

Test(quantize_safetensors, writes_what_the_reference_makes_for_any_number_of_rows) /* T1, T18 */
{
    static const size_t shapes[][2] = {{1, 16}, {5, 80}, {8, 64}, {127, 48}, {128, 32}, {129, 112}};
    static float x[129 * 112];
    static uint8_t q[129 * 56], sf[129 * 7];
    size_t i;

    for (i = 0; i < COUNT_OF(shapes); i++) {
        const size_t rows = shapes[i][0], cols = shapes[i][1];
        const made_tensor made = {"a.weight", "F32", 2, {rows, cols}, x};
        fp4_tensor t =
            fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_LINEAR, rows, cols, q, sizeof q, sf, sizeof sf);
        outcome o;
        model m;
        fill(x, rows, cols);
        write_model("in", &made, 1);
        o = run(path_of("in"), path_of("out"));
        expect_success(&o);
        m = open_model("out");
        cr_assert_eq(m.file.count, 3);
        cr_assert_eq(fp4_ref_nvfp4_quantize(fp4_matrix_f32(x, rows, cols, cols),
                                            fp4_nvfp4_global_enc(amax_of(x, rows * cols)), &t),
                     FP4_OK);
        cr_assert_arr_eq(part(&m, "a.weight", "U8", 2, rows, cols / 2), q, rows * cols / 2);
        cr_assert_arr_eq(part(&m, "a.weight_scale", "F8_E4M3", 2, rows, cols / 16), sf,
                         rows * cols / 16);
        cr_assert_eq(scalar(&m, "a.weight_scale_2", 0), t.global_dec);
        check_values(x, q, sf, (double)t.global_dec, rows, cols, "a.weight");
        close_model(&m);
    }
}

Test(quantize_safetensors, writes_MXFP4_by_each_scale_rule)
{
    static const char *const rules[] = {"up", "floor", "ceil", "even"};
    static fp4_status (*const by_rule[])(fp4_matrix, fp4_tensor *) = {
        fp4_ref_mxfp4_quantize, fp4_ref_mxfp4_quantize_floor, fp4_ref_mxfp4_quantize_ceil,
        fp4_ref_mxfp4_quantize_even};
    static float x[33 * 96];
    static uint8_t q[33 * 48], sf[33 * 3];
    const made_tensor made = {"a.weight", "F32", 2, {33, 96}, x};
    fp4_tensor t =
        fp4_tensor_view(FP4_MXFP4, FP4_LAYOUT_LINEAR, 33, 96, q, sizeof q, sf, sizeof sf);
    size_t i;

    fill(x, 33, 96);
    write_model("in", &made, 1);
    for (i = 0; i < COUNT_OF(rules); i++) {
        outcome o = run("--format", "mxfp4", "--scale", rules[i], path_of("in"), path_of("out"));
        model m;
        expect_success(&o);
        m = open_model("out");
        cr_assert_eq(m.file.count, 2);
        cr_assert_eq(by_rule[i](fp4_matrix_f32(x, 33, 96, 96), &t), FP4_OK);
        cr_assert_arr_eq(part(&m, "a.weight", "U8", 2, 33, 48), q, sizeof q);
        cr_assert_arr_eq(part(&m, "a.weight_scale", "U8", 2, 33, 3), sf, sizeof sf);
        close_model(&m);
    }
}

Test(quantize_safetensors, the_same_values_in_F32_F16_and_BF16_give_the_same_bytes)
{
    static float x[4 * 32];
    static uint16_t half[4 * 32], brain[4 * 32];
    const made_tensor made[] = {{"a.weight", "F32", 2, {4, 32}, x},
                                {"b.weight", "F16", 2, {4, 32}, half},
                                {"c.weight", "BF16", 2, {4, 32}, brain}};
    outcome o;
    model m;
    size_t i;

    for (i = 0; i < COUNT_OF(x); i++) { /* up to 7 bits: exact in all three */
        x[i] = (float)((int)(i * 37 % 255) - 127) / 64.0f;
        half[i] = fp4_f32_to_f16(x[i]);
        brain[i] = fp4_f32_to_bf16(x[i]);
    }
    write_model("in", made, COUNT_OF(made));
    o = run(path_of("in"), path_of("out"));
    expect_success(&o);
    m = open_model("out");
    for (i = 0; i < 2; i++) {
        const char *codes = i == 0 ? "b.weight" : "c.weight";
        const char *scales = i == 0 ? "b.weight_scale" : "c.weight_scale";
        cr_assert_arr_eq(part(&m, codes, "U8", 2, 4, 16), part(&m, "a.weight", "U8", 2, 4, 16), 64);
        cr_assert_arr_eq(part(&m, scales, "F8_E4M3", 2, 4, 2),
                         part(&m, "a.weight_scale", "F8_E4M3", 2, 4, 2), 8);
    }
    close_model(&m);
}

Test(quantize_safetensors, zeros_give_zeros_and_a_positive_scale) /* T3 */
{
    static float x[3 * 64]; /* all zero but one row */
    static const float zeros[2 * 32];
    const made_tensor made[] = {{"some.weight", "F32", 2, {3, 64}, x},
                                {"none.weight", "F32", 2, {2, 32}, zeros}};
    outcome o;
    model m;
    size_t i;

    x[70] = 3.0f;
    write_model("in", made, COUNT_OF(made));
    o = run(path_of("in"), path_of("out"));
    expect_success(&o);
    cr_assert_not_null(strstr(o.text, "exact"));
    m = open_model("out");
    for (i = 0; i < 32; i++) {
        CHECK_EQ(part(&m, "none.weight", "U8", 2, 2, 16)[i], 0, "code byte %zu", i);
    }
    for (i = 0; i < 4; i++) {
        CHECK_EQ(part(&m, "none.weight_scale", "F8_E4M3", 2, 2, 2)[i], 0, "scale %zu", i);
    }
    for (i = 0; i < 12; i++) {
        CHECK_EQ(part(&m, "some.weight_scale", "F8_E4M3", 2, 3, 4)[i], i == 4 ? 0x7e : 0,
                 "scale %zu", i);
    }
    cr_assert_eq(scalar(&m, "none.weight_scale_2", 0), 1.0f);
    close_model(&m);
}

Test(quantize_safetensors, names_of_compressed_tensors_carry_the_scale_in_encode_sense)
{
    static float x[4 * 32];
    const made_tensor made = {"model.a.weight", "F32", 2, {4, 32}, x};
    outcome o;
    model ours, theirs;

    fill(x, 4, 32);
    write_model("in", &made, 1);
    o = run(path_of("in"), path_of("out"));
    expect_success(&o);
    o = run("--names", "compressed-tensors", path_of("in"), path_of("out2"));
    expect_success(&o);
    ours = open_model("out");
    theirs = open_model("out2");
    cr_assert_eq(theirs.file.count, 3);
    cr_assert_arr_eq(part(&theirs, "model.a.weight_packed", "U8", 2, 4, 16),
                     part(&ours, "model.a.weight", "U8", 2, 4, 16), 64);
    cr_assert_arr_eq(part(&theirs, "model.a.weight_scale", "F8_E4M3", 2, 4, 2),
                     part(&ours, "model.a.weight_scale", "F8_E4M3", 2, 4, 2), 8);
    cr_assert_eq(scalar(&theirs, "model.a.weight_global_scale", 1), 2688.0f / amax_of(x, 128));
    cr_assert_eq(scalar(&ours, "model.a.weight_scale_2", 0),
                 1.0f / scalar(&theirs, "model.a.weight_global_scale", 1));
    close_model(&ours);
    close_model(&theirs);
}

/* A one-row weight whose amax is `amax`. */
static made_tensor weight_of(const char *name, float *x, float amax)
{
    const made_tensor made = {name, "F32", 2, {1, 16}, x};
    size_t i;

    for (i = 0; i < 16; i++) {
        x[i] = amax * (float)((int)i - 7) / 8.0f;
    }
    return made;
}

Test(quantize_safetensors, fused_layers_share_the_scale_of_the_largest_and_others_do_not)
{
    static const struct {
        const char *module;
        float amax, shared;
    } layers[] = {{"l.0.self_attn.q_proj", 1.0f, 3.0f},
                  {"l.0.self_attn.v_proj", 2.0f, 3.0f},
                  {"l.0.self_attn.k_proj", 3.0f, 3.0f},
                  {"l.0.self_attn.o_proj", 9.0f, 9.0f},
                  {"l.10.self_attn.q_proj", 5.0f, 6.0f},
                  {"l.10.self_attn.k_proj", 6.0f, 6.0f},
                  {"l.10.self_attn.v_proj", 4.0f, 6.0f},
                  {"l.0.mlp.up_proj", 7.0f, 7.0f},
                  {"l.0.mlp.gate_proj", 0.5f, 7.0f},
                  {"l.0.mlp.down_proj", 8.0f, 8.0f},
                  {"e.0.w1", 1.5f, 2.5f},
                  {"e.0.w3", 2.5f, 2.5f},
                  {"query", 0.0f, 0.25f},
                  {"key", 0.25f, 0.25f},
                  {"value", 0.125f, 0.25f}};
    static float x[15][16];
    static char names[15][64];
    made_tensor made[15];
    outcome o;
    model m;
    size_t i;

    for (i = 0; i < 15; i++) {
        snprintf(names[i], sizeof names[i], "%s.weight", layers[i].module);
        made[i] = weight_of(names[i], x[i], layers[i].amax);
    }
    write_model("in", made, 15);
    o = run(path_of("in"), path_of("out"));
    expect_success(&o);
    cr_assert_null(strstr(o.text, "warning"), "%s", o.text);
    m = open_model("out");
    for (i = 0; i < 15; i++) {
        char name[80];
        snprintf(name, sizeof name, "%s.weight_scale_2", layers[i].module);
        CHECK(scalar(&m, name, 0) == 1.0f / (2688.0f / layers[i].shared), "%s: %g", name,
              (double)scalar(&m, name, 0));
    }
    close_model(&m);
}

Test(quantize_safetensors, warns_where_only_part_of_a_fused_layer_is_quantized)
{
    static float x[2][16];
    const made_tensor made[] = {weight_of("a.q_proj.weight", x[0], 1.0f),
                                weight_of("a.k_proj.weight", x[1], 2.0f)};
    outcome o;

    write_model("in", made, 2);
    o = run(path_of("in"), path_of("out"));
    expect_success(&o);
    cr_assert_not_null(strstr(o.text, "warning: a.: of q_proj, k_proj, v_proj"), "%s", o.text);
    cr_assert_not_null(strstr(o.text, "only 2 of 3"), "%s", o.text);
}

Test(quantize_safetensors, copies_every_other_dtype_and_the_metadata_byte_for_byte)
{
    static const char *const dtypes[] = {"BOOL", "U8",  "I8",      "F8_E5M2", "F8_E4M3",
                                         "I16",  "U16", "F8_E8M0", "I32",     "U32",
                                         "C64",  "F64", "I64",     "U64",     "F4"};
    static uint8_t data[15][64];
    static char names[15][16];
    made_tensor made[15];
    outcome o;
    model m;
    size_t i, k;

    for (i = 0; i < 15; i++) {
        for (k = 0; k < sizeof data[i]; k++) {
            data[i][k] = (uint8_t)(37 * i + 11 * k);
        }
        snprintf(names[i], sizeof names[i], "%zu.weight", i);
        made[i] = (made_tensor){names[i], dtypes[i], 2, {4, 2}, data[i]};
    }
    write_model("in", made, 15);
    o = run(path_of("in"), path_of("out"));
    expect_success(&o);
    cr_assert_not_null(strstr(o.text, "nothing to quantize"), "%s", o.text);
    m = open_model("out");
    cr_assert_eq(m.file.count, 15);
    cr_assert_str_eq(cJSON_GetObjectItem(m.file.metadata, "format")->valuestring, "pt");
    for (i = 0; i < 15; i++) {
        const st_tensor *t = st_find(&m.file, names[i]);
        cr_assert_arr_eq(part(&m, names[i], dtypes[i], 2, 4, 2), data[i], t->end - t->begin);
    }
    close_model(&m);
}

Test(quantize_safetensors, every_tensor_of_the_output_is_aligned)
{
    static float x[5 * 16];
    static uint8_t bytes[64];
    const made_tensor made[] = {{"a", "U8", 1, {7}, bytes},
                                {"b.weight", "F32", 2, {5, 16}, x},
                                {"c", "I64", 1, {3}, bytes},
                                {"d", "BF16", 1, {3}, bytes}};
    outcome o;
    model m;
    size_t i;

    fill(x, 5, 16);
    write_model("in", made, COUNT_OF(made));
    o = run(path_of("in"), path_of("out"));
    expect_success(&o);
    m = open_model("out");
    for (i = 0; i < m.file.count; i++) {
        const st_tensor *t = &m.file.tensors[i];
        const size_t at = (size_t)(m.file.data - m.bytes.bytes) + (size_t)t->begin;
        CHECK_EQ(at & (t->dtype->bits / 8 - 1), 0, "%s at %zu", t->name, at);
    }
    close_model(&m);
}

/* ---------------------------------------------------------------- what is quantized */

static bool is_quantized(const model *m, const char *name)
{
    const st_tensor *t = st_find(&m->file, name);

    cr_assert_not_null(t, "no tensor %s", name);
    return strcmp(t->dtype->name, "U8") == 0;
}

Test(quantize_safetensors, keeps_what_engines_do_not_take_quantized)
{
    static const char *const kept[] = {"model.embed_tokens.weight",
                                       "transformer.wte.weight",
                                       "lm_head.weight",
                                       "output.weight",
                                       "model.layers.0.mlp.gate.weight",
                                       "model.layers.0.block_sparse_moe.gate.weight",
                                       "model.layers.0.mlp.shared_expert_gate.weight",
                                       "model.layers.0.attention_norm.weight",
                                       "encoder.LayerNorm.weight",
                                       "model.layers.0.mlp.router.weight",
                                       "vision_tower.a.weight",
                                       "a.lora_A"};
    static const char *const taken[] = {"a.attention.output.dense.weight", "a.mlp.down_proj.weight",
                                        "b.o_proj.weight"};
    static float x[2 * 32];
    made_tensor made[COUNT_OF(kept) + COUNT_OF(taken)];
    outcome o;
    model m;
    size_t i;

    fill(x, 2, 32);
    for (i = 0; i < COUNT_OF(made); i++) {
        const char *name = i < COUNT_OF(kept) ? kept[i] : taken[i - COUNT_OF(kept)];
        made[i] = (made_tensor){name, "F32", 2, {2, 32}, x};
    }
    write_model("in", made, COUNT_OF(made));
    o = run(path_of("in"), path_of("out"));
    expect_success(&o);
    m = open_model("out");
    for (i = 0; i < COUNT_OF(made); i++) {
        CHECK(is_quantized(&m, made[i].name) == (i >= COUNT_OF(kept)), "%s", made[i].name);
    }
    close_model(&m);
}

Test(quantize_safetensors, keeps_shapes_that_are_not_matrices_of_whole_blocks)
{
    static float x[64];
    const made_tensor made[] = {
        {"vector.weight", "F32", 1, {64}, x},      {"scalar.weight", "F32", 0, {0}, x},
        {"stack.weight", "F32", 3, {2, 2, 16}, x}, {"ragged.weight", "F32", 2, {2, 24}, x},
        {"half.weight", "F32", 2, {2, 16}, x},     {"whole.weight", "F32", 2, {2, 32}, x}};
    outcome o;
    model m;
    size_t i;

    fill(x, 2, 32);
    write_model("in", made, COUNT_OF(made));
    for (i = 0; i < 2; i++) { /* a wish does not make it possible */
        o = run("--format", i == 0 ? "nvfp4" : "mxfp4", "--include", "*", path_of("in"),
                path_of("out"));
        expect_success(&o);
        m = open_model("out");
        cr_assert(!is_quantized(&m, "vector.weight") && !is_quantized(&m, "scalar.weight") &&
                  !is_quantized(&m, "stack.weight") && !is_quantized(&m, "ragged.weight"));
        cr_assert_eq(is_quantized(&m, "half.weight"), i == 0);
        cr_assert(is_quantized(&m, "whole.weight"));
        close_model(&m);
    }
}

Test(quantize_safetensors, of_the_patterns_that_match_the_last_decides)
{
    static float x[2 * 16];
    const made_tensor made[] = {{"a.mlp.weight", "F32", 2, {2, 16}, x},
                                {"b.mlp.weight", "F32", 2, {2, 16}, x},
                                {"embed.weight", "F32", 2, {2, 16}, x}};
    outcome o;
    model m;

    fill(x, 2, 16);
    write_model("in", made, COUNT_OF(made));
    o = run("--exclude", "*", "--include", "*.mlp.*", "--exclude", "b.*", path_of("in"),
            path_of("out"));
    expect_success(&o);
    m = open_model("out");
    cr_assert(is_quantized(&m, "a.mlp.weight"));
    cr_assert(!is_quantized(&m, "b.mlp.weight"));
    cr_assert(!is_quantized(&m, "embed.weight"));
    close_model(&m);
    o = run("--include", "embed.weight", path_of("in"), path_of("out"));
    expect_success(&o);
    m = open_model("out");
    cr_assert(is_quantized(&m, "embed.weight"));
    close_model(&m);
}

/* ---------------------------------------------------------------- and back */

Test(quantize_safetensors, dequantizes_both_namings_and_formats_to_the_decoded_values)
{
    static const char *const options[][2] = {{"nvfp4", "modelopt"},
                                             {"nvfp4", "compressed-tensors"},
                                             {"mxfp4", "modelopt"},
                                             {"mxfp4", "compressed-tensors"}};
    static float x[9 * 64], y[9 * 64];
    static uint8_t q[9 * 32], sf[9 * 4];
    const made_tensor made[] = {{"a.weight", "F32", 2, {9, 64}, x}, {"bias", "F16", 1, {9}, x}};
    size_t i;

    fill(x, 9, 64);
    write_model("in", made, 2);
    for (i = 0; i < COUNT_OF(options); i++) {
        const bool nvfp4 = i < 2;
        fp4_tensor t = fp4_tensor_view(nvfp4 ? FP4_NVFP4 : FP4_MXFP4, FP4_LAYOUT_LINEAR, 9, 64, q,
                                       sizeof q, sf, sizeof sf);
        const fp4_matrix view = fp4_matrix_f32(x, 9, 64, 64);
        outcome o =
            run("--format", options[i][0], "--names", options[i][1], path_of("in"), path_of("out"));
        model m;
        expect_success(&o);
        o = run("--dequantize", path_of("out"), path_of("back"));
        expect_success(&o);
        cr_assert_eq(
            nvfp4 ? fp4_ref_nvfp4_quantize(view, fp4_nvfp4_global_enc(amax_of(x, COUNT_OF(x))), &t)
                  : fp4_ref_mxfp4_quantize(view, &t),
            FP4_OK);
        cr_assert_eq(fp4_ref_dequantize(&t, y, sizeof y, 64), FP4_OK);
        m = open_model("back");
        cr_assert_eq(m.file.count, 2);
        cr_assert_arr_eq(part(&m, "a.weight", "F32", 2, 9, 64), y, sizeof y);
        cr_assert_arr_eq(part(&m, "bias", "F16", 1, 9, 0), x, 18);
        close_model(&m);
    }
}

Test(quantize_safetensors, dequantize_refuses_scales_that_do_not_fit)
{
    static const float enc[] = {0.0f, -1.0f, 1.0f};
    static uint8_t bytes[512];
    const made_tensor bad[][3] = {{{"a.weight", "U8", 2, {2, 16}, bytes},
                                   {"a.weight_scale", "F8_E4M3", 2, {2, 2}, bytes},
                                   {"b", "U8", 1, {1}, bytes}},
                                  {{"a.weight", "U8", 2, {2, 16}, bytes},
                                   {"a.weight_scale", "F8_E4M3", 2, {2, 1}, bytes},
                                   {"a.weight_scale_2", "F32", 0, {0}, &enc[2]}},
                                  {{"a.weight", "U8", 2, {2, 16}, bytes},
                                   {"a.weight_scale", "I8", 2, {2, 1}, bytes},
                                   {"b", "U8", 1, {1}, bytes}},
                                  {{"a.weight", "U8", 2, {2, 16}, bytes},
                                   {"a.weight_scale", "F8_E4M3", 2, {2, 2}, bytes},
                                   {"a.weight_scale_2", "F32", 1, {2}, bytes}},
                                  {{"a.weight", "U8", 2, {2, 16}, bytes},
                                   {"a.weight_scale", "F8_E4M3", 2, {2, 2}, bytes},
                                   {"a.weight_scale_2", "F32", 0, {0}, &enc[1]}},
                                  {{"a.weight_packed", "U8", 2, {2, 16}, bytes},
                                   {"a.weight_scale", "F8_E4M3", 2, {2, 2}, bytes},
                                   {"a.weight_global_scale", "F32", 1, {1}, &enc[0]}},
                                  {{"a.weight_packed", "U8", 2, {2, 16}, bytes},
                                   {"a.weight_scale", "U8", 2, {2, 1}, bytes},
                                   {"a.weight", "U8", 1, {1}, bytes}}};
    static const char *const words[] = {"tensor 'a.weight': no second-level scale",
                                        "tensor 'a.weight_scale': its dtype and shape",
                                        "tensor 'a.weight_scale': its dtype and shape",
                                        "tensor 'a.weight': no second-level scale",
                                        "tensor 'a.weight_scale_2': -1 is no scale",
                                        "tensor 'a.weight_global_scale': 0 is no scale",
                                        "tensor 'a.weight': the output would have two"};
    size_t i;

    for (i = 0; i < COUNT_OF(bad); i++) {
        outcome o;
        write_model("in", bad[i], 3);
        o = run("--dequantize", path_of("in"), path_of("out"));
        expect_failure(&o, words[i], words[i]);
        CHECK_EQ(count_files("."), 1, "%s", words[i]);
    }
}

/* ---------------------------------------------------------------- configs */

/* The JSON of a file. */
static cJSON *parse(const char *name)
{
    const st_bytes text = read_bytes(name);
    cJSON *json = cJSON_ParseWithLength((const char *)text.bytes, text.size);

    cr_assert_not_null(json, "%s", name);
    free(text.bytes);
    return json;
}

/* A model of one layer and one embedding. */
static void write_small_model(const char *name)
{
    static float x[2 * 32];
    const made_tensor made[] = {{"model.embed_tokens.weight", "F32", 2, {2, 32}, x},
                                {"model.a.weight", "F32", 2, {2, 32}, x},
                                {"model.experts.gate_up", "F32", 3, {1, 2, 32}, x},
                                {"model.odd", "F32", 2, {2, 32}, x}};

    fill(x, 2, 32);
    write_model(name, made, COUNT_OF(made));
}

Test(quantize_safetensors, config_of_modelopt_names_algorithm_and_what_was_kept)
{
    cJSON *json, *quantization, *kept;
    outcome o;

    write_small_model("in");
    o = run(path_of("in"), path_of("out"));
    expect_success(&o);
    cr_assert_eq(count_files("."), 3);
    json = parse("hf_quant_config.json");
    quantization = cJSON_GetObjectItem(json, "quantization");
    cr_assert_str_eq(cJSON_GetObjectItem(json, "quant_method")->valuestring, "modelopt");
    cr_assert_str_eq(cJSON_GetObjectItem(quantization, "quant_algo")->valuestring, "W4A16_NVFP4");
    cr_assert_eq(cJSON_GetObjectItem(quantization, "group_size")->valueint, 16);
    cr_assert(cJSON_IsNull(cJSON_GetObjectItem(quantization, "kv_cache_quant_algo")));
    kept = cJSON_GetObjectItem(quantization, "exclude_modules");
    /* not "model", of which model.odd is a parameter: engines would keep all of it */
    cr_assert_eq(cJSON_GetArraySize(kept), 3);
    cr_assert_str_eq(cJSON_GetArrayItem(kept, 0)->valuestring, "model.embed_tokens");
    cr_assert_str_eq(cJSON_GetArrayItem(kept, 1)->valuestring, "model.experts");
    cr_assert_str_eq(cJSON_GetArrayItem(kept, 2)->valuestring, "lm_head");
    cJSON_Delete(json);
}

Test(quantize_safetensors, config_of_compressed_tensors_names_format_and_scheme)
{
    cJSON *json, *weights;
    outcome o;

    write_small_model("in");
    o = run("--names", "compressed-tensors", "--format", "mxfp4", path_of("in"), path_of("out"));
    expect_success(&o);
    cr_assert_not_null(strstr(o.text, "under the key \"quantization_config\""), "%s", o.text);
    json = parse("quantization_config.json");
    cr_assert_str_eq(cJSON_GetObjectItem(json, "quant_method")->valuestring, "compressed-tensors");
    cr_assert_str_eq(cJSON_GetObjectItem(json, "format")->valuestring, "mxfp4-pack-quantized");
    weights = cJSON_GetObjectItem(
        cJSON_GetObjectItem(cJSON_GetObjectItem(json, "config_groups"), "group_0"), "weights");
    cr_assert_str_eq(cJSON_GetObjectItem(weights, "strategy")->valuestring, "group");
    cr_assert_eq(cJSON_GetObjectItem(weights, "group_size")->valueint, 32);
    cr_assert_eq(cJSON_GetArraySize(cJSON_GetObjectItem(json, "ignore")), 3);
    cJSON_Delete(json);
}

Test(quantize_safetensors, config_json_is_carried_over_with_its_text_unchanged)
{
    static const char *const configs[] = {"{\"rope_theta\": 10000.0, \"eps\": 1e-05\n}\n", "{}",
                                          " { } "};
    static const char *const kept[] = {"{\"rope_theta\": 10000.0, \"eps\": 1e-05,\n", "{\n",
                                       " {\n"};
    size_t i;

    write_small_model("in");
    make_subfolder("sub");
    for (i = 0; i < COUNT_OF(configs); i++) {
        outcome o;
        cJSON *json;
        st_bytes text;
        write_text("config.json", configs[i]);
        o = run("--names", i == 0 ? "modelopt" : "compressed-tensors", path_of("in"),
                path_of("sub/out"));
        expect_success(&o);
        text = read_bytes("sub/config.json");
        CHECK(memcmp(text.bytes, kept[i], strlen(kept[i])) == 0, "%s", (char *)text.bytes);
        json = parse("sub/config.json");
        cr_assert_not_null(cJSON_GetObjectItem(json, "quantization_config"));
        cJSON_Delete(json);
        free(text.bytes);
    }
    cr_assert(!exists("sub/quantization_config.json"));
    cr_assert(!exists("quantization_config.json"));
}

Test(quantize_safetensors, the_inputs_own_config_json_is_never_overwritten)
{
    st_bytes text;
    outcome o;

    write_small_model("in");
    write_text("config.json", "{\"a\": 1}");
    o = run("--names", "compressed-tensors", path_of("in"), path_of("out"));
    expect_success(&o);
    text = read_bytes("config.json");
    cr_assert_str_eq((const char *)text.bytes, "{\"a\": 1}");
    cr_assert(exists("quantization_config.json"));
    free(text.bytes);
}

Test(quantize_safetensors, refuses_a_config_json_that_cannot_be_merged)
{
    static const char *const bad[] = {"", "[1]", "{\"a\": ", "{\"quantization_config\": {}}"};
    size_t i;

    write_small_model("in");
    make_subfolder("sub");
    for (i = 0; i < COUNT_OF(bad); i++) {
        outcome o;
        write_text("config.json", bad[i]);
        o = run(path_of("in"), path_of("sub/out"));
        expect_failure(&o, "config.json", bad[i]);
        CHECK_EQ(count_files("sub"), 0, "%s", bad[i]);
    }
}

/* ---------------------------------------------------------------- errors */

Test(quantize_safetensors, usage_errors_show_the_usage)
{
    const char *const bad[][5] = {{NULL},
                                  {"in", NULL},
                                  {"in", "out", "more", NULL},
                                  {"--unknown", "in", "out", NULL},
                                  {"--format", "fp8", "in", "out", NULL},
                                  {"--names", "mine", "in", "out", NULL},
                                  {"--scale", "up", "in", "out", NULL},
                                  {"in", "out", "--format", NULL}};
    outcome o;
    size_t i;

    for (i = 0; i < COUNT_OF(bad); i++) {
        o = run_limited(0, bad[i]);
        expect_failure(&o, "usage:", bad[i][0] == NULL ? "nothing" : bad[i][0]);
    }
    o = run("--help");
    expect_success(&o);
    cr_assert_eq(strncmp(o.text, "usage:", 6), 0);
}

Test(quantize_safetensors, refuses_every_bad_header_and_leaves_no_file)
{
    size_t i;

    for (i = 0; i < COUNT_OF(st_bad_headers); i++) {
        const st_bad_header *bad = &st_bad_headers[i];
        const st_bytes file = st_make(bad->header, strlen(bad->header), NULL, bad->data_bytes);
        outcome o;
        write_bytes("in", file.bytes, file.size);
        free(file.bytes);
        o = run(path_of("in"), path_of("out"));
        expect_failure(&o, bad->message, bad->what);
        CHECK_EQ(count_files("."), 1, "%s", bad->what);
    }
}

Test(quantize_safetensors, refuses_inputs_that_are_no_file_or_too_short)
{
    outcome o = run(path_of("in"), path_of("out"));

    expect_failure(&o, "cannot be opened", "no file");
    o = run(folder, path_of("out"));
    expect_failure(&o, "not a regular file", "a folder");
    write_text("in", "");
    o = run(path_of("in"), path_of("out"));
    expect_failure(&o, "too few", "an empty file");
    write_text("in", "version https://git-lfs.github.com/spec/v1\n");
    o = run(path_of("in"), path_of("out"));
    expect_failure(&o, "over the limit", "a pointer of git-lfs");
    cr_assert_eq(count_files("."), 1);
}

Test(quantize_safetensors, refuses_a_file_cut_short_naming_the_tensor)
{
    st_bytes file;
    outcome o;

    write_small_model("in");
    file = read_bytes("in");
    write_bytes("in", file.bytes, file.size - 1);
    o = run(path_of("in"), path_of("out"));
    expect_failure(&o, "tensor 'model.odd': ends at byte", "cut short");
    cr_assert_eq(count_files("."), 1);
    free(file.bytes);
}

Test(quantize_safetensors, refuses_to_write_over_its_input)
{
    outcome o;
    st_bytes before, after;

    write_small_model("in");
    before = read_bytes("in");
    o = run(path_of("in"), path_of("./in"));
    expect_failure(&o, "is the input", "itself");
    cr_assert_eq(link(path_of("in"), path_of("linked")), 0);
    o = run(path_of("in"), path_of("linked"));
    expect_failure(&o, "is the input", "a link");
    after = read_bytes("in");
    cr_assert_eq(before.size, after.size);
    cr_assert_arr_eq(before.bytes, after.bytes, before.size);
    free(before.bytes);
    free(after.bytes);
}

Test(quantize_safetensors, refuses_outputs_that_cannot_be_files)
{
    struct stat info;
    outcome o;

    write_small_model("in");
    o = run(path_of("in"), path_of("missing/out"));
    expect_failure(&o, "cannot be created", "a folder that is missing");
    o = run(path_of("in"), folder);
    expect_failure(&o, "not a regular file", "a folder");
    o = run(path_of("in"), "/dev/full");
    expect_failure(&o, "not a regular file", "a device");
    cr_assert(stat("/dev/full", &info) == 0 && S_ISCHR(info.st_mode));
    cr_assert_eq(count_files("."), 1);
}

Test(quantize_safetensors,
     a_file_that_cannot_be_written_whole_leaves_nothing_and_spares_the_old_one)
{
    static float x[64 * 64];
    const made_tensor made = {"a.weight", "F32", 2, {64, 64}, x};
    outcome o;
    st_bytes old;

    fill(x, 64, 64);
    write_model("in", &made, 1);
    write_text("out", "old");
    o = run_limited(1024, (const char *const[]){path_of("in"), path_of("out"), NULL});
    expect_failure(&o, "tensor 'a.weight': cannot be written", "a limit of 1024 bytes");
    cr_assert_eq(count_files("."), 2);
    old = read_bytes("out");
    cr_assert_str_eq((const char *)old.bytes, "old");
    free(old.bytes);
}

Test(quantize_safetensors, a_config_that_cannot_be_written_takes_the_model_with_it)
{
    outcome o;

    write_small_model("in");
    make_subfolder("hf_quant_config.json");
    o = run(path_of("in"), path_of("out"));
    expect_failure(&o, "hf_quant_config.json: not a regular file", "a folder of that name");
    cr_assert_eq(count_files("."), 2);
}

Test(quantize_safetensors, refuses_what_is_quantized_already)
{
    outcome o;

    write_small_model("in");
    o = run("--names", "compressed-tensors", path_of("in"), path_of("out"));
    expect_success(&o);
    o = run(path_of("out"), path_of("again"));
    expect_failure(&o, "tensor 'model.a.weight_", "the program's own output");
    expect_failure(&o, "quantized already", "the program's own output");
    cr_assert(!exists("again"));
}

Test(quantize_safetensors, refuses_NaN_and_infinity_unless_the_tensor_is_excluded) /* T23 */
{
    static const float specials[] = {NAN, INFINITY, -INFINITY};
    static float x[2 * 32];
    const made_tensor made[] = {{"a.weight", "F32", 2, {2, 32}, x},
                                {"b.weight", "F32", 2, {1, 16}, x}};
    size_t i;

    for (i = 0; i < 3; i++) {
        outcome o;
        fill(x, 2, 32);
        x[40] = specials[i];
        write_model("in", made, 2);
        o = run(path_of("in"), path_of("out"));
        expect_failure(&o, "tensor 'a.weight': holds NaN or infinity", "special");
        CHECK_EQ(count_files("."), 1, "special %zu", i);
        o = run("--exclude", "a.weight", path_of("in"), path_of("sub"));
        expect_success(&o);
        remove(path_of("sub"));
        remove(path_of("hf_quant_config.json"));
    }
}

Test(quantize_safetensors, a_full_standard_output_is_an_error)
{
    const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    int status = 0;
    pid_t child;

    write_small_model("in");
    cr_assert_geq(full, 0);
    child = fork();
    if (child == 0) {
        dup2(full, STDOUT_FILENO);
        dup2(full, STDERR_FILENO);
        become_program((const char *const[]){path_of("in"), path_of("out"), NULL});
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 2);
    cr_assert_eq(count_files("."), 1);
    close(full);
}

/* ---------------------------------------------------------------- interrupted */

/* A model of zeros that takes a while: a file with a hole. */
static void write_large_model(const char *name)
{
    static const char header[] = "{\"a.weight\":{\"dtype\":\"F32\",\"shape\":[16384,8192],"
                                 "\"data_offsets\":[0,536870912]}}";
    const st_bytes start_of_file = st_make(header, strlen(header), NULL, 0);

    write_bytes(name, start_of_file.bytes, start_of_file.size);
    cr_assert_eq(truncate(path_of(name), (off_t)start_of_file.size + 536870912), 0);
    free(start_of_file.bytes);
}

/* Starts the program on the large model, and returns when its first output is there. */
static pid_t start_and_wait(int *output)
{
    const char *const arguments[] = {path_of("in"), path_of("out"), NULL};
    const struct timespec millisecond = {0, 1000000};
    const pid_t child = start(arguments, 0, output);
    int waited;

    for (waited = 0; count_files(".") < 2 && waited < 60000; waited++) {
        nanosleep(&millisecond, NULL);
    }
    return child;
}

Test(quantize_safetensors, an_interrupted_run_leaves_no_file, .timeout = 120)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    size_t i;

    write_large_model("in");
    for (i = 0; i < COUNT_OF(numbers); i++) {
        int output;
        const pid_t child = start_and_wait(&output);
        outcome o;
        cr_assert_eq(kill(child, numbers[i]), 0);
        o = finish(child, output);
        CHECK_EQ(o.status, 128 + numbers[i], "%s", o.text);
        CHECK_EQ(count_files("."), 1, "signal %d", numbers[i]);
    }
}

Test(quantize_safetensors, an_input_that_shrinks_meanwhile_is_an_error, .timeout = 120)
{
    pid_t child;
    outcome o;
    int output;

    write_large_model("in");
    child = start_and_wait(&output);
    cr_assert_eq(truncate(path_of("in"), 4096), 0);
    o = finish(child, output);
    expect_failure(&o, "the input shrank", "truncated");
    cr_assert_eq(count_files("."), 1);
}
