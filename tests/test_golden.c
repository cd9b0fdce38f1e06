/* The golden files are intact, and the scalar conversions equal what they hold of NVIDIA's and
   ml_dtypes'. golden/README.md says what is whose. */
#include <fp4/fp4.h>

#include "golden.h"
#include "sha256.h"

/* ---------------------------------------------------------------- the files are what they were */

Test(golden, sha256_gives_the_published_digests)
{
    /* FIPS 180-4's examples: one block, two blocks; and the empty message */
    static const struct {
        const char *message, *hex;
    } known[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };

    for (int i = 0; i < 3; i++) {
        FILE *file = tmpfile();
        char hex[65];
        cr_assert_not_null(file);
        fputs(known[i].message, file);
        rewind(file);
        sha256_file(file, hex);
        fclose(file);
        CHECK(strcmp(hex, known[i].hex) == 0, "\"%s\" gives %s", known[i].message, hex);
    }
}

Test(golden, files_are_the_recorded_bytes)
{
    FILE *sums = fopen(golden_path("SHA256SUMS"), "r");
    char recorded[65], name[256];
    int files = 0;

    cr_assert_not_null(sums, "%s cannot be opened", golden_path("SHA256SUMS"));
    while (fscanf(sums, "%64s %255s", recorded, name) == 2) {
        FILE *file = fopen(golden_path("%s", name), "rb");
        char hex[65];
        cr_assert_not_null(file, "%s cannot be opened", name);
        files++;
        sha256_file(file, hex);
        fclose(file);
        CHECK(strcmp(hex, recorded) == 0, "%s is not the file recorded: %s", name, hex);
    }
    fclose(sums);
    CHECK_EQ(files, 694, "files in SHA256SUMS");
}

/* NumPy's short name of an element type. */
static const char *short_type(const char *dtype)
{
    static const char *const names[][2] = {{"uint8", "|u1"},  {"uint16", "<u2"}, {"uint32", "<u4"},
                                           {"int32", "<i4"},  {"int64", "<i8"},  {"float16", "<f2"},
                                           {"float32", "<f4"}};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(dtype, names[i][0]) == 0) {
            return names[i][1];
        }
    }
    return "unknown";
}

Test(golden, index_describes_every_file)
{
    FILE *index = fopen(golden_path("index.tsv"), "r");
    char line[2048], name[256], shape[64], dtype[16];
    int files = 0;

    cr_assert_not_null(index, "%s cannot be opened", golden_path("index.tsv"));
    cr_assert_not_null(fgets(line, sizeof line, index), "no head line");
    while (fgets(line, sizeof line, index) != NULL) {
        npy a;
        char found[64] = "";
        size_t used = 0;
        cr_assert_eq(sscanf(line, "%255[^\t]\t%63[^\t]\t%15[^\t]", name, shape, dtype), 3,
                     "line %d of the index", files + 2);
        a = golden_load(golden_path("%s", name), short_type(dtype));
        for (size_t i = 0; i < a.rank; i++) {
            used +=
                (size_t)snprintf(found + used, sizeof found - used, i ? "x%zu" : "%zu", a.shape[i]);
        }
        CHECK(strcmp(found, shape) == 0, "%s: shape %s, the index says %s", name, found, shape);
        files++;
    }
    fclose(index);
    CHECK_EQ(files, 693, "files in the index");
}

/* ---------------------------------------------------------------- conversions */

/* The inputs of conv/: every f16 and bf16 pattern in order, or the chosen f32. */
typedef struct inputs {
    const char *name;
    size_t count;
    const uint32_t *f32_bits;
} inputs;

static inputs inputs_of(const char *name)
{
    inputs in = {name, 0x10000, NULL};

    if (strcmp(name, "f32") == 0) {
        in.count = 194180;
        in.f32_bits = golden_data(golden_path("conv/in.f32bits.npy"), "<u4", in.count);
    }
    return in;
}

static float input(inputs in, size_t i)
{
    return in.f32_bits != NULL            ? fp4_bits_f32(in.f32_bits[i])
           : strcmp(in.name, "bf16") == 0 ? fp4_bf16_to_f32((uint16_t)i)
                                          : fp4_f16_to_f32((uint16_t)i);
}

/* Compares a conversion with conv/<type>.<what>.npy for each type that has the file. */
static void check_conversion(const char *what, uint8_t (*convert)(float), int types)
{
    static const char *const names[] = {"f32", "bf16", "f16"};

    for (int type = 0; type < types; type++) {
        const inputs in = inputs_of(names[type]);
        const uint8_t *expected =
            golden_data(golden_path("conv/%s.%s.npy", in.name, what), "|u1", in.count);
        for (size_t i = 0; i < in.count; i++) {
            const float x = input(in, i);
            CHECK_EQ(convert(x), expected[i], "%s %s: input %zu = %08x", in.name, what, i,
                     fp4_f32_bits(x));
        }
    }
}

Test(golden, e2m1_of_every_pattern)
{
    check_conversion("e2m1.cuda_fp4_host", fp4_f32_to_e2m1, 3);
}

Test(golden, e4m3_of_every_pattern)
{
    check_conversion("e4m3sat.cuda_fp8_host", fp4_f32_to_e4m3, 3);
}

Test(golden, e8m0_of_every_pattern)
{
    check_conversion("e8m0_rp_sat.cuda_fp8_host", fp4_f32_to_e8m0_up, 2);
    check_conversion("e8m0_rz_sat.cuda_fp8_host", fp4_f32_to_e8m0_rz, 2);
}

/* The bits of a float read from a file, NaNs made one. */
static uint32_t canonical(float x)
{
    return fp4_is_nan(x) ? 0x7fffffffu : fp4_f32_bits(x);
}

Test(golden, decode_tables)
{
    const uint16_t *e2m1_f16 = golden_data(golden_path("conv/decode.e2m1.f16bits.npy"), "<u2", 16);
    const float *e2m1 = golden_data(golden_path("conv/decode.e2m1.ml_dtypes.npy"), "<f4", 16);
    const uint16_t *e4m3_f16 = golden_data(golden_path("conv/decode.e4m3.f16bits.npy"), "<u2", 256);
    const float *e4m3 = golden_data(golden_path("conv/decode.e4m3.ml_dtypes.npy"), "<f4", 256);
    const uint16_t *e8m0_bf16 =
        golden_data(golden_path("conv/decode.e8m0.bf16bits.npy"), "<u2", 256);
    const float *e8m0_cuda = golden_data(golden_path("conv/decode.e8m0.f32.npy"), "<f4", 256);
    const float *e8m0 = golden_data(golden_path("conv/decode.e8m0.ml_dtypes.npy"), "<f4", 256);

    for (uint32_t code = 0; code < 16; code++) {
        const uint32_t bits = fp4_f32_bits(fp4_e2m1_to_f32((uint8_t)code));
        CHECK_EQ(bits, fp4_f32_bits(fp4_f16_to_f32(e2m1_f16[code])), "e2m1 %x, NVIDIA", code);
        CHECK_EQ(bits, fp4_f32_bits(e2m1[code]), "e2m1 %x, ml_dtypes", code);
    }
    for (uint32_t code = 0; code < 256; code++) {
        const uint32_t bits = fp4_f32_bits(fp4_e4m3_to_f32((uint8_t)code));
        CHECK_EQ(bits, fp4_f32_bits(fp4_f16_to_f32(e4m3_f16[code])), "e4m3 %02x, NVIDIA", code);
        CHECK_EQ(bits, canonical(e4m3[code]), "e4m3 %02x, ml_dtypes", code);
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        const uint32_t bits = fp4_f32_bits(fp4_e8m0_to_f32((uint8_t)byte));
        CHECK_EQ(bits, canonical(fp4_bf16_to_f32(e8m0_bf16[byte])), "e8m0 %02x, NVIDIA", byte);
        CHECK_EQ(bits, canonical(e8m0_cuda[byte]), "e8m0 %02x, NVIDIA's float", byte);
        CHECK_EQ(bits, canonical(e8m0[byte]), "e8m0 %02x, ml_dtypes", byte);
    }
}
