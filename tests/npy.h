/*
 * tests/npy.h - reads NumPy's .npy files: version 1, little-endian, C order.
 *
 *     offset  0     6       8             10      10 + header length
 *             magic version header length header  data
 *
 * The header is the text of a Python dict: {'descr': '<f4', 'fortran_order': False,
 * 'shape': (64, 256), }.
 */
#ifndef FP4_TESTS_NPY_H
#define FP4_TESTS_NPY_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NPY_MAX_RANK = 4 };

typedef struct npy {
    char type[4]; /* NumPy's name: "|u1", "<u2", "<u4", "<i4", "<i8", "<f2", "<f4" */
    size_t item;  /* bytes of an element */
    size_t rank, shape[NPY_MAX_RANK];
    size_t count; /* elements: the product of shape */
    void *data;
} npy;

/* The dict in the header, already terminated by a 0. NULL, or what is wrong with it. */
static inline const char *npy_parse_header_(npy *a, const char *header)
{
    const char *at = strstr(header, "'descr': '");

    if (at == NULL || sscanf(at + 10, "%3[^']'", a->type) != 1) {
        return "no simple 'descr' in the header";
    }
    if ((a->type[0] != '<' && a->type[0] != '|') || strchr("1248", a->type[2]) == NULL) {
        return "an element type that is not little-endian of 1, 2, 4 or 8 bytes";
    }
    a->item = (size_t)(a->type[2] - '0');
    if (strstr(header, "'fortran_order': False") == NULL) {
        return "not in C order";
    }
    at = strstr(header, "'shape': (");
    if (at == NULL) {
        return "no 'shape' in the header";
    }
    a->count = 1;
    for (at += 10; *at != ')'; at += strspn(at, ", ")) {
        char *end;
        const unsigned long long n = strtoull(at, &end, 10);
        if (end == at || a->rank == NPY_MAX_RANK) {
            return "a shape that is not at most four integers";
        }
        a->shape[a->rank++] = (size_t)n;
        a->count *= (size_t)n;
        at = end;
    }
    return NULL;
}

/* Fills *a from an open file. NULL, or what is wrong; a->data may be set in either case. */
static inline const char *npy_read_(npy *a, FILE *file)
{
    static const unsigned char magic[8] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
    unsigned char start[10];
    char header[1024];
    const char *wrong;
    size_t length;

    if (fread(start, 1, sizeof start, file) != sizeof start || memcmp(start, magic, 8) != 0) {
        return "not an .npy file of version 1.0";
    }
    length = (size_t)(start[8] | start[9] << 8);
    if (length >= sizeof header || fread(header, 1, length, file) != length) {
        return "the header is cut off or too long";
    }
    header[length] = '\0';
    wrong = npy_parse_header_(a, header);
    if (wrong != NULL) {
        return wrong;
    }
    a->data = malloc(a->count * a->item + 1);
    if (a->data == NULL) {
        return "out of memory";
    }
    /* one byte more than there should be: it must not be there */
    return fread(a->data, 1, a->count * a->item + 1, file) == a->count * a->item
               ? NULL
               : "the data is shorter or longer than the shape says";
}

/** Loads a file into *a. NULL, or what is wrong with it, and then *a holds nothing to free. */
static inline const char *npy_load(npy *a, const char *path)
{
    FILE *file = fopen(path, "rb");
    const char *wrong;

    memset(a, 0, sizeof *a);
    if (file == NULL) {
        return "cannot be opened";
    }
    wrong = npy_read_(a, file);
    fclose(file);
    if (wrong != NULL) {
        free(a->data);
        a->data = NULL;
    }
    return wrong;
}

/** Frees what npy_load allocated. */
static inline void npy_free(npy *a)
{
    free(a->data);
    a->data = NULL;
}

#endif /* FP4_TESTS_NPY_H */
