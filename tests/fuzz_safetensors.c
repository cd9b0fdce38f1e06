/*
 * fuzz_safetensors - libFuzzer target for the reader of examples/safetensors.h.
 *
 *     clang -g -O1 -std=c11 -fsanitize=fuzzer,address,undefined tests/fuzz_safetensors.c \
 *         -lcjson -o fuzz_safetensors
 *     ./fuzz_safetensors -max_total_time=60 build/corpus tests/corpus/safetensors
 *
 * The first byte chooses: even, and the rest is a whole file; odd, and it is the header of one
 * whose length is right and whose data section has as many bytes as the second byte says, so that
 * the fuzzer need not keep the length in step. A file that is accepted must be sound: all of its
 * data is covered once, every name is found, and the file written from it reads back as the same.
 */
#include "../examples/safetensors.h"

#define REQUIRE(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "fuzz_safetensors: not so: %s\n", #condition); \
            abort(); \
        } \
    } while (0)

static bool is_same_tensor(const st_tensor *a, const st_tensor *b)
{
    return strcmp(a->name, b->name) == 0 && a->dtype == b->dtype && a->rank == b->rank &&
           memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) == 0;
}

/* Keeps the compiler from leaving out the reads. */
static volatile uint8_t last_byte_read;

/* Offsets are inside the data, in order, without gap or overlap; all bytes can be read. */
static void check_layout(const st_file *file)
{
    uint64_t at = 0, bytes = 0;
    size_t i;

    for (i = 0; i < file->count; i++) {
        const st_tensor *t = &file->tensors[i];
        REQUIRE(t->begin == at && t->end >= t->begin && t->end <= file->data_bytes);
        REQUIRE(st_byte_count(t->dtype, t->shape, t->rank, &bytes) && bytes == t->end - t->begin);
        REQUIRE(st_find(file, t->name) == t);
        for (; at < t->end; at++) {
            last_byte_read = file->data[at];
        }
    }
    REQUIRE(at == file->data_bytes);
}

/* Writes a file of the same tensors and reads it. */
static void check_round_trip(const st_file *file)
{
    st_tensor *copies = (st_tensor *)calloc(file->count + 1, sizeof *copies);
    st_tensor **order = (st_tensor **)calloc(file->count + 1, sizeof *order);
    size_t header_bytes = 0, i;
    uint8_t *header, *bytes;
    st_file back;
    st_error error;

    REQUIRE(copies != NULL && order != NULL);
    for (i = 0; i < file->count; i++) {
        copies[i] = file->tensors[i];
        order[i] = &copies[i];
    }
    REQUIRE(st_lay_out(order, file->count));
    header = st_make_header(order, file->count, file->metadata, &header_bytes);
    REQUIRE(header != NULL && header_bytes % 8 == 0);
    bytes = (uint8_t *)calloc(header_bytes + (size_t)file->data_bytes, 1);
    REQUIRE(bytes != NULL);
    memcpy(bytes, header, header_bytes);
    if (!st_read(&back, bytes, header_bytes + file->data_bytes, &error)) {
        fprintf(stderr, "fuzz_safetensors: what was written is refused: %s\n", error.text);
        abort();
    }
    REQUIRE(back.count == file->count);
    for (i = 0; i < file->count; i++) {
        const st_tensor *t = st_find(&back, file->tensors[i].name);
        REQUIRE(t != NULL && is_same_tensor(t, &file->tensors[i]));
    }
    REQUIRE((file->metadata == NULL) == (back.metadata == NULL));
    REQUIRE(file->metadata == NULL || cJSON_Compare(file->metadata, back.metadata, 1));
    st_close(&back);
    free(bytes);
    free(header);
    free(order);
    free(copies);
}

static void check_file(const uint8_t *bytes, size_t size)
{
    st_file file;
    st_error error = {""};

    if (st_read(&file, bytes, size, &error)) {
        check_layout(&file);
        check_round_trip(&file);
        st_close(&file);
    } else {
        REQUIRE(error.text[0] != '\0' && file.json == NULL && file.tensors == NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    uint64_t n;
    size_t data;
    uint8_t *bytes;

    if (size == 0) {
        return 0;
    }
    if (input[0] % 2 == 0 || size < 2) {
        check_file(input + 1, size - 1);
        return 0;
    }
    n = size - 2;
    data = input[1];
    bytes = (uint8_t *)calloc(sizeof n + (size_t)n + data, 1);
    REQUIRE(bytes != NULL);
    memcpy(bytes, &n, sizeof n);
    memcpy(bytes + sizeof n, input + 2, (size_t)n);
    check_file(bytes, sizeof n + (size_t)n + data);
    free(bytes);
    return 0;
}
