/*
 * examples/safetensors.h - read and write the safetensors container.
 *
 *     8 bytes    n, little endian
 *     n bytes    the header: JSON in UTF-8, padded with spaces
 *                {"__metadata__": {"key": "text"},
 *                 "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
 *     the rest   the tensors, row-major and little endian, in any order, without gaps
 *
 * st_read takes the bytes of a whole file (mapped, or in memory) and believes none of them: what it
 * accepts, the reference implementation (github.com/huggingface/safetensors) accepts too, and every
 * offset it returns lies inside the file. It refuses, with one line that names the tensor, what
 * that implementation refuses, and moreover what a tool that rewrites a file cannot carry over
 * faithfully: a name used twice, an unknown field, a NUL inside a name, a number of 2^53 or more.
 *
 * JSON is parsed by cJSON (link with -lcjson), which is more lenient than JSON; st_check_text_
 * looks through the header first and leaves it nothing to be lenient about.
 */
#ifndef FP4_EXAMPLES_SAFETENSORS_H
#define FP4_EXAMPLES_SAFETENSORS_H

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors.h hands out tensors as they lie in the file: little endian"
#endif

#define ST_MAX_RANK 32                    /* numpy's limit for decades; torch models use up to 5 */
#define ST_MAX_HEADER 100000000u          /* the reference implementation's limit */
#define ST_MAX_INTEGER 9007199254740991.0 /* 2^53 - 1: above it a double no longer counts in ones */

/** An element type: its name in the header and its width. */
typedef struct st_dtype {
    const char *name;
    unsigned bits;
} st_dtype;

/** A tensor: offsets are relative to the data section. The name belongs to whoever made it. */
typedef struct st_tensor {
    const char *name;
    const st_dtype *dtype;
    size_t rank;
    uint64_t shape[ST_MAX_RANK];
    uint64_t begin, end;
} st_tensor;

/** A file that has been read. Names and metadata live as long as json does. */
typedef struct st_file {
    cJSON *json;
    const cJSON *metadata; /* the object under "__metadata__", or null */
    st_tensor *tensors;    /* in the order of their offsets */
    const st_tensor **by_name;
    size_t count;
    const uint8_t *data; /* the data section */
    uint64_t data_bytes;
} st_file;

/** One line that says what is wrong. */
typedef struct st_error {
    char text[512];
} st_error;

/* -------------------------------------------------------------------------------- helpers */

/* Bytes that could steer a terminal become question marks: names come from the file. */
static inline void st_make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            *text = '?';
        }
    }
}

/* Writes the message and returns false. */
__attribute__((format(printf, 2, 3))) static inline bool st_fail(st_error *error,
                                                                 const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    st_make_printable(error->text);
    return false;
}

/** The element type of that name, or null. The list is the reference implementation's. */
static inline const st_dtype *st_dtype_find(const char *name)
{
    static const st_dtype all[] = {
        {"BOOL", 8},    {"U8", 8},      {"I8", 8},          {"I16", 16},        {"U16", 16},
        {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
        {"C64", 64},    {"F64", 64},    {"I64", 64},        {"U64", 64},        {"F8_E4M3", 8},
        {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F4", 4},
        {"F6_E2M3", 6}, {"F6_E3M2", 6},
    };
    size_t i;

    for (i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(all[i].name, name) == 0) {
            return &all[i];
        }
    }
    return NULL;
}

/** Bytes of a tensor of this type and shape; false where that is no whole number below 2^64. */
static inline bool st_byte_count(const st_dtype *dtype, const uint64_t *shape, size_t rank,
                                 uint64_t *bytes)
{
    uint64_t elements = 1;
    size_t i;

    for (i = 0; i < rank; i++) {
        if (shape[i] != 0 && elements > UINT64_MAX / shape[i]) {
            return false;
        }
        elements *= shape[i];
    }
    if (elements > UINT64_MAX / dtype->bits || elements * dtype->bits % 8 != 0) {
        return false;
    }
    *bytes = elements * dtype->bits / 8;
    return true;
}

static inline int st_compare_names_(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/** A name that occurs twice, or null. Sorts the names. */
static inline const char *st_find_duplicate(const char **names, size_t count)
{
    size_t i;

    if (count != 0) {
        qsort(names, count, sizeof *names, st_compare_names_);
    }
    for (i = 1; i < count; i++) {
        if (strcmp(names[i - 1], names[i]) == 0) {
            return names[i];
        }
    }
    return NULL;
}

/* -------------------------------------------------------------------------------- text */

/* Length of the UTF-8 character at text, n > 0 bytes from the end; 0 where there is none. */
static inline size_t st_utf8_length_(const uint8_t *text, size_t n)
{
    const uint8_t lead = text[0];
    const size_t length = lead < 0x80u                    ? 1
                          : lead >= 0xc2u && lead < 0xe0u ? 2
                          : lead >= 0xe0u && lead < 0xf0u ? 3
                          : lead >= 0xf0u && lead < 0xf5u ? 4
                                                          : 0;
    size_t i;

    if (length == 0 || length > n) {
        return 0;
    }
    for (i = 1; i < length; i++) {
        if ((text[i] & 0xc0u) != 0x80u) {
            return 0;
        }
    }
    if ((lead == 0xe0u && text[1] < 0xa0u) ||  /* two bytes would have done */
        (lead == 0xedu && text[1] >= 0xa0u) || /* half of a surrogate pair */
        (lead == 0xf0u && text[1] < 0x90u) ||  /* three bytes would have done */
        (lead == 0xf4u && text[1] >= 0x90u)) { /* above U+10FFFF */
        return 0;
    }
    return length;
}

/* Length of the escape at text, n bytes from the end; 0 where it is none, or one for NUL. */
static inline size_t st_escape_length_(const uint8_t *text, size_t n)
{
    bool zero = true;
    size_t i;

    if (n < 2 || text[1] == '\0' || strchr("\"\\/bfnrtu", text[1]) == NULL) {
        return 0;
    }
    for (i = 2; text[1] == 'u' && i < 6; i++) {
        if (i == n || text[i] == '\0' || strchr("0123456789abcdefABCDEF", text[i]) == NULL) {
            return 0;
        }
        zero = zero && text[i] == '0';
    }
    return text[1] != 'u' ? 2 : zero ? 0 : 6;
}

/* One character inside a string; 0 where cJSON must not see it. */
static inline size_t st_string_step_(const uint8_t *text, size_t n)
{
    return text[0] < 0x20 ? 0 : text[0] == '\\' ? st_escape_length_(text, n) : 1;
}

/*
 * What cJSON would let pass: text that is not UTF-8; control characters; "\u" without four digits,
 * which it takes for NUL, and NUL, which ends a C string early; numbers other than plain unsigned
 * integers, which is all a header has; true, false and null, which it has not.
 */
static inline bool st_check_text_(const uint8_t *text, size_t n, st_error *error)
{
    bool in_string = false;
    size_t i, step, escape;

    for (i = 0; i < n; i += step) {
        const char c = (char)text[i];
        const bool digit_before = i > 0 && text[i - 1] >= '0' && text[i - 1] <= '9';
        step = st_utf8_length_(text + i, n - i);
        if (step == 0) {
            return st_fail(error, "the header is not UTF-8 (byte %zu)", i);
        }
        if (in_string) {
            escape = st_string_step_(text + i, n - i);
            if (escape == 0) {
                return st_fail(error, "a string has a control character or bad escape (byte %zu)",
                               i);
            }
            in_string = c != '"';
            step = escape > step ? escape : step;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '\0' || strchr("{}[]:, \t\r\n0123456789", c) == NULL) {
            return st_fail(error,
                           "the header has something other than objects, arrays, strings and "
                           "unsigned integers (byte %zu)",
                           i);
        } else if (c == '0' && !digit_before && i + 1 < n && text[i + 1] >= '0' &&
                   text[i + 1] <= '9') {
            return st_fail(error, "the header has a number with a leading zero (byte %zu)", i);
        }
    }
    return true;
}

/* The header as JSON: an object, and nothing after it but white space. */
static inline cJSON *st_parse_(const uint8_t *text, size_t n, st_error *error)
{
    const char *end = NULL;
    cJSON *json;

    if (!st_check_text_(text, n, error)) {
        return NULL;
    }
    json = cJSON_ParseWithLengthOpts((const char *)text, n, &end, 0);
    while (json != NULL && end < (const char *)text + n && strchr(" \t\r\n", *end) != NULL) {
        end++;
    }
    if (json == NULL || end != (const char *)text + n) {
        st_fail(error, "the header is not valid JSON (byte %td)", end - (const char *)text);
    } else if (!cJSON_IsObject(json)) {
        st_fail(error, "the header is not a JSON object");
    } else {
        return json;
    }
    cJSON_Delete(json);
    return NULL;
}

/* -------------------------------------------------------------------------------- read */

/* An unsigned integer below 2^53; st_check_text_ has seen to it that it is written as one. */
static inline bool st_read_integer_(const cJSON *json, uint64_t *value)
{
    if (!cJSON_IsNumber(json) || !(json->valuedouble <= ST_MAX_INTEGER)) {
        return false;
    }
    *value = (uint64_t)json->valuedouble;
    return true;
}

/* Up to `room` unsigned integers. */
static inline bool st_read_integers_(const cJSON *json, uint64_t *values, size_t room,
                                     size_t *count)
{
    const cJSON *item;

    *count = 0;
    cJSON_ArrayForEach(item, json)
    {
        if (*count == room || !st_read_integer_(item, &values[*count])) {
            return false;
        }
        ++*count;
    }
    return cJSON_IsArray(json);
}

/* Finds the three fields of an entry. */
static inline bool st_find_fields_(const cJSON *entry, const cJSON **dtype, const cJSON **shape,
                                   const cJSON **offsets, st_error *error)
{
    const cJSON *field;

    *dtype = *shape = *offsets = NULL;
    if (!cJSON_IsObject(entry)) {
        return st_fail(error, "tensor '%s': its entry is not a JSON object", entry->string);
    }
    cJSON_ArrayForEach(field, entry)
    {
        const cJSON **slot = strcmp(field->string, "dtype") == 0          ? dtype
                             : strcmp(field->string, "shape") == 0        ? shape
                             : strcmp(field->string, "data_offsets") == 0 ? offsets
                                                                          : NULL;
        if (slot == NULL || *slot != NULL) {
            return st_fail(error, "tensor '%s': %s field '%s'", entry->string,
                           slot == NULL ? "unknown" : "repeated", field->string);
        }
        *slot = field;
    }
    if (*dtype == NULL || *shape == NULL || *offsets == NULL) {
        return st_fail(error, "tensor '%s': no %s", entry->string,
                       *dtype == NULL   ? "dtype"
                       : *shape == NULL ? "shape"
                                        : "data_offsets");
    }
    return true;
}

/* One entry of the header; its bytes lie inside the data section and are as many as its shape
   needs. */
static inline bool st_read_entry_(const cJSON *entry, uint64_t data_bytes, st_tensor *t,
                                  st_error *error)
{
    const cJSON *dtype, *shape, *offsets;
    uint64_t ends[2], bytes;
    size_t n;

    t->name = entry->string;
    if (!st_find_fields_(entry, &dtype, &shape, &offsets, error)) {
        return false;
    }
    t->dtype = cJSON_IsString(dtype) ? st_dtype_find(dtype->valuestring) : NULL;
    if (t->dtype == NULL) {
        return st_fail(error, "tensor '%s': unknown dtype '%s'", t->name,
                       cJSON_IsString(dtype) ? dtype->valuestring : "(not a string)");
    }
    if (!st_read_integers_(shape, t->shape, ST_MAX_RANK, &t->rank)) {
        return st_fail(error, "tensor '%s': its shape is not up to %d integers below 2^53", t->name,
                       ST_MAX_RANK);
    }
    if (!st_read_integers_(offsets, ends, 2, &n) || n != 2 || ends[0] > ends[1]) {
        return st_fail(error, "tensor '%s': its data_offsets are not [begin, end]", t->name);
    }
    t->begin = ends[0];
    t->end = ends[1];
    if (!st_byte_count(t->dtype, t->shape, t->rank, &bytes) || bytes != t->end - t->begin) {
        return st_fail(error,
                       "tensor '%s': its data_offsets give it %" PRIu64
                       " bytes, its shape and dtype need another number",
                       t->name, t->end - t->begin);
    }
    if (t->end > data_bytes) {
        return st_fail(error,
                       "tensor '%s': ends at byte %" PRIu64 " of %" PRIu64
                       " bytes of data: the file is truncated or its header lies",
                       t->name, t->end, data_bytes);
    }
    return true;
}

/* No two members of the object share a name. */
static inline bool st_check_names_(const cJSON *object, const char *prefix, st_error *error)
{
    const char **names =
        (const char **)calloc((size_t)cJSON_GetArraySize(object) + 1, sizeof *names);
    const cJSON *item;
    const char *twice;
    size_t n = 0;

    if (names == NULL) {
        return st_fail(error, "out of memory");
    }
    cJSON_ArrayForEach(item, object)
    {
        names[n++] = item->string;
    }
    twice = st_find_duplicate(names, n);
    free(names);
    return twice == NULL || st_fail(error, "%s'%s': occurs twice", prefix, twice);
}

/* "__metadata__" maps text to text. */
static inline bool st_read_metadata_(const cJSON *json, st_file *file, st_error *error)
{
    const cJSON *item;

    if (!cJSON_IsObject(json)) {
        return st_fail(error, "__metadata__ is not a JSON object");
    }
    cJSON_ArrayForEach(item, json)
    {
        if (!cJSON_IsString(item)) {
            return st_fail(error, "__metadata__: '%s' is not a string", item->string);
        }
    }
    file->metadata = json;
    return st_check_names_(json, "__metadata__: ", error);
}

static inline int st_compare_tensor_names_(const void *a, const void *b)
{
    return strcmp((*(const st_tensor *const *)a)->name, (*(const st_tensor *const *)b)->name);
}

static inline int st_compare_offsets_(const void *a, const void *b)
{
    const st_tensor *left = (const st_tensor *)a, *right = (const st_tensor *)b;

    return left->begin != right->begin ? (left->begin > right->begin) - (left->begin < right->begin)
                                       : (left->end > right->end) - (left->end < right->end);
}

/* Sorted by offset, the tensors cover the data section: no gap, no overlap, nothing left over. */
static inline bool st_check_layout_(const st_file *file, st_error *error)
{
    uint64_t covered = 0;
    size_t i;

    for (i = 0; i < file->count; i++) {
        const st_tensor *t = &file->tensors[i];
        if (t->begin != covered) {
            return st_fail(error, "tensor '%s': begins at byte %" PRIu64 ", %s %" PRIu64, t->name,
                           t->begin,
                           t->begin < covered ? "inside the tensor before it, which ends at"
                                              : "after a gap that starts at",
                           covered);
        }
        covered = t->end;
    }
    if (covered != file->data_bytes) {
        return st_fail(error, "%" PRIu64 " bytes follow the last tensor%s%s%s",
                       file->data_bytes - covered, i == 0 ? "" : " '",
                       i == 0 ? "" : file->tensors[i - 1].name, i == 0 ? "" : "'");
    }
    return true;
}

/* Every entry of file->json, one by one, into file->tensors. */
static inline bool st_read_entries_(st_file *file, st_error *error)
{
    const cJSON *entry;

    cJSON_ArrayForEach(entry, file->json)
    {
        if (strcmp(entry->string, "__metadata__") == 0) {
            if (!st_read_metadata_(entry, file, error)) {
                return false;
            }
        } else if (!st_read_entry_(entry, file->data_bytes, &file->tensors[file->count++], error)) {
            return false;
        }
    }
    return true;
}

/* Reads and checks the members of file->json, and sorts them both ways. */
static inline bool st_read_tensors_(st_file *file, st_error *error)
{
    const size_t room = (size_t)cJSON_GetArraySize(file->json) + 1;
    size_t i;

    if (!st_check_names_(file->json, "tensor ", error)) {
        return false;
    }
    file->tensors = (st_tensor *)calloc(room, sizeof *file->tensors);
    file->by_name = (const st_tensor **)calloc(room, sizeof *file->by_name);
    if (file->tensors == NULL || file->by_name == NULL) {
        return st_fail(error, "out of memory");
    }
    if (!st_read_entries_(file, error)) {
        return false;
    }
    qsort(file->tensors, file->count, sizeof *file->tensors, st_compare_offsets_);
    for (i = 0; i < file->count; i++) {
        file->by_name[i] = &file->tensors[i];
    }
    qsort(file->by_name, file->count, sizeof *file->by_name, st_compare_tensor_names_);
    return st_check_layout_(file, error);
}

/** Frees what st_read made; the bytes of the file stay the caller's. */
static inline void st_close(st_file *file)
{
    cJSON_Delete(file->json);
    free(file->tensors);
    free(file->by_name);
    memset(file, 0, sizeof *file);
}

/**
 * Reads a file that lies in memory. On false *error says why, and there is nothing to close.
 *
 * bytes    all `size` bytes of the file; they must stay as they are until st_close.
 */
static inline bool st_read(st_file *file, const uint8_t *bytes, uint64_t size, st_error *error)
{
    uint64_t n;

    memset(file, 0, sizeof *file);
    if (size < sizeof n) {
        return st_fail(error, "%" PRIu64 " bytes are too few for a safetensors file", size);
    }
    memcpy(&n, bytes, sizeof n);
    if (n > ST_MAX_HEADER) {
        return st_fail(error,
                       "a header of %" PRIu64 " bytes is over the limit of %u: not safetensors?", n,
                       ST_MAX_HEADER);
    }
    if (n > size - sizeof n) {
        return st_fail(error,
                       "the header has %" PRIu64 " bytes, the file only %" PRIu64
                       " after its first 8: truncated",
                       n, size - sizeof n);
    }
    file->data = bytes + sizeof n + n;
    file->data_bytes = size - sizeof n - n;
    file->json = st_parse_(bytes + sizeof n, (size_t)n, error);
    if (file->json != NULL && st_read_tensors_(file, error)) {
        return true;
    }
    st_close(file);
    return false;
}

/** The tensor of that name, or null. */
static inline const st_tensor *st_find(const st_file *file, const char *name)
{
    const st_tensor named = {.name = name}, *key = &named;
    const st_tensor **found = (const st_tensor **)bsearch(
        &key, file->by_name, file->count, sizeof *file->by_name, st_compare_tensor_names_);

    return found == NULL ? NULL : *found;
}

/* -------------------------------------------------------------------------------- write */

/**
 * Gives each tensor its place in a new file and sorts the pointers by it.
 *
 * Wide elements come first, so that every tensor is aligned to its elements without padding;
 * otherwise the order stays. On false a shape's size overflows, or there is no memory.
 */
static inline bool st_lay_out(st_tensor **tensors, size_t count)
{
    st_tensor **sorted = (st_tensor **)calloc(count + 1, sizeof *sorted);
    uint64_t at = 0, bytes = 0;
    size_t n = 0, i;
    unsigned width;
    bool ok = sorted != NULL;

    for (width = 64; ok && width >= 8; width /= 2) {
        for (i = 0; ok && i < count; i++) {
            const unsigned bits = tensors[i]->dtype->bits;
            if (bits == width || (bits < 8 && width == 8)) {
                ok =
                    st_byte_count(tensors[i]->dtype, tensors[i]->shape, tensors[i]->rank, &bytes) &&
                    bytes <= UINT64_MAX - at;
                tensors[i]->begin = at;
                at += bytes;
                tensors[i]->end = at;
                sorted[n++] = tensors[i];
            }
        }
    }
    if (ok && count != 0) {
        memcpy(tensors, sorted, count * sizeof *sorted);
    }
    free(sorted);
    return ok;
}

/* An array of unsigned integers. Spelled out here: cJSON would go through a double. */
static inline bool st_add_integers_(cJSON *object, const char *key, const uint64_t *values,
                                    size_t count)
{
    cJSON *array = cJSON_AddArrayToObject(object, key);
    char digits[24];
    size_t i;
    bool ok = array != NULL;

    for (i = 0; ok && i < count; i++) {
        snprintf(digits, sizeof digits, "%" PRIu64, values[i]);
        ok = cJSON_AddItemToArray(array, cJSON_CreateRaw(digits));
    }
    return ok;
}

static inline bool st_add_tensor_(cJSON *object, const st_tensor *t)
{
    const uint64_t offsets[2] = {t->begin, t->end};
    cJSON *entry = cJSON_AddObjectToObject(object, t->name);

    return entry != NULL && cJSON_AddStringToObject(entry, "dtype", t->dtype->name) != NULL &&
           st_add_integers_(entry, "shape", t->shape, t->rank) &&
           st_add_integers_(entry, "data_offsets", offsets, 2);
}

/**
 * The first bytes of a file with these tensors: the length and the header, padded so that the data
 * section starts at a multiple of 8. To be freed; null where there is no memory or the header would
 * be over the limit.
 *
 * metadata   copied as it is; null for none.
 */
static inline uint8_t *st_make_header(st_tensor *const *tensors, size_t count,
                                      const cJSON *metadata, size_t *size)
{
    cJSON *object = cJSON_CreateObject();
    bool ok = object != NULL;
    char *text = NULL;
    uint8_t *bytes = NULL;
    uint64_t n;
    size_t i;

    if (ok && metadata != NULL) {
        ok = cJSON_AddItemToObject(object, "__metadata__", cJSON_Duplicate(metadata, 1));
    }
    for (i = 0; ok && i < count; i++) {
        ok = st_add_tensor_(object, tensors[i]);
    }
    text = ok ? cJSON_PrintUnformatted(object) : NULL;
    n = text == NULL ? 0 : (strlen(text) + 7) / 8 * 8;
    if (n != 0 && n <= ST_MAX_HEADER) {
        *size = sizeof n + (size_t)n;
        bytes = (uint8_t *)malloc(*size);
    }
    if (bytes != NULL) {
        memset(bytes, ' ', *size);
        memcpy(bytes, &n, sizeof n);
        memcpy(bytes + sizeof n, text, strlen(text));
    }
    cJSON_free(text);
    cJSON_Delete(object);
    return bytes;
}

#endif /* FP4_EXAMPLES_SAFETENSORS_H */
