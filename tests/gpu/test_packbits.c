/*
 * tests/gpu/test_packbits.c - the launchers of 14_packbits against the host reference: buffers of
 * any length and alignment, segments of any lengths, empty ones, many of them, in both bit orders
 * and types of indptr; what becomes of an indptr that leads elsewhere, and of an output that is too
 * small; the workspace; what is refused; between other kernels; and many launches in a row.
 */
#include <fp4/host/packbits.h>

#include "bytes.h"

static cudaError_t call_flat(const void *args, int pdl, cudaStream_t stream)
{
    return launch_packbits((const launch_packbits_args *)args, pdl, stream);
}

static cudaError_t call_segments(const void *args, int pdl, cudaStream_t stream)
{
    return launch_segment_packbits((const launch_segment_packbits_args *)args, pdl, stream);
}

/* Bytes of any value, zeros among them: half of them, few or nearly all. */
static uint8_t *bits_random(size_t n, uint64_t *state)
{
    const uint32_t of = 2 + host_below(state, 30), zeros = host_below(state, of + 1);
    uint8_t *x = bytes_random(n, state);

    for (size_t i = 0; i < n; i++) {
        x[i] = host_below(state, of) < zeros ? 0 : x[i];
    }
    return x;
}

/* ---------------------------------------------------------------- a whole buffer */

static bytes_call flat_call(launch_packbits_args *a, const uint8_t *x, size_t x_shift,
                            size_t out_shift)
{
    bytes_call call;

    memset(&call, 0, sizeof call);
    snprintf(call.text, sizeof call.text, "%zu bytes, order %d, shifts %zu, %zu", a->n, a->order,
             x_shift, out_shift);
    a->x = (const uint8_t *)bytes_in(&call, 0, x, a->n, x_shift);
    a->out = (uint8_t *)bytes_out(&call, 0, fp4_packed_bytes(a->n), out_shift);
    call.launch = call_flat;
    call.args = a;
    return call;
}

static void run_flat(size_t n, int order, size_t x_shift, size_t out_shift, int pdl,
                     uint64_t *state)
{
    launch_packbits_args a = {NULL, NULL, n, order};
    uint8_t *x = bits_random(n, state), *out = (uint8_t *)host_zeros(fp4_packed_bytes(n));
    const void *const ins[GPU_COPIES] = {x}, *const outs[GPU_COPIES] = {out};
    bytes_call call = flat_call(&a, x, x_shift, out_shift);

    cr_assert(fp4_ref_packbits(x, n, (fp4_bit_order)order, out, fp4_packed_bytes(n)) == FP4_OK);
    bytes_run(&call, ins, outs, pdl);
    bytes_free(&call);
    free(x);
    free(out);
}

GPU_TEST(packbits, buffers)
{
    static const size_t sizes[] = {1,   2,   7,    8,     9,     31,    32,    33,    255,
                                   256, 999, 8191, 16384, 16385, 20000, 32767, 40001, 100003};
    const size_t turns = gpu_is_reduced() ? 4 : 20;
    uint64_t state = 1400;

    for (size_t i = 0; i < 18 * turns; i++) {
        const int aligned = (int)(i / 18 % 2);
        run_flat(sizes[i % 18], (int)host_below(&state, 2), aligned ? 0 : host_below(&state, 35),
                 aligned ? 0 : host_below(&state, 12), (int)host_below(&state, 2), &state);
    }
    run_flat(gpu_is_reduced() ? 300001 : 50000001, FP4_BITS_BIG, 0, 0, 0, &state);
    run_flat(gpu_is_reduced() ? 300001 : 50000001, FP4_BITS_LITTLE, 3, 1, 0, &state);
}

/* ---------------------------------------------------------------- segments */

/* Segments, and what the device makes of them, in the words of the card in 14_packbits.cu: entries
   below 0 count as 0, those behind n as n, a segment that ends before it begins as empty. */
typedef struct segments {
    launch_segment_packbits_args args;
    uint8_t *x;
    void *indptr;
    uint8_t *out;
    void *new_indptr;
    uint32_t errors;
    size_t bytes; /* of all bits */
} segments;

static size_t clamped(const segments *s, size_t i, int *is_bad)
{
    const size_t n = s->args.n, at = fp4_ref_index_(s->indptr, s->args.index_bytes, i);

    *is_bad |= at > n;
    return (int64_t)at < 0 ? 0 : at > n ? n : at;
}

/* Bit by bit, from the indptr as it is; out: what it has room for, poison where nothing goes. */
static void segments_expect(segments *s, size_t room, int poison)
{
    int is_bad = 0;

    s->bytes = 0;
    s->args.out_bytes = room;
    s->out = (uint8_t *)host_zeros(room);
    memset(s->out, poison, room);
    for (size_t i = 0; i <= s->args.segments; i++) {
        const size_t start = clamped(s, i, &is_bad);
        fp4_ref_set_index_(s->new_indptr, s->args.index_bytes, i, s->bytes);
        if (i < s->args.segments) {
            const size_t end = clamped(s, i + 1, &is_bad), length = end > start ? end - start : 0;
            is_bad |= end < start;
            for (size_t k = 0; k < length; k++) {
                const size_t at = s->bytes + k / 8;
                const uint32_t bit = (uint32_t)(s->args.order == FP4_BITS_BIG ? 7 - k % 8 : k % 8);
                if (at < room) {
                    s->out[at] = (uint8_t)((k % 8 == 0 ? 0 : s->out[at]) |
                                           (uint32_t)(s->x[start + k] != 0) << bit);
                }
            }
            s->bytes += (length + 7) / 8;
        }
    }
    s->errors =
        (is_bad ? FP4_PACKBITS_INDPTR : 0u) | (s->bytes > room ? FP4_PACKBITS_OUT_BYTES : 0u);
}

/* Lengths below `most`, of which so many in eight are 0; x has `gap` bytes in front and behind. */
static segments segments_new(size_t count, uint32_t most, uint32_t empty, size_t gap,
                             size_t index_bytes, uint64_t *state)
{
    segments s;
    size_t at = gap;

    memset(&s, 0, sizeof s);
    s.args.index_bytes = index_bytes;
    s.args.segments = count;
    s.args.order = (int)host_below(state, 2);
    s.indptr = host_zeros((count + 1) * index_bytes);
    s.new_indptr = host_zeros((count + 1) * index_bytes);
    for (size_t i = 0; i <= count; i++) {
        fp4_ref_set_index_(s.indptr, index_bytes, i, at);
        at += i == count || host_below(state, 8) < empty ? 0 : host_below(state, most);
    }
    s.args.n = at + gap;
    s.x = bits_random(s.args.n, state);
    return s;
}

/* Where the last one ends, all bits are known to fit: as many as the host counts. */
static size_t segments_bytes(segments *s)
{
    size_t bytes;

    segments_expect(s, 0, 0);
    bytes = s->bytes;
    free(s->out);
    return bytes;
}

static void segments_free(segments *s)
{
    free(s->x);
    free(s->indptr);
    free(s->out);
    free(s->new_indptr);
}

/* A call; the workspace is not among its buffers. errors: 0 before each launch. */
static bytes_call segments_call(segments *s, size_t shift, gpu_buffer *workspace)
{
    const size_t indices = (s->args.segments + 1) * s->args.index_bytes;
    const size_t words = launch_segment_workspace_bytes(s->args.segments);
    void *zeros = host_zeros(words);
    bytes_call call;

    memset(&call, 0, sizeof call);
    snprintf(call.text, sizeof call.text, "%zu segments of %zu bytes, int%zu, order %d, shift %zu",
             s->args.segments, s->args.n, 8 * s->args.index_bytes, s->args.order, shift);
    s->args.x = (const uint8_t *)bytes_in(&call, 0, s->x, s->args.n, shift);
    s->args.indptr = bytes_in(&call, 1, s->indptr, indices, s->args.index_bytes);
    s->args.out = (uint8_t *)bytes_out(&call, 0, s->args.out_bytes, shift / 3);
    s->args.new_indptr = bytes_out(&call, 1, indices, s->args.index_bytes);
    *workspace = gpu_buffer_of(zeros, words, 8);
    s->args.workspace = words == 0 ? NULL : (uint32_t *)(void *)workspace->bytes;
    call.launch = call_segments;
    call.args = &s->args;
    free(zeros);
    return call;
}

/* What of a workspace must be 0 for the next launch is. */
static void expect_workspace(gpu_buffer workspace, const char *text)
{
    const size_t bytes = launch_segment_workspace_zeros();

    gpu_expect_guards(workspace, text);
    if (workspace.size != 0) {
        uint8_t *zeros = (uint8_t *)host_zeros(bytes), *got = (uint8_t *)host_zeros(bytes);
        GPU_OK(cudaMemcpy(got, workspace.bytes, bytes, cudaMemcpyDeviceToHost));
        CHECK_EQ(memcmp(got, zeros, bytes), 0, "%s: the workspace", text);
        free(zeros);
        free(got);
    }
}

/* Over poison; what has no room is nowhere. */
static void run_segments(segments *s, size_t room, size_t shift, int pdl)
{
    gpu_buffer workspace, errors = gpu_buffer_new(sizeof(uint32_t), 4);
    const size_t fits = (segments_expect(s, room, 0x7f), s->bytes < room ? s->bytes : room);
    bytes_call call = segments_call(s, shift, &workspace);

    s->args.errors = (uint32_t *)(void *)errors.bytes;
    for (int turn = 0; turn < 2; turn++) {
        const int poison = turn == 0 ? 0x7f : 0xff;
        gpu_poison(call.out[0], poison);
        gpu_poison(call.out[1], poison);
        gpu_poison(errors, 0);
        memset(s->out + fits, poison, room - fits);
        GPU_OK(call.launch(&s->args, pdl, 0));
        gpu_finish(call.text);
        bytes_expect(call.out[0], s->out, call.text);
        bytes_expect(call.out[1], s->new_indptr, call.text);
        bytes_expect(errors, &s->errors, call.text);
        expect_workspace(workspace, call.text);
    }
    bytes_expect(call.in[0], s->x, call.text);
    bytes_expect(call.in[1], s->indptr, call.text);
    gpu_buffer_free(workspace);
    gpu_buffer_free(errors);
    bytes_free(&call);
}

/* What the host reference makes of good ones is the same. */
static void run_good(segments *s, size_t shift, int pdl)
{
    const size_t bytes = segments_bytes(s);
    uint8_t *out = (uint8_t *)host_zeros(bytes);

    run_segments(s, bytes, shift, pdl);
    cr_assert(fp4_ref_segment_packbits(s->x, s->args.n, s->indptr, s->args.index_bytes,
                                       s->args.segments, (fp4_bit_order)s->args.order, out, bytes,
                                       NULL) == FP4_OK);
    host_expect_bytes(s->out, out, bytes, "host");
    free(out);
}

GPU_TEST(packbits, segments_of_any_lengths)
{
    static const size_t counts[] = {0, 1, 2, 31, 255, 256, 257, 600, 1023, 1024, 1025, 3000};
    static const uint32_t most[] = {2, 9, 70, 300, 5000};
    uint64_t state = 1410;

    for (size_t i = 0; i < 12 * 5 * 2; i++) {
        const size_t count = counts[i % 12];
        const uint32_t length = most[i / 12 % 5];
        segments s;
        if (gpu_is_reduced() && count * length > 200000) {
            continue;
        }
        s = segments_new(count, length, host_below(&state, 8), host_below(&state, 3) * 17,
                         i / 60 ? 8 : 4, &state);
        run_good(&s, host_below(&state, 2) ? 0 : host_below(&state, 40),
                 (int)host_below(&state, 2));
        segments_free(&s);
    }
}

/* One long one among none and many empty ones. */
GPU_TEST(packbits, segments_of_uneven_lengths)
{
    static const size_t counts[] = {1, 3, 700, 2500};
    const size_t length = gpu_is_reduced() ? 50000 : 5000000;
    uint64_t state = 1420;

    for (size_t i = 0; i < 4 * 3; i++) {
        const size_t count = counts[i % 4], which = i / 4 == 0   ? 0
                                                    : i / 4 == 1 ? count / 2
                                                                 : count - 1;
        segments s = segments_new(count, 1, 0, 0, 8, &state);
        free(s.x);
        for (size_t k = which + 1; k <= count; k++) {
            fp4_ref_set_index_(s.indptr, 8, k, length);
        }
        s.args.n = length;
        s.x = bits_random(length, &state);
        run_good(&s, i % 5, (int)(i % 2));
        segments_free(&s);
    }
}

/* Fewer bytes than are loaded at a time, wherever they begin, in one of many segments. */
GPU_TEST(packbits, segments_of_a_few_bytes)
{
    static const size_t counts[] = {129, 600, 3000};
    uint64_t state = 1425;

    for (size_t i = 0; i < 3 * 40; i += gpu_is_reduced() ? 13 : 1) {
        const size_t count = counts[i % 3], n = 1 + i / 3,
                     which = host_below(&state, (uint32_t)count);
        const size_t index_bytes = host_below(&state, 2) ? 8 : 4;
        for (size_t shift = i % 4; shift < 32; shift += 4) {
            segments s = segments_new(count, 1, 0, 0, index_bytes, &state);
            free(s.x);
            for (size_t k = which + 1; k <= count; k++) {
                fp4_ref_set_index_(s.indptr, index_bytes, k, n);
            }
            s.args.n = n;
            s.x = bits_random(n, &state);
            run_good(&s, shift, 0);
            segments_free(&s);
        }
    }
}

/* What is made at a time ends where a segment ends, in the middle of a byte. */
GPU_TEST(packbits, segments_of_even_lengths)
{
    static const size_t lengths[] = {15, 120, 2040};
    const size_t bytes = gpu_is_reduced() ? 40000 : 4000000;
    uint64_t state = 1425;

    for (size_t i = 0; i < 3 * 4; i++) {
        const size_t made = lengths[i % 3], count = bytes / made;
        const size_t length = made * 8 - 1 - host_below(&state, 7);
        segments s = segments_new(count, 1, 0, 0, 4, &state);
        free(s.x);
        for (size_t k = 1; k <= count; k++) {
            fp4_ref_set_index_(s.indptr, 4, k, k * length);
        }
        s.args.n = count * length;
        s.x = bits_random(s.args.n, &state);
        run_good(&s, i / 3 == 0 ? 0 : host_below(&state, 33), 0);
        segments_free(&s);
    }
}

/* The launcher need not know where what it makes begins, nor whether all went well. */
GPU_TEST(packbits, new_indptr_and_errors_are_not_needed)
{
    uint64_t state = 1430;

    for (size_t i = 0; i < 2; i++) {
        segments s = segments_new(i == 0 ? 20 : 2000, 50, 1, 0, 4, &state);
        gpu_buffer workspace;
        bytes_call call;
        segments_expect(&s, segments_bytes(&s), 0x7f);
        call = segments_call(&s, 0, &workspace);
        s.args.new_indptr = NULL;
        GPU_OK(call.launch(&s.args, 0, 0));
        gpu_finish(call.text);
        bytes_expect(call.out[0], s.out, call.text);
        gpu_expect_guards(call.out[1], call.text);
        gpu_buffer_free(workspace);
        bytes_free(&call);
        segments_free(&s);
    }
}

/* ---------------------------------------------------------------- what is on the device is bad */

/* Entries that decrease, are negative, or lead behind x, among good ones; also where there is not
   enough room, so that both are reported. */
GPU_TEST(packbits, indptr_that_leads_elsewhere)
{
    static const size_t counts[] = {1, 2, 10, 300, 1500};
    uint64_t state = 1440;

    for (size_t i = 0; i < 5 * 6; i++) {
        const size_t count = counts[i % 5], index_bytes = i % 2 ? 4 : 8;
        segments s = segments_new(count, 200, 1, 5, index_bytes, &state);
        const size_t spoiled = 1 + host_below(&state, 5);
        for (size_t k = 0; k < spoiled; k++) {
            const size_t at = host_below(&state, (uint32_t)count + 1);
            const uint32_t kind = host_below(&state, 5);
            const size_t bad = kind == 0   ? (size_t)-1
                               : kind == 1 ? s.args.n + 1
                               : kind == 2 ? (size_t)INT32_MAX
                               : kind == 3 ? (size_t)INT64_MIN + ((size_t)1 << 31)
                                           : host_below(&state, (uint32_t)s.args.n + 1);
            fp4_ref_set_index_(s.indptr, index_bytes, at, bad);
        }
        const size_t bytes = segments_bytes(&s);
        run_segments(&s, i % 3 == 2 ? bytes / 2 : bytes, host_below(&state, 33), (int)(i % 2));
        segments_free(&s);
    }
}

/* Nothing is written behind the end, whatever indptr says; new_indptr says what was needed. */
GPU_TEST(packbits, output_that_is_too_small)
{
    static const size_t counts[] = {1, 5, 300, 1500};
    uint64_t state = 1450;

    for (size_t i = 0; i < 4 * 4; i++) {
        segments s = segments_new(counts[i % 4], 300, 1, 0, 4, &state);
        const size_t bytes = segments_bytes(&s);
        const size_t room = i / 4 == 0   ? 0
                            : i / 4 == 1 ? bytes - (bytes != 0)
                            : i / 4 == 2 ? bytes / 2
                                         : bytes + 100;
        run_segments(&s, room, i % 7, 0);
        segments_free(&s);
    }
}

/* ---------------------------------------------------------------- between other kernels */

Test(packbits, between_other_kernels, .init = gpu_begin, .timeout = 300)
{
    uint64_t state = 1460;

    for (int i = 0; i < 2; i++) {
        launch_packbits_args a = {NULL, NULL, 5003, i};
        const size_t bytes = fp4_packed_bytes(a.n);
        uint8_t *x = bits_random(BYTES_ROUNDS * a.n, &state);
        uint8_t *out = (uint8_t *)host_zeros(BYTES_ROUNDS * bytes);
        const void *const ins[GPU_COPIES] = {x}, *const outs[GPU_COPIES] = {out};
        bytes_call call = flat_call(&a, x, (size_t)i, 0);
        for (size_t round = 0; round < BYTES_ROUNDS; round++) {
            cr_assert(fp4_ref_packbits(x + round * a.n, a.n, (fp4_bit_order)i, out + round * bytes,
                                       bytes) == FP4_OK);
        }
        bytes_chain(&call, ins, outs);
        bytes_graph(&call, ins, outs, i);
        bytes_free(&call);
        free(x);
        free(out);
    }
}

/* With one workspace for all launches. */
Test(packbits, segments_between_other_kernels, .init = gpu_begin, .timeout = 300)
{
    static const size_t counts[] = {20, 1500};
    uint64_t state = 1470;

    for (int i = 0; i < 2; i++) {
        segments s = segments_new(counts[i], 60, 1, 3, 4, &state);
        const size_t n = s.args.n, bytes = segments_bytes(&s), indices = (counts[i] + 1) * 4;
        uint8_t *x = bits_random(BYTES_ROUNDS * n, &state), *own = s.x;
        uint8_t *out = (uint8_t *)host_zeros(BYTES_ROUNDS * bytes);
        uint8_t *indptr = (uint8_t *)host_zeros(BYTES_ROUNDS * indices);
        uint8_t *new_indptr = (uint8_t *)host_zeros(BYTES_ROUNDS * indices);
        const void *const ins[GPU_COPIES] = {x, indptr}, *const outs[GPU_COPIES] = {out,
                                                                                    new_indptr};
        gpu_buffer workspace;
        bytes_call call;
        for (size_t round = 0; round < BYTES_ROUNDS; round++) {
            s.x = x + round * n;
            segments_expect(&s, bytes, 0);
            memcpy(out + round * bytes, s.out, bytes);
            memcpy(indptr + round * indices, s.indptr, indices);
            memcpy(new_indptr + round * indices, s.new_indptr, indices);
            free(s.out);
        }
        s.x = own;
        call = segments_call(&s, 0, &workspace);
        s.out = NULL;
        bytes_chain(&call, ins, outs);
        bytes_graph(&call, ins, outs, i);
        expect_workspace(workspace, call.text);
        gpu_buffer_free(workspace);
        bytes_free(&call);
        segments_free(&s);
        free(x);
        free(out);
        free(indptr);
        free(new_indptr);
    }
}

/* ---------------------------------------------------------------- many in a row */

/* On the CPU one CTA runs after the other, so that only a GPU shows whether they wait for each
   other as they should: with many chunks each, many launches, nothing in between that would give
   them time, and a launch of another size in front of each. */
enum { CROWD = 5, CROWD_STREAMS = 2 };

/* Segments, and room for what a number of launches makes of them: a slot each. The last slot stays
   as it is. */
typedef struct crowd {
    segments s;
    gpu_buffer x, indptr, out, new_indptr, errors;
    size_t slots;
} crowd;

static size_t crowd_rounds(void)
{
    return gpu_is_reduced() ? 2 : 100;
}

/* One segment in so many becomes longer. */
static void segments_lengthen(segments *s, size_t one_in, size_t by, uint64_t *state)
{
    for (size_t i = 0; i <= s->args.segments; i++) {
        const size_t at = fp4_ref_index_(s->indptr, s->args.index_bytes, i);
        fp4_ref_set_index_(s->indptr, s->args.index_bytes, i, at + (i + one_in / 2) / one_in * by);
    }
    s->args.n += (s->args.segments + one_in / 2) / one_in * by;
    free(s->x);
    s->x = bits_random(s->args.n, state);
}

/* The last of them has an indptr that leads elsewhere, and not enough room. */
static void crowd_begin(crowd of[CROWD], gpu_buffer workspaces[CROWD_STREAMS], size_t slots)
{
    static const size_t counts[2][CROWD] = {{3000, 300000, 1025, 40000, 9000},
                                            {1500, 9000, 1025, 2500, 1100}};
    static const uint32_t most[CROWD] = {3000, 10, 200, 90, 60};
    const size_t *count = counts[gpu_is_reduced()], by = gpu_is_reduced() ? 500 : 20000;
    uint64_t state = 1475;

    for (size_t i = 0; i < CROWD; i++) {
        crowd *c = &of[i];
        segments *s = &c->s;
        const size_t index_bytes = i % 2 ? 4 : 8, indices = (count[i] + 1) * index_bytes;
        size_t bytes;
        *s = segments_new(count[i], gpu_is_reduced() ? 30 : most[i], 2, 3, index_bytes, &state);
        segments_lengthen(s, 400 + count[i] / 20, by, &state);
        if (i == CROWD - 1) {
            fp4_ref_set_index_(s->indptr, index_bytes, count[i] / 3, (size_t)-1);
        }
        bytes = segments_bytes(s);
        segments_expect(s, i == CROWD - 1 ? bytes / 2 : bytes, 0x7f);
        c->slots = slots;
        c->x = gpu_buffer_of(s->x, s->args.n, i);
        c->indptr = gpu_buffer_of(s->indptr, indices, 0);
        c->out = gpu_buffer_new(slots * s->args.out_bytes, 0);
        c->new_indptr = gpu_buffer_new(slots * indices, 0);
        c->errors = gpu_buffer_new(slots * sizeof(uint32_t), 0);
        gpu_poison(c->out, 0x7f);
        gpu_poison(c->new_indptr, 0x7f);
        gpu_poison(c->errors, 0);
    }
    for (size_t i = 0; i < CROWD_STREAMS; i++) { /* of the largest */
        workspaces[i] = gpu_buffer_new(launch_segment_workspace_bytes(count[1]), 0);
        gpu_poison(workspaces[i], 0);
    }
    gpu_finish("before");
}

static void crowd_launch(const crowd *c, size_t slot, gpu_buffer workspace, int pdl,
                         cudaStream_t stream)
{
    launch_segment_packbits_args a = c->s.args;

    a.x = c->x.bytes;
    a.indptr = c->indptr.bytes;
    a.out = c->out.bytes + slot * a.out_bytes;
    a.new_indptr = c->new_indptr.bytes + slot * c->indptr.size;
    a.errors = (uint32_t *)(void *)c->errors.bytes + slot;
    a.workspace = (uint32_t *)(void *)workspace.bytes;
    GPU_OK(launch_segment_packbits(&a, pdl, stream));
}

/* Slots of a buffer, all of which are to be the same, but the last. */
static void crowd_expect(gpu_buffer b, const void *expected, size_t slots, const char *what)
{
    const size_t bytes = b.size / slots;
    uint8_t *got = (uint8_t *)gpu_copy_of(b);
    char text[100];

    for (size_t slot = 0; slot + 1 < slots; slot++) {
        snprintf(text, sizeof text, "%s, launch %zu", what, slot);
        host_expect_bytes(got + slot * bytes, (const uint8_t *)expected, bytes, text);
    }
    gpu_expect_guards(b, what);
    free(got);
    gpu_buffer_free(b);
}

/* Looks at all of it and frees it. */
static void crowd_end(crowd of[CROWD], gpu_buffer workspaces[CROWD_STREAMS])
{
    gpu_finish("many in a row");
    for (size_t i = 0; i < CROWD; i++) {
        crowd *c = &of[i];
        char text[50];
        snprintf(text, sizeof text, "%zu segments", c->s.args.segments);
        crowd_expect(c->out, c->s.out, c->slots, text);
        crowd_expect(c->new_indptr, c->s.new_indptr, c->slots, text);
        crowd_expect(c->errors, &c->s.errors, c->slots, text);
        gpu_buffer_free(c->x);
        gpu_buffer_free(c->indptr);
        segments_free(&c->s);
    }
    for (size_t i = 0; i < CROWD_STREAMS; i++) {
        expect_workspace(workspaces[i], "many in a row");
        gpu_buffer_free(workspaces[i]);
    }
}

/* On two streams at a time, which take room on the GPU from each other; each has a workspace. */
Test(packbits, segments_many_in_a_row, .init = gpu_begin, .timeout = 300)
{
    const size_t rounds = crowd_rounds();
    cudaStream_t streams[CROWD_STREAMS];
    gpu_buffer workspaces[CROWD_STREAMS];
    crowd of[CROWD];

    for (size_t i = 0; i < CROWD_STREAMS; i++) {
        GPU_OK(cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking));
    }
    crowd_begin(of, workspaces, rounds * CROWD_STREAMS + 1);
    for (size_t round = 0; round < rounds; round++) {
        for (size_t k = 0; k < CROWD; k++) {
            for (size_t i = 0; i < CROWD_STREAMS; i++) { /* of another size each */
                crowd_launch(&of[(k + 2 * i) % CROWD], round * CROWD_STREAMS + i, workspaces[i],
                             (int)(round % 2), streams[i]);
            }
        }
    }
    crowd_end(of, workspaces);
    for (size_t i = 0; i < CROWD_STREAMS; i++) {
        GPU_OK(cudaStreamDestroy(streams[i]));
    }
}

static void crowd_copy(gpu_buffer b, size_t slots, size_t to, size_t from, cudaStream_t stream)
{
    const size_t bytes = b.size / slots;

    GPU_OK(cudaMemcpyAsync(b.bytes + to * bytes, b.bytes + from * bytes, bytes,
                           cudaMemcpyDeviceToDevice, stream));
}

/* A graph of one launch of each size, again and again. They write the first slot, which is put back
   as it was before and copied away behind. */
Test(packbits, segments_many_in_a_graph, .init = gpu_begin, .timeout = 300)
{
    const size_t rounds = crowd_rounds(), slots = rounds + 2;
    gpu_buffer workspaces[CROWD_STREAMS];
    cudaGraphExec_t executable;
    cudaStream_t stream;
    cudaGraph_t graph;
    crowd of[CROWD];

    for (int pdl = 0; pdl < 2; pdl++) {
        crowd_begin(of, workspaces, slots);
        GPU_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        GPU_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
        for (size_t k = 0; k < CROWD; k++) {
            crowd_launch(&of[k], 0, workspaces[0], pdl, stream);
        }
        GPU_OK(cudaStreamEndCapture(stream, &graph));
        GPU_OK(cudaGraphInstantiate(&executable, graph, 0));
        GPU_OK(cudaGraphDestroy(graph));
        for (size_t round = 0; round < rounds; round++) {
            for (size_t k = 0; k < CROWD; k++) {
                crowd_copy(of[k].out, slots, 0, slots - 1, stream);
                crowd_copy(of[k].new_indptr, slots, 0, slots - 1, stream);
                crowd_copy(of[k].errors, slots, 0, slots - 1, stream);
            }
            GPU_OK(cudaGraphLaunch(executable, stream));
            for (size_t k = 0; k < CROWD; k++) {
                crowd_copy(of[k].out, slots, 1 + round, 0, stream);
                crowd_copy(of[k].new_indptr, slots, 1 + round, 0, stream);
                crowd_copy(of[k].errors, slots, 1 + round, 0, stream);
            }
        }
        crowd_end(of, workspaces);
        GPU_OK(cudaGraphExecDestroy(executable));
        GPU_OK(cudaStreamDestroy(stream));
    }
}

/* ---------------------------------------------------------------- what is refused */

#define EXPECT(type, error, launches, what, change) \
    do { \
        type args = *(const type *)call.args; \
        change; \
        bytes_expect_call(&call, &args, error, launches, what); \
    } while (0)
#define FLAT(error, launches, what, change) \
    EXPECT(launch_packbits_args, error, launches, what, change)
#define SEGMENTS(error, launches, what, change) \
    EXPECT(launch_segment_packbits_args, error, launches, what, change)

GPU_TEST(packbits_errors, buffers)
{
    launch_packbits_args a = {NULL, NULL, 100, FP4_BITS_BIG};
    uint8_t *x = (uint8_t *)host_zeros(100), poison[13];
    bytes_call call = flat_call(&a, x, 0, 0);

    memset(poison, 0x7f, sizeof poison);
    gpu_poison(call.out[0], 0x7f);
    FLAT(cudaSuccess, 1, "as it is", (void)args);
    FLAT(cudaSuccess, 1, "unaligned", args.x++; args.n--);
    FLAT(cudaErrorInvalidValue, 0, "no x", args.x = NULL);
    FLAT(cudaErrorInvalidValue, 0, "no out", args.out = NULL);
#if !defined(FP4_SIMT) /* UBSan stops at an enumerator that has bits beyond those of all others */
    FLAT(cudaErrorInvalidValue, 0, "order 2", args.order = 2);
    FLAT(cudaErrorInvalidValue, 0, "order -1", args.order = -1);
#endif
    FLAT(cudaErrorInvalidValue, 0, "more than a grid has", args.n = (size_t)1 << 60);
    FLAT(cudaSuccess, 0, "nothing", args.n = 0; args.x = args.out = NULL);
    gpu_finish("refused");
    bytes_expect(call.out[0], poison, "refused");
    bytes_free(&call);
    free(x);
}

GPU_TEST(packbits_errors, segments)
{
    uint64_t state = 1480;

    for (int many = 0; many < 2; many++) {
        segments s = segments_new(many ? 2000 : 10, 100, 1, 0, 8, &state);
        const size_t bytes = segments_bytes(&s);
        gpu_buffer workspace;
        bytes_call call;
        segments_expect(&s, bytes, 0x7f);
        memset(s.out, 0x7f, bytes);
        call = segments_call(&s, 0, &workspace);
        gpu_poison(call.out[0], 0x7f);
        SEGMENTS(cudaSuccess, 1, "as it is", (void)args);
        SEGMENTS(cudaErrorInvalidValue, 0, "no x", args.x = NULL);
        SEGMENTS(cudaErrorInvalidValue, 0, "no out", args.out = NULL);
        SEGMENTS(cudaErrorInvalidValue, 0, "no indptr", args.indptr = NULL);
        SEGMENTS(cudaSuccess, 1, "no new_indptr", args.new_indptr = NULL);
        SEGMENTS(cudaSuccess, 1, "no room", args.out = NULL; args.out_bytes = 0);
        SEGMENTS(cudaErrorInvalidValue, 0, "int16", args.index_bytes = 2);
        SEGMENTS(cudaErrorInvalidValue, 0, "no index", args.index_bytes = 0);
#if !defined(FP4_SIMT)
        SEGMENTS(cudaErrorInvalidValue, 0, "order 2", args.order = 2);
#endif
        SEGMENTS(cudaErrorInvalidValue, 0, "indptr misaligned",
                 args.indptr = (const uint8_t *)args.indptr + 4);
        SEGMENTS(cudaErrorInvalidValue, 0, "new_indptr misaligned",
                 args.new_indptr = (uint8_t *)args.new_indptr + 4);
        SEGMENTS(cudaSuccess, 1, "int32, aligned by 4",
                 args.new_indptr = (uint8_t *)args.new_indptr + 4;
                 args.index_bytes = 4);
        SEGMENTS(cudaErrorInvalidValue, 0, "errors misaligned",
                 args.errors = (uint32_t *)((uintptr_t)s.args.indptr + 2));
        SEGMENTS(cudaErrorInvalidValue, 0, "segments without end", args.segments = (size_t)-1);
        if (many) {
            SEGMENTS(cudaErrorInvalidValue, 0, "no workspace", args.workspace = NULL);
            SEGMENTS(cudaErrorInvalidValue, 0, "workspace misaligned", args.workspace++);
        }
        SEGMENTS(cudaSuccess, 1, "no segments have an end", args.segments = 0);
        SEGMENTS(cudaSuccess, 0, "none, and no end wanted", args.segments = 0;
                 args.new_indptr = NULL; args.indptr = NULL; args.index_bytes = 7);
        gpu_finish("refused");
        bytes_expect(call.out[0], s.out, "refused");
        gpu_buffer_free(workspace);
        bytes_free(&call);
        segments_free(&s);
    }
}
