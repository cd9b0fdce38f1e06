/*
 * examples/safetensors.h: what the reader accepts and refuses, and that what is written is read.
 */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include "safetensors_util.h"

/* The text as a header, exactly as many bytes as it has: ASan sees every read beyond. */
static bool read_text(const char *header, size_t data_bytes, st_error *error)
{
    const st_bytes bytes = st_make(header, strlen(header), NULL, data_bytes);
    st_file file;
    const bool ok = st_read(&file, bytes.bytes, bytes.size, error);

    if (ok) {
        st_close(&file);
    }
    free(bytes.bytes);
    return ok;
}

/* A file that must be read. */
static st_file read_good(const st_bytes *bytes)
{
    st_file file;
    st_error error;

    cr_assert(st_read(&file, bytes->bytes, bytes->size, &error), "%s", error.text);
    return file;
}

/* ---------------------------------------------------------------- refused */

Test(safetensors, refuses_every_bad_header_with_a_message_that_names_the_tensor)
{
    size_t i;

    for (i = 0; i < sizeof st_bad_headers / sizeof st_bad_headers[0]; i++) {
        const st_bad_header *bad = &st_bad_headers[i];
        st_error error = {"(no message)"};
        const bool ok = read_text(bad->header, bad->data_bytes, &error);
        CHECK(!ok, "%s", bad->what);
        CHECK(strstr(error.text, bad->message) != NULL, "%s: '%s', not '%s'", bad->what, error.text,
              bad->message);
    }
}

Test(safetensors, refuses_a_file_too_short_for_its_header)
{
    const st_bytes good =
        st_make("{\"a\":" ST_ENTRY_ "}", strlen("{\"a\":" ST_ENTRY_ "}"), NULL, 4);
    st_file file;
    st_error error;
    size_t n;

    for (n = 0; n < good.size; n++) {
        uint8_t *cut = (uint8_t *)malloc(n + 1);
        memcpy(cut, good.bytes, n);
        CHECK(!st_read(&file, cut, n, &error), "%zu bytes of %zu", n, good.size);
        free(cut);
    }
    free(good.bytes);
}

Test(safetensors, refuses_a_header_length_that_lies)
{
    static const uint64_t lengths[] = {3,
                                       100000000u,
                                       100000001u,
                                       UINT64_C(1) << 31,
                                       UINT64_C(1) << 32,
                                       UINT64_C(1) << 63,
                                       UINT64_MAX - 8,
                                       UINT64_MAX};
    uint8_t bytes[10] = {0, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    st_file file;
    st_error error;
    size_t i;

    for (i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        memcpy(bytes, &lengths[i], sizeof lengths[i]);
        CHECK(!st_read(&file, bytes, sizeof bytes, &error), "%" PRIu64, lengths[i]);
        CHECK(strstr(error.text, lengths[i] > 100000000u ? "over the limit" : "truncated") != NULL,
              "%" PRIu64 ": %s", lengths[i], error.text);
    }
}

Test(safetensors, refuses_raw_NUL_bytes)
{
    static const char in_name[] = "{\"a\0b\":" ST_ENTRY_ "}";
    static const char after[] = "{}\0";
    const st_bytes files[2] = {st_make(in_name, sizeof in_name - 1, NULL, 4),
                               st_make(after, sizeof after - 1, NULL, 0)};
    st_file file;
    st_error error;
    size_t i;

    for (i = 0; i < 2; i++) {
        CHECK(!st_read(&file, files[i].bytes, files[i].size, &error), "file %zu", i);
        free(files[i].bytes);
    }
}

Test(safetensors, messages_do_not_carry_escape_sequences_to_the_terminal)
{
    st_error error;

    cr_assert(
        !read_text("{\"\\u001b[2Jx\\u007f\":{\"dtype\":\"?\",\"shape\":[],\"data_offsets\":[0,0]}}",
                   0, &error));
    cr_assert_str_eq(error.text, "tensor '?[2Jx?': unknown dtype '?'");
}

/* ---------------------------------------------------------------- accepted */

Test(safetensors, reads_every_dtype_with_its_width)
{
    static const struct {
        const char *name;
        unsigned bits;
    } known[] = {{"BOOL", 8},    {"U8", 8},      {"I8", 8},          {"F8_E4M3", 8},
                 {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
                 {"I16", 16},    {"U16", 16},    {"F16", 16},        {"BF16", 16},
                 {"I32", 32},    {"U32", 32},    {"F32", 32},        {"C64", 64},
                 {"F64", 64},    {"I64", 64},    {"U64", 64},        {"F4", 4},
                 {"F6_E2M3", 6}, {"F6_E3M2", 6}};
    char header[128];
    st_error error;
    size_t i;

    for (i = 0; i < sizeof known / sizeof known[0]; i++) {
        const unsigned bytes = known[i].bits; /* of 8 elements */
        snprintf(header, sizeof header,
                 "{\"a\":{\"dtype\":\"%s\",\"shape\":[2,4],\"data_offsets\":[0,%u]}}",
                 known[i].name, bytes);
        CHECK(read_text(header, bytes, &error), "%s: %s", known[i].name, error.text);
        CHECK(!read_text(header, bytes - 1, &error), "%s, a byte short", known[i].name);
    }
}

Test(safetensors, reads_what_the_format_allows)
{
    static const struct {
        const char *what, *header;
        size_t data_bytes;
    } good[] = {
        {"no tensor", "{}", 0},
        {"padding", "{}      ", 0},
        {"white space", " {\t\"a\"\r\n: " ST_ENTRY_ " } \n", 4},
        {"a scalar", ST_TENSOR_("[]", "[0,4]"), 4},
        {"no element", ST_TENSOR_("[0]", "[0,0]"), 0},
        {"32 dimensions",
         ST_TENSOR_("[" ST_11_ONES_ "," ST_11_ONES_ ",1,1,1,1,1,1,1,1,1,1]", "[0,4]"), 4},
        {"a name of UTF-8 and escapes",
         "{\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\\n\\\"\\\\\\u00e4\":" ST_ENTRY_ "}", 4},
        {"an empty name", "{\"\":" ST_ENTRY_ "}", 4},
        {"empty metadata", "{\"__metadata__\":{}}", 0},
        {"fields in another order",
         "{\"a\":{\"data_offsets\":[0,4],\"shape\":[4],\"dtype\":\"U8\"}}", 4},
    };
    st_error error;
    size_t i;

    for (i = 0; i < sizeof good / sizeof good[0]; i++) {
        CHECK(read_text(good[i].header, good[i].data_bytes, &error), "%s: %s", good[i].what,
              error.text);
    }
}

Test(safetensors, sorts_tensors_by_offset_and_finds_them_by_name)
{
    static const char header[] =
        "{\"z\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]},"
        "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[4,4]},"
        "\"__metadata__\":{\"format\":\"pt\"},"
        "\"m\":{\"dtype\":\"I16\",\"shape\":[1,2],\"data_offsets\":[0,4]}}";
    const st_bytes bytes = st_make(header, strlen(header), "abcdef", 6);
    st_file file = read_good(&bytes);
    const st_tensor *z = st_find(&file, "z");

    cr_assert_eq(file.count, 3);
    cr_assert_str_eq(file.tensors[0].name, "m");
    cr_assert_str_eq(file.tensors[1].name, "empty");
    cr_assert_str_eq(file.tensors[2].name, "z");
    cr_assert_eq(z, &file.tensors[2]);
    cr_assert_eq(st_find(&file, "empty"), &file.tensors[1]);
    cr_assert_null(st_find(&file, "Z"));
    cr_assert_null(st_find(&file, "__metadata__"));
    cr_assert_arr_eq(file.data + z->begin, "ef", 2);
    cr_assert_str_eq(cJSON_GetObjectItem(file.metadata, "format")->valuestring, "pt");
    st_close(&file);
    free(bytes.bytes);
}

/* ---------------------------------------------------------------- written */

/* A tensor to write. */
static st_tensor tensor(const char *name, const char *dtype, size_t rank, uint64_t rows,
                        uint64_t cols)
{
    st_tensor t = {
        .name = name, .dtype = st_dtype_find(dtype), .rank = rank, .shape = {rows, cols}};

    cr_assert_not_null(t.dtype);
    return t;
}

Test(safetensors, lays_wide_elements_first_so_that_all_are_aligned)
{
    st_tensor made[] = {tensor("scales", "F8_E4M3", 2, 3, 5), tensor("w", "BF16", 2, 1, 3),
                        tensor("steps", "I64", 0, 0, 0),      tensor("scale", "F32", 0, 0, 0),
                        tensor("codes", "U8", 1, 7, 0),       tensor("f4", "F4", 1, 6, 0),
                        tensor("empty", "F32", 1, 0, 0)};
    static const char *const order[] = {"steps", "scale", "empty", "w", "scales", "codes", "f4"};
    st_tensor *pointers[7];
    uint64_t at = 0;
    size_t i;

    for (i = 0; i < 7; i++) {
        pointers[i] = &made[i];
    }
    cr_assert(st_lay_out(pointers, 7));
    for (i = 0; i < 7; i++) {
        const unsigned width = pointers[i]->dtype->bits < 8 ? 1 : pointers[i]->dtype->bits / 8;
        cr_expect_str_eq(pointers[i]->name, order[i]);
        CHECK_EQ(pointers[i]->begin, at, "%s", order[i]);
        CHECK_EQ(pointers[i]->begin & (width - 1), 0, "%s is not aligned", order[i]);
        at = pointers[i]->end;
    }
    cr_assert_eq(at, 8 + 4 + 6 + 15 + 7 + 3);
}

Test(safetensors, lay_out_refuses_sizes_that_overflow)
{
    st_tensor made[] = {tensor("a", "U8", 1, UINT64_MAX / 8, 0), tensor("b", "U8", 1, 8, 0),
                        tensor("c", "F64", 2, UINT64_C(1) << 32, UINT64_C(1) << 32)};
    st_tensor *one[] = {&made[0]}, *third[] = {&made[2]};
    st_tensor *nine[9];
    size_t i;

    cr_assert(st_lay_out(one, 1));
    cr_assert(!st_lay_out(third, 1));
    for (i = 0; i < 9; i++) {
        nine[i] = &made[0]; /* the sum, not the size of one */
    }
    cr_assert(!st_lay_out(nine, 9));
}

Test(safetensors, reads_back_what_it_writes)
{
    static const char names[] =
        "{\"__metadata__\":{\"k\\\"1\":\"\\\\ \xc3\xa4 \\u0001\",\"\":\"\"}}";
    st_tensor made[] = {tensor("w", "BF16", 2, 3, 5), tensor("\xc3\xa4\"\\\n\x01", "F32", 0, 0, 0),
                        tensor("big", "U8", 1, 1000, 0)};
    st_tensor *pointers[] = {&made[0], &made[1], &made[2]};
    const st_bytes source = st_make(names, strlen(names), NULL, 0);
    st_file from = read_good(&source), back;
    size_t header_bytes = 0, i;
    uint8_t *header;
    st_bytes file;

    cr_assert(st_lay_out(pointers, 3));
    header = st_make_header(pointers, 3, from.metadata, &header_bytes);
    cr_assert_not_null(header);
    cr_assert_eq(header_bytes % 8, 0);
    file = st_make((const char *)header + 8, header_bytes - 8, NULL, (size_t)pointers[2]->end);
    cr_assert_arr_eq(file.bytes, header, header_bytes);
    back = read_good(&file);
    cr_assert_eq(back.count, 3);
    for (i = 0; i < 3; i++) {
        const st_tensor *t = st_find(&back, pointers[i]->name);
        cr_assert_not_null(t);
        CHECK(t->dtype == pointers[i]->dtype && t->rank == pointers[i]->rank &&
                  t->begin == pointers[i]->begin && t->end == pointers[i]->end,
              "tensor %zu", i);
        CHECK(memcmp(t->shape, pointers[i]->shape, t->rank * sizeof *t->shape) == 0, "tensor %zu",
              i);
    }
    cr_assert(cJSON_Compare(from.metadata, back.metadata, 1));
    st_close(&from);
    st_close(&back);
    free(header);
    free(file.bytes);
    free(source.bytes);
}

Test(safetensors, writes_offsets_beyond_what_a_double_prints)
{
    st_tensor made[] = {tensor("a", "U8", 1, UINT64_C(1000000000000000), 0),
                        tensor("b", "U8", 1, UINT64_C(3000000000000001), 0)};
    st_tensor *pointers[] = {&made[0], &made[1]};
    size_t n = 0;
    uint8_t *header;

    cr_assert(st_lay_out(pointers, 2));
    header = st_make_header(pointers, 2, NULL, &n);
    cr_assert_not_null(header);
    cr_assert(memcmp(header + 8, "{\"a\":{\"dtype\":\"U8\",\"shape\":[1000000000000000],", 46) ==
              0);
    header[n - 1] = '\0'; /* the padding, or the last brace */
    cr_assert_not_null(strstr((char *)header + 8, "[1000000000000000,4000000000000001]"));
    free(header);
}

Test(safetensors, an_empty_file_is_eight_bytes_and_a_padded_pair_of_braces)
{
    size_t n = 0;
    uint8_t *header = st_make_header(NULL, 0, NULL, &n);

    cr_assert_eq(n, 16);
    cr_assert_arr_eq(header, "\x08\0\0\0\0\0\0\0{}      ", 16);
    free(header);
}
