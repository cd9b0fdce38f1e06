/*
 * tests/safetensors_util.h - safetensors files for tests, good and bad, and the list of bad ones.
 */
#ifndef FP4_TESTS_SAFETENSORS_UTIL_H
#define FP4_TESTS_SAFETENSORS_UTIL_H

#include "../examples/safetensors.h"
#include "check.h"

/** The bytes of a file. */
typedef struct st_bytes {
    uint8_t *bytes;
    size_t size;
} st_bytes;

/** A file with this header, as it is, and this data; null data stands for zeros. */
static inline st_bytes st_make(const char *header, size_t header_bytes, const void *data,
                               size_t data_bytes)
{
    const uint64_t n = header_bytes;
    st_bytes file = {NULL, sizeof n + header_bytes + data_bytes};

    file.bytes = (uint8_t *)calloc(file.size, 1);
    cr_assert_not_null(file.bytes);
    memcpy(file.bytes, &n, sizeof n);
    memcpy(file.bytes + sizeof n, header, header_bytes);
    if (data != NULL && data_bytes != 0) {
        memcpy(file.bytes + sizeof n + header_bytes, data, data_bytes);
    }
    return file;
}

/** A header that must be refused, with `data_bytes` of data, and what the message must contain. */
typedef struct st_bad_header {
    const char *what, *header;
    size_t data_bytes;
    const char *message;
} st_bad_header;

/* A tensor of four bytes, wherever the test is about something else. */
#define ST_ENTRY_ "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}"
#define ST_TENSOR_(shape, offsets) \
    "{\"a.b\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define ST_10_ "[[[[[[[[[["
#define ST_100_ ST_10_ ST_10_ ST_10_ ST_10_ ST_10_ ST_10_ ST_10_ ST_10_ ST_10_ ST_10_
#define ST_1200_ \
    ST_100_ ST_100_ ST_100_ ST_100_ ST_100_ ST_100_ ST_100_ ST_100_ ST_100_ ST_100_ ST_100_ ST_100_
#define ST_11_ONES_ "1,1,1,1,1,1,1,1,1,1,1"
#define ST_20_DIGITS_ "11111111111111111111"
#define ST_100_DIGITS_ ST_20_DIGITS_ ST_20_DIGITS_ ST_20_DIGITS_ ST_20_DIGITS_ ST_20_DIGITS_

static const st_bad_header st_bad_headers[] = {
    /* text */
    {"empty", "", 0, "not valid JSON"},
    {"only spaces", "    ", 0, "not valid JSON"},
    {"cut short", "{\"a.b\":{\"dtype\":\"U8\"", 0, "not valid JSON"},
    {"trailing text", "{} {}", 0, "not valid JSON"},
    {"trailing comma", "{\"a.b\":" ST_ENTRY_ ",}", 4, "not valid JSON"},
    {"missing colon", "{\"a.b\" " ST_ENTRY_ "}", 4, "not valid JSON"},
    {"unfinished string", "{\"a.b", 0, "not valid JSON"},
    {"unfinished escape", "{\"a.b\\", 0, "bad escape"},
    {"unknown escape", "{\"a\\b\\q\":" ST_ENTRY_ "}", 4, "bad escape"},
    {"escape without digits", "{\"\\u00zz\":" ST_ENTRY_ "}", 4, "bad escape"},
    {"escape with three digits", "{\"a\\u006\":" ST_ENTRY_ "}", 4, "bad escape"},
    {"escape cut short", "{\"a\\u00", 0, "bad escape"},
    {"second half of a surrogate pair", "{\"\\ude00\":" ST_ENTRY_ "}", 4, "not valid JSON"},
    {"surrogate pair cut short", "{\"\\ud83d\\u0061\":" ST_ENTRY_ "}", 4, "not valid JSON"},
    {"half a surrogate pair", "{\"\\ud800\":" ST_ENTRY_ "}", 4, "not valid JSON"},
    {"too deep", ST_1200_, 0, "not valid JSON"},
    {"an array", "[]", 0, "not a JSON object"},
    {"a number", "12", 0, "not a JSON object"},
    {"byte order mark", "\xef\xbb\xbf{}", 0, "something other than"},
    {"true", "{\"a.b\":true}", 0, "something other than"},
    {"null", "{\"a.b\":null}", 0, "something other than"},
    {"not UTF-8", "{\"\xff\":" ST_ENTRY_ "}", 4, "not UTF-8"},
    {"overlong slash", "{\"\xc0\xaf\":" ST_ENTRY_ "}", 4, "not UTF-8"},
    {"overlong in three", "{\"\xe0\x80\xaf\":" ST_ENTRY_ "}", 4, "not UTF-8"},
    {"overlong in four", "{\"\xf0\x80\x80\xaf\":" ST_ENTRY_ "}", 4, "not UTF-8"},
    {"encoded surrogate", "{\"\xed\xa0\x80\":" ST_ENTRY_ "}", 4, "not UTF-8"},
    {"above U+10FFFF", "{\"\xf4\x90\x80\x80\":" ST_ENTRY_ "}", 4, "not UTF-8"},
    {"lone continuation", "{\"\x80\":" ST_ENTRY_ "}", 4, "not UTF-8"},
    {"character cut short", "{\"a\xe2\x82", 0, "not UTF-8"},
    {"line end in a name", "{\"a\nb\":" ST_ENTRY_ "}", 4, "control character"},
    {"escaped NUL in a name", "{\"a\\u0000b\":" ST_ENTRY_ "}", 4, "bad escape"},
    /* numbers */
    {"negative offset", ST_TENSOR_("[1]", "[-4,0]"), 4, "something other than"},
    {"fraction", ST_TENSOR_("[1.5]", "[0,6]"), 6, "something other than"},
    {"whole number as a fraction", ST_TENSOR_("[1.0]", "[0,4]"), 4, "something other than"},
    {"exponent", ST_TENSOR_("[1e0]", "[0,4]"), 4, "something other than"},
    {"leading zero", ST_TENSOR_("[01]", "[0,4]"), 4, "leading zero"},
    {"2^53 in the shape", ST_TENSOR_("[9007199254740992]", "[0,4]"), 4, "tensor 'a.b'"},
    {"2^53 + 1 as offset", ST_TENSOR_("[1]", "[0,9007199254740993]"), 4, "tensor 'a.b'"},
    {"2^64 as offset", ST_TENSOR_("[1]", "[0,18446744073709551616]"), 4, "tensor 'a.b'"},
    {"100 digits", ST_TENSOR_("[1]", "[0," ST_100_DIGITS_ "]"), 4,
     ""}, /* cJSON refuses it, or reads it as 1.1e99, by version */
    /* entries */
    {"entry a string", "{\"a.b\":\"U8\"}", 0, "tensor 'a.b': its entry is not"},
    {"entry an array", "{\"a.b\":[1]}", 0, "tensor 'a.b': its entry is not"},
    {"no dtype", "{\"a.b\":{\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "tensor 'a.b': no dtype"},
    {"no shape", "{\"a.b\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}", 4,
     "tensor 'a.b': no shape"},
    {"no offsets", "{\"a.b\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4,
     "tensor 'a.b': no data_offsets"},
    {"unknown field", "{\"a.b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0],\"x\":1}}",
     0, "tensor 'a.b': unknown field 'x'"},
    {"repeated field",
     "{\"a.b\":{\"dtype\":\"U8\",\"shape\":[4],\"dtype\":\"I8\",\"data_offsets\":[0,4]}}", 4,
     "tensor 'a.b': repeated field 'dtype'"},
    {"unknown dtype", "{\"a.b\":{\"dtype\":\"F12\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
     "tensor 'a.b': unknown dtype 'F12'"},
    {"dtype in lower case", "{\"a.b\":{\"dtype\":\"u8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
     "tensor 'a.b': unknown dtype 'u8'"},
    {"dtype a number", "{\"a.b\":{\"dtype\":8,\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
     "tensor 'a.b': unknown dtype"},
    {"shape a number", ST_TENSOR_("1", "[0,4]"), 4, "tensor 'a.b': its shape"},
    {"shape an object", ST_TENSOR_("{\"0\":1}", "[0,4]"), 4, "tensor 'a.b': its shape"},
    {"shape of strings", ST_TENSOR_("[\"1\"]", "[0,4]"), 4, "tensor 'a.b': its shape"},
    {"33 dimensions", ST_TENSOR_("[" ST_11_ONES_ "," ST_11_ONES_ "," ST_11_ONES_ "]", "[0,4]"), 4,
     "tensor 'a.b': its shape"},
    {"one offset", ST_TENSOR_("[1]", "[4]"), 4, "tensor 'a.b': its data_offsets are not"},
    {"three offsets", ST_TENSOR_("[1]", "[0,4,4]"), 4, "tensor 'a.b': its data_offsets are not"},
    {"begin after end", ST_TENSOR_("[1]", "[4,0]"), 4, "tensor 'a.b': its data_offsets are not"},
    {"too few bytes for the shape", ST_TENSOR_("[2]", "[0,4]"), 4,
     "tensor 'a.b': its data_offsets"},
    {"too many bytes for the shape", ST_TENSOR_("[2]", "[0,12]"), 12,
     "tensor 'a.b': its data_offsets"},
    {"shape that overflows", ST_TENSOR_("[4294967296,4294967296]", "[0,0]"), 0, "tensor 'a.b'"},
    {"shape that overflows before its zero", ST_TENSOR_("[4294967296,4294967296,0]", "[0,0]"), 0,
     "tensor 'a.b'"},
    {"bits that overflow", ST_TENSOR_("[4294967296,268435456]", "[0,0]"), 0, "tensor 'a.b'"},
    {"half a byte", "{\"a.b\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2,
     "tensor 'a.b'"},
    /* all together */
    {"past the end", ST_TENSOR_("[2]", "[0,8]"), 7, "tensor 'a.b': ends at byte 8 of 7"},
    {"far past the end", ST_TENSOR_("[1099511627776]", "[0,4398046511104]"), 8,
     "tensor 'a.b': ends"},
    {"a gap before", ST_TENSOR_("[1]", "[4,8]"), 8, "tensor 'a.b': begins at byte 4, after a gap"},
    {"a gap between",
     "{\"a\":" ST_ENTRY_ ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[5,9]}}", 9,
     "tensor 'b': begins at byte 5, after a gap"},
    {"overlap",
     "{\"a\":" ST_ENTRY_ ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[3,7]}}", 7,
     "tensor 'b': begins at byte 3, inside"},
    {"the same bytes twice", "{\"a\":" ST_ENTRY_ ",\"b\":" ST_ENTRY_ "}", 4, "inside the tensor"},
    {"bytes left over", "{\"a.b\":" ST_ENTRY_ "}", 5, "1 bytes follow the last tensor 'a.b'"},
    {"bytes and no tensor", "{}", 5, "5 bytes follow"},
    {"a name twice", "{\"a.b\":" ST_ENTRY_ ",\"a.b\":" ST_ENTRY_ "}", 4, "'a.b': occurs twice"},
    {"a name twice, once escaped", "{\"a.b\":" ST_ENTRY_ ",\"\\u0061.b\":" ST_ENTRY_ "}", 4,
     "'a.b': occurs twice"},
    /* metadata */
    {"metadata a string", "{\"__metadata__\":\"x\"}", 0, "__metadata__ is not"},
    {"metadata with a number", "{\"__metadata__\":{\"x\":1}}", 0, "'x' is not a string"},
    {"metadata twice", "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "occurs twice"},
    {"a key of metadata twice", "{\"__metadata__\":{\"x\":\"1\",\"x\":\"2\"}}", 0,
     "'x': occurs twice"},
};

#endif /* FP4_TESTS_SAFETENSORS_UTIL_H */
