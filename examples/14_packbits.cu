/*
 * 14_packbits.cu - bytes to bits, 1 where a byte is not 0: of a whole buffer, or of each segment of
 * it on its own, each with whole bytes, and where these begin.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/14_packbits.cu -o packbits && ./packbits
 *
 * How it works: the sum of four bytes that are 0 or 128, times powers of two, is four bits in any
 * order: one instruction (dp4a). A buffer is packed 32 bytes at a time. Of segments it is not known
 * before the launch where their bits go: a CTA must know how many bytes all those in front of its
 * own make. So CTAs first count chunks of segments: who comes takes the next ones, and the last to
 * come back adds up. A CTA waits only for what others have begun, so that not all of them need be
 * on the GPU together. Then the work, segments and bytes of bits alike, is cut in even parts: a
 * part may be thousands of empty segments or the middle of one. The bytes of x become bits in
 * shared memory, whatever segments they are of, and each thread takes from there what makes its
 * eight bytes.
 */
#include <fp4/device/load.cuh>
#include <fp4/device/store.cuh>
#include <fp4/packbits.h>

/* Sizes at which the launcher changes its mind, and which are a matter of speed. */
#if !defined(PART)
#define PART 4096       /* segments and bytes of bits that are worth a CTA */
#define CHUNK_ITEMS 128 /* a multiple of 32 */
#endif
#if !defined(ENOUGH)
#define ENOUGH 512 /* CTAs, a power of two; more have nothing to add but their start */
#endif

enum {
    THREADS = 256,
    WARPS_LOG2 = 3,
    WARPS = THREADS / 32,
    EACH = 2,            /* pieces of 32 bytes of x a thread */
    CHUNK = CHUNK_ITEMS, /* segments whose places a warp knows at a time */
    MINE = CHUNK / 32,   /* of which a lane has so many */
    WINDOW = 248,        /* bytes of bits that a warp makes at a time, eight a lane: of no more bytes
                            of x, wherever they begin, than its lanes load at a time */
    TASKS = 512,         /* the most into which counting is cut; a multiple of THREADS */
    RESIDENT = 4         /* CTAs of a multiprocessor: so few that nothing spills */
};

/* ------------------------------------------------------------------------------ arguments */

/**
 * shape    n bytes of x to fp4_packed_bytes(n) bytes; what is left of the last one is 0. Any
 *          alignment, but it is slower where x is not 16-byte aligned or out not 4-byte: then too
 *          only the n bytes are read, 32 aligned ones at a time where all of these are among them.
 *          No overlap.
 */
typedef struct packbits_args {
    uint8_t *out;
    const uint8_t *x;
    size_t n;
    fp4_bit_order order;
} packbits_args;

/**
 * shape    segment s is bytes indptr[s] to indptr[s + 1] - 1 of the n of x; indptr has segments + 1
 *          integers of index_bytes = 4 or 8 bytes. Its bits begin at byte new_indptr[s] of out,
 *          which has room for out_bytes: n / 8 + segments of them are enough. new_indptr: of the
 *          type of indptr (FlashInfer's is int32 always), segments + 1 of them, or null. x and
 *          out: any alignment. Of x only the n bytes are read, those outside of segments too. No
 *          overlap.
 * workspace  segment_workspace_bytes(segments) bytes, 8-byte aligned; null where that is 0. All 0
 *          before the first call, which might not end otherwise; each call leaves it fit for the
 *          next. Calls that may overlap need one of their own each.
 * range    indptr is on the device, where nobody has checked it. An entry below 0 or behind n is
 *          taken as 0 or n, a segment whose end lies before its start as empty; bytes that out has
 *          no room for are not written, though new_indptr says where they would be.
 * errors   null, or a word to which bits of fp4_packbits_error are added. Nobody sets it to 0.
 */
typedef struct segment_packbits_args {
    uint8_t *out;
    size_t out_bytes;
    const uint8_t *x;
    size_t n;
    const void *indptr;
    void *new_indptr;
    size_t index_bytes, segments;
    fp4_bit_order order;
    uint32_t *workspace, *errors;
} segment_packbits_args;

/* The same as kernels take it. An item is a segment, or the end of the last one: what has a place
   in new_indptr. */
typedef struct packbits_job {
    segment_packbits_args a;
    size_t items;
    size_t chunks;       /* CHUNK items each, but the last */
    size_t each;         /* chunks that are counted at a time, */
    uint32_t tasks;      /* and how many times that is; 0 where there is one chunk */
    uint32_t parts_log2; /* dividing 64-bit numbers by others takes registers that are not there */
} packbits_job;

/* Words of the workspace: what has been given away, how many CTAs know all counts; for each task
   and then for each chunk two of a 64-bit number. */
enum { TICKETS, FINISHED, PLACES = 4 };

/* ------------------------------------------------------------------------------ bits */

/* The factors of eight elements, the first in the lowest byte. */
static __device__ __forceinline__ uint32_t low_factors(fp4_bit_order order)
{
    return order == FP4_BITS_BIG ? 0x10204080u : 0x08040201u;
}

static __device__ __forceinline__ uint32_t high_factors(fp4_bit_order order)
{
    return order == FP4_BITS_BIG ? 0x01020408u : 0x80402010u;
}

/* Of each byte 128 where it is not 0. */
static __device__ __forceinline__ uint32_t not_zero(uint32_t four)
{
    return (((four & 0x7f7f7f7fu) + 0x7f7f7f7fu) | four) & 0x80808080u;
}

/* 32 bytes to 32 bits. */
static __device__ __forceinline__ uint32_t pack_x32(fp4_u32x8 x, uint32_t low, uint32_t high)
{
    uint32_t eight[4]; /* times 128 */

#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        eight[i] = fp4_ptx_dot_u8u8(not_zero(x.v[2 * i]), low,
                                    fp4_ptx_dot_u8u8(not_zero(x.v[2 * i + 1]), high, 0));
    }
    return eight[0] >> 7 | eight[1] << 1 | eight[2] << 9 | eight[3] << 17;
}

/* The same of 32 bytes that are not all there: from `from` on, before `to`. */
static __device__ uint32_t pack_some(const uint8_t *x, uint32_t from, uint32_t to,
                                     fp4_bit_order order)
{
    uint32_t bits = 0;

    for (uint32_t i = from; i < to; i++) {
        bits |= (uint32_t)(x[i] != 0) << (order == FP4_BITS_BIG ? i ^ 7 : i);
    }
    return bits;
}

/* The bits of each byte in the other order. */
static __device__ __forceinline__ uint32_t turned(uint32_t v)
{
    v = (v >> 1 & 0x55555555u) | (v & 0x55555555u) << 1;
    v = (v >> 2 & 0x33333333u) | (v & 0x33333333u) << 2;
    return (v >> 4 & 0x0f0f0f0fu) | (v & 0x0f0f0f0fu) << 4;
}

static __global__ void __launch_bounds__(THREADS) pack_run(const packbits_args a)
{
    const size_t first = (size_t)blockIdx.x * (THREADS * EACH) + threadIdx.x, whole = a.n / 32;
    const uint32_t low = low_factors(a.order), high = high_factors(a.order);
    fp4_u32x8 v[EACH];

    fp4_pdl_wait();
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const size_t i = first + j * THREADS;
        if (i < whole) {
            v[j] = fp4_load_u32x8(a.x + i * 32);
        }
    }
    fp4_pdl_trigger();
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const size_t i = first + j * THREADS;
        if (i < whole) {
            fp4_ptx_store4(a.out + i * 4, pack_x32(v[j], low, high));
        } else if (i == whole) {
            const uint32_t left = (uint32_t)(a.n % 32);
            const uint32_t bits = pack_some(a.x + i * 32, 0, left, a.order);
            for (uint32_t k = 0; k < (left + 7) / 8; k++) {
                a.out[i * 4 + k] = (uint8_t)(bits >> 8 * k);
            }
        }
    }
}

/* Whether the 32 bytes of x from `at` on are all of its n; at wraps where it lies before x. */
static __device__ __forceinline__ int is_whole(size_t n, size_t at)
{
    return n >= 32 && at <= n - 32;
}

/* The bits, little, of 32 bytes from x + at on, of those that are of its n; v: they themselves,
   where all are. */
static __device__ __forceinline__ uint32_t pack_piece(const uint8_t *x, size_t n, size_t at,
                                                      fp4_u32x8 v)
{
    const size_t left = n - at;

    if (is_whole(n, at)) {
        return pack_x32(v, low_factors(FP4_BITS_LITTLE), high_factors(FP4_BITS_LITTLE));
    }
    return pack_some(x + at, at > n ? (uint32_t)(0 - at) : 0, left < 32 ? (uint32_t)left : 32,
                     FP4_BITS_LITTLE);
}

/* Bytes `from` to `to` of four. */
static __device__ __forceinline__ void store_some(uint8_t *p, uint32_t four, uint32_t from,
                                                  uint32_t to)
{
#pragma unroll
    for (uint32_t k = 0; k < 4; k++) {
        if (k >= from && k < to) {
            p[k] = (uint8_t)(four >> 8 * k);
        }
    }
}

/* Any alignment: 32 bits of out are parts of those of two aligned pieces of x, this lane's and the
   next one's. */
static __global__ void __launch_bounds__(THREADS) pack_shifted(const packbits_args a)
{
    const uint32_t lane = threadIdx.x % 32, skew = (uint32_t)((size_t)a.out % 4);
    const size_t warp = ((size_t)blockIdx.x * THREADS + threadIdx.x) / 32;
    const size_t first = warp * (32 * EACH) + lane, end = skew + fp4_packed_bytes(a.n);
    const uint32_t shift = (uint32_t)(((size_t)a.x - 8 * skew) % 32);
    const size_t at = first * 32 - 8 * skew - shift; /* of this lane's first piece, in x */
    fp4_u32x8 v[EACH + 1];
    uint32_t bits[EACH + 1];

    fp4_pdl_wait();
#pragma unroll
    for (uint32_t j = 0; j < EACH + 1; j++) { /* the last is the next warp's first */
        if ((j < EACH || lane == 0) && is_whole(a.n, at + j * 1024)) {
            v[j] = fp4_load_u32x8(a.x + at + j * 1024);
        }
    }
    fp4_pdl_trigger();
#pragma unroll
    for (uint32_t j = 0; j < EACH + 1; j++) {
        const size_t here = at + j * 1024;
        const int is_there = here < a.n || here + 32 < 32 + a.n; /* some of it */
        bits[j] = (j < EACH || lane == 0) && is_there ? pack_piece(a.x, a.n, here, v[j]) : 0;
    }
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t given = lane == 0 ? bits[j + 1] : bits[j];
        const uint32_t next = fp4_ptx_shuffle_u32(0xffffffffu, given, (int)(lane + 1) % 32);
        const uint32_t little = (uint32_t)((bits[j] | (unsigned long long)next << 32) >> shift);
        const uint32_t four = a.order == FP4_BITS_BIG ? turned(little) : little;
        const size_t byte = (first + j * 32) * 4; /* from the aligned four on where out begins */
        if (byte >= skew && byte + 4 <= end) {
            fp4_ptx_store4(a.out - skew + byte, four);
        } else if (byte < end) {
            store_some(a.out - skew + byte, four, byte < skew ? skew : 0,
                       end - byte < 4 ? (uint32_t)(end - byte) : 4);
        }
    }
}

/* ------------------------------------------------------------------------------ segments */

/* What the lanes of a warp know: of their share of a chunk, where its segments begin, cut where it
   is: bytes, from the aligned eight on in which it begins; bits, from the aligned 32 of x on in
   which its first one is. */
typedef struct packbits_warp {
    size_t cut[2];
    fp4_u32x2 place[CHUNK + 32];     /* byte and bit; the last 32: the end */
    uint32_t bits[2][EACH * 32 + 2]; /* of x, little; two more may be read */
} packbits_warp;

typedef struct packbits_cta {
    packbits_warp warps[WARPS];
    size_t tasks[TASKS + 1]; /* how many bytes those in front of it make */
    size_t sums[WARPS];
    uint32_t found;
} packbits_cta;

static __device__ __forceinline__ uint32_t lane_number(void)
{
    return threadIdx.x % 32;
}

static __device__ void add_error(const packbits_job &job, fp4_packbits_error error)
{
    if (job.a.errors != NULL) {
        fp4_ptx_atomic_or(job.a.errors, (uint32_t)error);
    }
}

static __device__ __forceinline__ size_t lane_xor(size_t x, int lanes)
{
    const uint32_t low = fp4_ptx_shuffle_xor_u32(0xffffffffu, (uint32_t)x, lanes);
    return low | (size_t)fp4_ptx_shuffle_xor_u32(0xffffffffu, (uint32_t)(x >> 32), lanes) << 32;
}

static __device__ __forceinline__ size_t of_lane(size_t x, uint32_t lane)
{
    const uint32_t low = fp4_ptx_shuffle_u32(0xffffffffu, (uint32_t)x, (int)lane);
    return low | (size_t)fp4_ptx_shuffle_u32(0xffffffffu, (uint32_t)(x >> 32), (int)lane) << 32;
}

/* The sum of what the lanes before this one have; all: of all. */
static __device__ __forceinline__ size_t lanes_before(size_t x, size_t *all)
{
    size_t before = 0;

    for (uint32_t lanes = 1; lanes < 32; lanes *= 2) { /* groups of so many know theirs */
        const size_t other = lane_xor(x, (int)lanes);
        before += lane_number() & lanes ? other : 0;
        x += other;
    }
    *all = x;
    return before;
}

/* The same of threads. All of them call. */
static __device__ size_t threads_before(size_t x, size_t *all, size_t *sums)
{
    const uint32_t warp = threadIdx.x / 32;
    size_t before = lanes_before(x, all);

    if (lane_number() == 0) {
        sums[warp] = *all;
    }
    fp4_ptx_barrier();
    *all = 0;
    for (uint32_t w = 0; w < WARPS; w++) {
        before += w < warp ? sums[w] : 0;
        *all += sums[w];
    }
    fp4_ptx_barrier();
    return before;
}

/* ------------------------------------------------------------------------------ chunks */

/* How many items a chunk has. */
static __device__ __forceinline__ uint32_t items_of(const packbits_job &job, size_t number)
{
    const size_t left = job.items - number * CHUNK;
    return left < CHUNK ? (uint32_t)left : CHUNK;
}

/* Where items lane, 32 + lane, ... of a chunk begin in x, or the items behind these; the end is
   behind itself. */
static __device__ __forceinline__ void load_starts(const packbits_job &job, size_t number,
                                                   uint32_t behind, size_t start[MINE],
                                                   int *is_bad)
{
    const size_t left = job.a.segments - number * CHUNK, n = job.a.n;
    const uint32_t end = left < CHUNK ? (uint32_t)left : CHUNK, first = lane_number() + behind;

    if (job.a.index_bytes == 4) {
        const int32_t *p = (const int32_t *)job.a.indptr + number * CHUNK;
#pragma unroll
        for (uint32_t j = 0; j < MINE; j++) {
            const uint32_t i = first + j * 32;
            start[j] = (size_t)(long long)p[i < end ? i : end];
        }
    } else {
        const long long *p = (const long long *)job.a.indptr + number * CHUNK;
#pragma unroll
        for (uint32_t j = 0; j < MINE; j++) {
            const uint32_t i = first + j * 32;
            start[j] = (size_t)p[i < end ? i : end];
        }
    }
#pragma unroll
    for (uint32_t j = 0; j < MINE; j++) {
        if (start[j] > n) {
            *is_bad = 1;
            start[j] = (long long)start[j] < 0 ? 0 : n;
        }
    }
}

static __device__ __forceinline__ size_t bytes_between(size_t start, size_t end)
{
    return end > start ? (end - start + 7) / 8 : 0;
}

/* How many bytes a chunk makes; a warp calls. */
static __device__ size_t count_chunk(const packbits_job &job, size_t number)
{
    size_t start[MINE], end[MINE], bytes = 0;
    int is_bad = 0; /* who packs the chunk says so */

    load_starts(job, number, 0, start, &is_bad);
    load_starts(job, number, 1, end, &is_bad);
#pragma unroll
    for (uint32_t j = 0; j < MINE; j++) {
        bytes += bytes_between(start[j], end[j]);
    }
    for (int lanes = 1; lanes < 32; lanes *= 2) {
        bytes += lane_xor(bytes, lanes);
    }
    return bytes;
}

/* What a task has in the workspace: how many bytes it makes, twice 31 bits behind a 1. By
   exchanges, since others read it in the same launch. */
static __device__ void set_task(const packbits_job &job, size_t task, size_t bytes)
{
    uint32_t *words = job.a.workspace + PLACES + 2 * task;

    fp4_ptx_atomic_exchange(&words[0], (uint32_t)bytes | 0x80000000u);
    fp4_ptx_atomic_exchange(&words[1], (uint32_t)(bytes >> 31) | 0x80000000u);
}

/* Returns when it is known. */
static __device__ size_t task_bytes(const packbits_job &job, size_t task)
{
    const uint32_t *words = job.a.workspace + PLACES + 2 * task;
    uint32_t low, high;

    do {
        low = fp4_ptx_load_acquire(&words[0]);
        high = fp4_ptx_load_acquire(&words[1]);
    } while ((low & high) >> 31 == 0);
    return (low & 0x7fffffffu) | (size_t)(high & 0x7fffffffu) << 31;
}

/* Behind those of tasks: of each chunk. */
static __device__ __forceinline__ uint32_t *chunk_words(const packbits_job &job, size_t number)
{
    return job.a.workspace + PLACES + 2 * (TASKS + number);
}

/* Counts what each chunk makes, a task's chunks at a time, by whoever comes first. All threads
   call. */
static __device__ void count_tasks(const packbits_job &job, packbits_cta &c)
{
    for (;;) {
        if (threadIdx.x == 0) {
            c.found = fp4_ptx_atomic_inc(&job.a.workspace[TICKETS], 0xffffffffu);
        }
        fp4_ptx_barrier();
        const size_t task = c.found, first = task * job.each;
        const size_t end = first + job.each < job.chunks ? first + job.each : job.chunks;
        size_t sum = 0;
        if (task >= job.tasks) {
            return;
        }
        for (size_t number = first + threadIdx.x / 32; number < end; number += WARPS) {
            const size_t bytes = count_chunk(job, number);
            if (lane_number() == 0) {
                uint32_t *words = chunk_words(job, number);
                fp4_ptx_atomic_exchange(&words[0], (uint32_t)bytes);
                fp4_ptx_atomic_exchange(&words[1], (uint32_t)(bytes >> 32));
            }
            sum += bytes;
        }
        if (lane_number() == 0) {
            c.sums[threadIdx.x / 32] = sum;
        }
        fp4_ptx_barrier();
        if (threadIdx.x == 0) {
            sum = 0;
            for (uint32_t w = 0; w < WARPS; w++) {
                sum += c.sums[w];
            }
            fp4_ptx_fence();
            set_task(job, task, sum);
        }
    }
}

/* Fills c.tasks; waits for what others count. The last CTA to come leaves the workspace as it was.
   All threads call. */
static __device__ void read_tasks(const packbits_job &job, packbits_cta &c)
{
    enum { OF_THREAD = TASKS / THREADS };
    const uint32_t first = threadIdx.x * OF_THREAD;
    size_t bytes[OF_THREAD], sum = 0, at, all;

#pragma unroll
    for (uint32_t j = 0; j < OF_THREAD; j++) {
        bytes[j] = first + j < job.tasks ? task_bytes(job, first + j) : 0;
        sum += bytes[j];
    }
    at = threads_before(sum, &all, c.sums);
#pragma unroll
    for (uint32_t j = 0; j < OF_THREAD; j++) {
        c.tasks[first + j] = at;
        at += bytes[j];
    }
    if (threadIdx.x == 0) {
        c.tasks[TASKS] = all;
    }
    fp4_ptx_barrier();
    if (threadIdx.x < 32) {
        uint32_t *words = job.a.workspace, before = 0;
        if (threadIdx.x == 0) {
            before = fp4_ptx_atomic_inc(&words[FINISHED], gridDim.x - 1);
        }
        if (fp4_ptx_shuffle_u32(0xffffffffu, before, 0) == gridDim.x - 1) {
            for (uint32_t i = threadIdx.x; i < 2 * job.tasks; i += 32) {
                fp4_ptx_atomic_exchange(&words[PLACES + i], 0);
            }
            if (threadIdx.x == 0) {
                fp4_ptx_atomic_exchange(&words[TICKETS], 0);
            }
        }
    }
}

/* Where a warp's part begins. */
typedef struct packbits_part {
    size_t unit, end_unit;
    size_t number, before; /* of the chunk in which it begins, and the bytes in front of that */
} packbits_part;

/* The chunk in which the part's first unit lies. A warp calls. */
static __device__ void find_chunk(const packbits_job &job, const packbits_cta &c, packbits_part *p)
{
    uint32_t low = 0, high = job.tasks;

    while (high - low > 1) {
        const uint32_t middle = (low + high) / 2;
        if (c.tasks[middle] + (size_t)middle * job.each * CHUNK <= p->unit) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const size_t first = (size_t)low * job.each;
    const size_t end = first + job.each < job.chunks ? first + job.each : job.chunks;
    size_t before = c.tasks[low];
    for (size_t group = first; group < end; group += 32) {
        const size_t number = group + lane_number();
        size_t all, at, bytes = 0;
        if (number < end) {
            const fp4_u32x2 words = fp4_ptx_load8(chunk_words(job, number));
            bytes = words.v[0] | (size_t)words.v[1] << 32;
        }
        at = before + lanes_before(bytes, &all);
        const uint32_t count = fp4_ptx_ones(fp4_ptx_ballot(
            0xffffffffu, number < end && at + number * CHUNK <= p->unit));
        if (count != 0) {
            p->number = group + count - 1;
            p->before = of_lane(at, count - 1);
        }
        if (count != 32) {
            break;
        }
        before += all;
    }
}

/* Work is a unit for each item, then one for each byte that it makes. It is cut in as many parts as
   there are warps; this one's part, which may be nothing. */
static __device__ packbits_part find_part(const packbits_job &job, const packbits_cta &c)
{
    const size_t bytes = job.chunks == 1 ? count_chunk(job, 0) : c.tasks[TASKS];
    const size_t all = bytes + job.items, each = ((all - 1) >> job.parts_log2) + 1;
    const size_t part = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    packbits_part p;

    p.unit = part * each < all ? part * each : all;
    p.end_unit = all - p.unit < each ? all : p.unit + each;
    p.number = p.before = 0;
    if (job.chunks > 1 && p.unit < all) {
        find_chunk(job, c, &p);
    }
    if (part == 0 && lane_number() == 0 && bytes > job.a.out_bytes) {
        add_error(job, FP4_PACKBITS_OUT_BYTES);
    }
    return p;
}

/* Where in what a chunk makes its items begin: each segment makes an eighth of its bytes and of what
   it lacks to the next eight. No segment ends before it begins. Returns what all make. */
static __device__ __forceinline__ size_t place_items(const size_t start[MINE],
                                                     const size_t end[MINE], size_t at[MINE])
{
    const size_t first = of_lane(start[0], 0);
    uint32_t sum = 0;

#pragma unroll
    for (uint32_t group = 0; group < MINE; group += 4) { /* sums of 32 lanes fit a byte */
        uint32_t lacks = 0, before = 0;
#pragma unroll
        for (uint32_t j = 0; j < 4 && group + j < MINE; j++) {
            lacks |= (((uint32_t)start[group + j] - (uint32_t)end[group + j]) & 7) << 8 * j;
        }
#pragma unroll
        for (uint32_t lanes = 1; lanes < 32; lanes *= 2) {
            const uint32_t other = fp4_ptx_shuffle_xor_u32(0xffffffffu, lacks, (int)lanes);
            before += lane_number() & lanes ? other : 0;
            lacks += other;
        }
#pragma unroll
        for (uint32_t j = 0; j < 4 && group + j < MINE; j++) {
            at[group + j] = (start[group + j] - first + (sum + (before >> 8 * j & 255))) / 8;
            sum += lacks >> 8 * j & 255;
        }
    }
    return (of_lane(end[MINE - 1], 31) - first + sum) / 8;
}

/* The same where some do. */
static __device__ size_t place_wrong(const size_t start[MINE], const size_t end[MINE],
                                     size_t at[MINE])
{
    size_t sum = 0, all;

#pragma unroll
    for (uint32_t j = 0; j < MINE; j++) {
        at[j] = sum + lanes_before(bytes_between(start[j], end[j]), &all);
        sum += all;
    }
    return sum;
}

/* How many items begin before a byte; with their own units, before a unit. */
static __device__ __forceinline__ uint32_t items_before(const size_t at[MINE], uint32_t items,
                                                        size_t limit, uint32_t units)
{
    uint32_t count = 0;

#pragma unroll
    for (uint32_t j = 0; j < MINE; j++) {
        const uint32_t i = j * 32 + lane_number();
        count += fp4_ptx_ones(
            fp4_ptx_ballot(0xffffffffu, i < items && at[j] + (units ? i : 0) < limit));
    }
    return count;
}

static __device__ __forceinline__ size_t within(size_t x, size_t low, size_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* Where an item begins in x. */
static __device__ __forceinline__ size_t item_start(const packbits_job &job, size_t i)
{
    const size_t at = i < job.a.segments ? i : job.a.segments, n = job.a.n;
    const long long start = job.a.index_bytes == 4 ? ((const int32_t *)job.a.indptr)[at]
                                                   : ((const long long *)job.a.indptr)[at];

    return start < 0 ? 0 : (size_t)start > n ? n : (size_t)start;
}

/* Bytes `from` to `to` of what the chunk's segments make, one a lane: where there is something
   wrong with indptr. */
static __device__ void pack_wrong(const packbits_job &job, size_t number, uint8_t *out,
                                  size_t from, size_t to)
{
    const uint32_t items = items_of(job, number);
    size_t at = 0;

    for (uint32_t i = 0; i < items && at < to; i++) {
        const size_t start = item_start(job, number * CHUNK + i);
        const size_t end = item_start(job, number * CHUNK + i + 1);
        const size_t after = at + bytes_between(start, end), high = after < to ? after : to;
        for (size_t byte = (at < from ? from : at) + lane_number(); byte < high; byte += 32) {
            const size_t x = start + (byte - at) * 8;
            out[byte] = (uint8_t)pack_some(job.a.x + x, 0, end - x < 8 ? (uint32_t)(end - x) : 8,
                                           job.a.order);
        }
        at = after;
    }
}

/* ------------------------------------------------------------------------------ windows */

/* A share of a chunk as windows see it. */
typedef struct packbits_share {
    uint8_t *out;     /* eight bytes aligned */
    size_t x;         /* 32 bytes aligned; wraps where that is in front of x */
    uint32_t low, end; /* its first byte, and behind its last */
    uint32_t end_bit;
    int is_inside; /* of x are also those that only fill the first and the last 32 */
} packbits_share;

/* 64 bits from `bit` on. */
static __device__ __forceinline__ unsigned long long bits_at(const uint32_t *bits, uint32_t bit)
{
    const uint32_t *w = bits + bit / 32, shift = bit % 32;
    const uint32_t low = (uint32_t)((w[0] | (unsigned long long)w[1] << 32) >> shift);
    const uint32_t high = (uint32_t)((w[1] | (unsigned long long)w[2] << 32) >> shift);
    return low | (unsigned long long)high << 32;
}

/* This lane's bytes of x, 32 at a time, from `bit` on. */
static __device__ __forceinline__ void load_window(const packbits_job &job,
                                                   const packbits_share &of, uint32_t bit,
                                                   fp4_u32x8 v[EACH])
{
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t at = bit + (j * 32 + lane_number()) * 32;
        if (at < of.end_bit && (of.is_inside || is_whole(job.a.n, of.x + at))) {
            v[j] = fp4_load_u32x8(job.a.x + of.x + at);
        }
    }
}

/* Their bits. */
static __device__ __forceinline__ void pack_bits(const packbits_job &job, const packbits_share &of,
                                                 uint32_t bit, const fp4_u32x8 v[EACH],
                                                 uint32_t *bits)
{
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t at = bit + (j * 32 + lane_number()) * 32;
        uint32_t four = 0;
        if (at < of.end_bit) {
            four = of.is_inside ? pack_x32(v[j], low_factors(FP4_BITS_LITTLE),
                                           high_factors(FP4_BITS_LITTLE))
                                : pack_piece(job.a.x, job.a.n, of.x + at, v[j]);
        }
        bits[j * 32 + lane_number()] = four;
    }
}

/* The last segment that begins at a byte or before; from a `segment` on that does. */
static __device__ __forceinline__ uint32_t segment_of(const packbits_warp &w, uint32_t segment,
                                                      uint32_t byte)
{
    uint32_t count;

    do {
        count = fp4_ptx_ones(fp4_ptx_ballot(
            0xffffffffu, w.place[segment + 1 + lane_number()].v[0] <= byte));
        segment += count;
    } while (count == 32);
    return segment;
}

/* Bytes `from` to `to`, eight at most; `segment` is of the first, or one of the `count` behind. */
static __device__ __forceinline__ unsigned long long
pack_window(const packbits_warp &w, const uint32_t *bits, uint32_t first_bit, uint32_t segment,
            uint32_t count, uint32_t from, uint32_t to)
{
    for (uint32_t n = count + 1; n > 1;) {
        const uint32_t half = n / 2;
        segment += w.place[segment + half].v[0] <= from ? half : 0;
        n -= half;
    }
    const fp4_u32x2 here = fp4_ptx_load8(&w.place[segment]);
    fp4_u32x2 next = fp4_ptx_load8(&w.place[segment + 1]);
    uint32_t bit = here.v[1] + (from - here.v[0]) * 8, byte = from, left = next.v[1] - bit;
    unsigned long long v = bits_at(bits, bit - first_bit);

    v = left < 64 ? v & ((1ull << left) - 1) : v;
    while (next.v[0] < to) {
        byte = next.v[0];
        bit = next.v[1]; /* where the next one begins that makes something */
        do {
            segment++;
            next = fp4_ptx_load8(&w.place[segment + 1]);
        } while (next.v[0] <= byte);
        left = next.v[1] - bit;
        const unsigned long long more = bits_at(bits, bit - first_bit);
        v |= (left < 64 ? more & ((1ull << left) - 1) : more) << (byte - from) * 8;
    }
    return v;
}

/* What a share makes. A warp calls. What a window is made of is on its way while the one before it
   is made. */
static __device__ void pack_share(const packbits_job &job, packbits_warp &w,
                                  const packbits_share &of)
{
    const int is_big = job.a.order == FP4_BITS_BIG;
    uint32_t segment = segment_of(w, 0, of.low), bit = 0;
    uint32_t *bits = w.bits[0], *other = w.bits[1];
    fp4_u32x8 v[EACH];

    load_window(job, of, 0, v);
    for (uint32_t window = 0; window < of.end; window += WINDOW) {
        const uint32_t after = window + WINDOW, mine = window + lane_number() * 8;
        const uint32_t next = segment_of(w, segment, after < of.end ? after : of.end - 1);
        const fp4_u32x2 place = fp4_ptx_load8(&w.place[next]);
        const uint32_t next_bit = (place.v[1] + (after - place.v[0]) * 8) & ~31u;

        pack_bits(job, of, bit, v, bits);
        if (after < of.end) {
            load_window(job, of, next_bit, v);
        }
        fp4_ptx_warp_barrier();
        if (mine < of.end && mine + 8 > of.low && lane_number() < WINDOW / 8) {
            const uint32_t low = mine < of.low ? of.low : mine;
            const uint32_t high = of.end < mine + 8 ? of.end : mine + 8;
            const unsigned long long eight =
                pack_window(w, bits, bit, segment, next - segment, low, high) << (low - mine) * 8;
            const uint32_t a = is_big ? turned((uint32_t)eight) : (uint32_t)eight;
            const uint32_t b = is_big ? turned((uint32_t)(eight >> 32)) : (uint32_t)(eight >> 32);
            if (high - low == 8) {
                fp4_ptx_store8(of.out + mine, a, b);
            } else {
                const uint32_t first = low - mine, last = high - mine;
                store_some(of.out + mine, a, first, last);
                store_some(of.out + mine + 4, b, first < 4 ? 0 : first - 4,
                           last < 4 ? 0 : last - 4);
            }
        }
        uint32_t *swap = bits;
        bits = other;
        other = swap;
        segment = next;
        bit = next_bit;
    }
}

/* Bytes `from` to `to` of what a chunk's segments make, `out` being where its first one belongs. */
static __device__ void pack_chunk(const packbits_job &job, packbits_warp &w, size_t number,
                                  const size_t start[MINE], const size_t at[MINE], size_t end,
                                  size_t bytes, uint8_t *out, size_t from, size_t to)
{
    size_t first_x = of_lane(start[0], 0), end_x = end;
    packbits_share of;

    fp4_ptx_warp_barrier(); /* nobody needs what was there */
    if (from != 0 || to != bytes) {
        const uint32_t items = items_of(job, number);
        const uint32_t first = items_before(at, items, from + 1, 0) - 1;
        const uint32_t last = items_before(at, items, to, 0) - 1;
#pragma unroll
        for (uint32_t j = 0; j < MINE; j++) {
            const uint32_t i = j * 32 + lane_number();
            if (i == first) {
                w.cut[0] = start[j] + (from - at[j]) * 8;
            }
            if (i == last) {
                const size_t x = start[j] + (to - at[j]) * 8;
                const size_t next = item_start(job, number * CHUNK + i + 1);
                w.cut[1] = x < next ? x : next;
            }
        }
        fp4_ptx_warp_barrier();
        first_x = w.cut[0];
        end_x = w.cut[1];
    }
    const uint32_t x_skew = (uint32_t)(((size_t)job.a.x + first_x) % 32);

    of.low = (uint32_t)((size_t)(out + from) % 8);
    of.out = out + from - of.low;
    of.x = first_x - x_skew;
    of.end = of.low + (uint32_t)(to - from);
    of.end_bit = x_skew + (uint32_t)(end_x - first_x);
    of.is_inside = of.x <= job.a.n && job.a.n - of.x >= (size_t)(of.end_bit + 31) / 32 * 32;
#pragma unroll
    for (uint32_t j = 0; j < MINE; j++) {
        const fp4_u32x2 place = {
            {of.low + (uint32_t)(within(at[j], from, to) - from),
             x_skew + (uint32_t)(within(start[j], first_x, end_x) - first_x)}};
        w.place[j * 32 + lane_number()] = place;
    }
    const fp4_u32x2 behind = {{of.end, of.end_bit}};
    w.place[CHUNK + lane_number()] = behind;
    fp4_ptx_warp_barrier();
    pack_share(job, w, of);
}

static __device__ void set_new_indptr(const packbits_job &job, size_t i, size_t at)
{
    if (job.a.index_bytes == 4) {
        ((int32_t *)job.a.new_indptr)[i] = (int32_t)at;
    } else {
        ((long long *)job.a.new_indptr)[i] = (long long)at;
    }
}

/* What the warp's part has of a chunk: its entries of new_indptr, and its bytes, no more of them
   than out has room for. Returns how many bytes the chunk makes. */
static __device__ size_t make_chunk(const packbits_job &job, packbits_warp &w,
                                    const packbits_part &p)
{
    const uint32_t items = items_of(job, p.number);
    const size_t units = p.before + p.number * CHUNK; /* in front of it */
    const size_t low = p.unit - units, high = p.end_unit - units;
    size_t start[MINE], end[MINE], at[MINE], from = 0, to, bytes;
    int is_bad = 0, is_decreasing = 0;

    load_starts(job, p.number, 0, start, &is_bad);
    load_starts(job, p.number, 1, end, &is_bad);
#pragma unroll
    for (uint32_t j = 0; j < MINE; j++) {
        is_decreasing |= end[j] < start[j];
    }
    if (is_bad || is_decreasing) {
        add_error(job, FP4_PACKBITS_INDPTR);
    }
    is_decreasing = fp4_ptx_any(0xffffffffu, is_decreasing);
    to = bytes = is_decreasing ? place_wrong(start, end, at) : place_items(start, end, at);
    if (low != 0) {
        from = low - items_before(at, items, low, 1);
    }
    if (high < bytes + items) {
        to = high - items_before(at, items, high, 1);
    }
    if (job.a.new_indptr != NULL) {
#pragma unroll
        for (uint32_t j = 0; j < MINE; j++) {
            const uint32_t i = j * 32 + lane_number();
            if (i < items && at[j] + i >= low && at[j] + i < high) {
                set_new_indptr(job, p.number * CHUNK + i, p.before + at[j]);
            }
        }
    }
    const size_t room = job.a.out_bytes > p.before ? job.a.out_bytes - p.before : 0;
    to = to < room ? to : room;
    /* 32-bit coordinates are good for 2^28 bytes of bits in one warp's part: more than that takes
       1 TiB of x, or segments that overlap elsewhere */
    if (from < to && (is_decreasing || to - from > 1u << 28)) {
        pack_wrong(job, p.number, job.a.out + p.before, from, to);
    } else if (from < to) {
        pack_chunk(job, w, p.number, start, at, of_lane(end[MINE - 1], 31), bytes,
                   job.a.out + p.before, from, to);
    }
    return bytes;
}

static __global__ void __launch_bounds__(THREADS, RESIDENT) pack_segments(const packbits_job job)
{
    __shared__ packbits_cta c;
    packbits_warp &w = c.warps[threadIdx.x / 32];

    if (lane_number() < 4) {
        w.bits[lane_number() / 2][EACH * 32 + lane_number() % 2] = 0;
    }
    fp4_pdl_wait();
    fp4_pdl_trigger();
    if (job.chunks > 1) {
        count_tasks(job, c);
        read_tasks(job, c);
    }
    packbits_part p = find_part(job, c);
    while (p.unit < p.end_unit) {
        p.before += make_chunk(job, w, p);
        p.number++;
        p.unit = p.before + p.number * CHUNK;
    }
}

/* ------------------------------------------------------------------------------ launchers */

static cudaError_t launch(const void *kernel, size_t ctas, void **arguments, int pdl,
                          cudaStream_t stream)
{
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};

    if (ctas > 0x7fffffffu) {
        return cudaErrorInvalidValue;
    }
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3((unsigned)ctas);
    config.blockDim = dim3(THREADS);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = pdl ? 1 : 0;
    return cudaLaunchKernelExC(&config, kernel, arguments);
}

/** Bytes of the workspace of so many segments; 0 for a few. */
static size_t segment_workspace_bytes(size_t segments)
{
    const size_t chunks = segments / CHUNK + 1;
    return chunks == 1 ? 0 : (PLACES + 2 * (TASKS + chunks)) * sizeof(uint32_t);
}

static cudaError_t launch_segments(const segment_packbits_args *a, int pdl, cudaStream_t stream)
{
    packbits_job job = {};
    void *arguments[] = {&job};
    size_t ctas, log2 = 0;

    job.a = *a;
    job.items = a->segments + 1;
    job.chunks = a->segments / CHUNK + 1;
    ctas = (a->n / 8 + a->segments) / PART + a->segments / PART + 1; /* the most that it can be */
    while ((size_t)1 << log2 < ctas && 1 << log2 < ENOUGH) {
        log2++;
    }
    ctas = (size_t)1 << log2;
    job.parts_log2 = (uint32_t)log2 + WARPS_LOG2;
    job.each = (job.chunks - 1) / (ctas < TASKS ? ctas : TASKS) + 1;
    job.tasks = (uint32_t)((job.chunks - 1) / job.each + 1);
    return launch((const void *)pack_segments, ctas, arguments, pdl, stream);
}

/**
 * Packs on `stream`: one launch, no allocation, no synchronization, nothing read on the host, so
 * that a CUDA graph can capture it.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory. Only with code compiled for sm_90 or later.
 * errors   cudaErrorInvalidValue for an unknown order or a null pointer: nothing launched, nothing
 *          written. n = 0 is no error.
 */
static cudaError_t packbits(const packbits_args *args, int pdl, cudaStream_t stream)
{
    packbits_args a = *args;
    void *arguments[] = {&a};

    if (a.n == 0) {
        return cudaSuccess;
    }
    if (a.out == NULL || a.x == NULL || (unsigned)a.order > 1) {
        return cudaErrorInvalidValue;
    }
    if ((size_t)a.x % 16 == 0 && (size_t)a.out % 4 == 0) {
        return launch((const void *)pack_run, a.n / 32 / (THREADS * EACH) + 1, arguments, pdl,
                      stream);
    }
    return launch((const void *)pack_shifted, (a.n + 24) / 32 / (THREADS * EACH) + 1, arguments,
                  pdl, stream);
}

/** Likewise segments; also for a bad alignment of words, or index_bytes that are neither 4 nor 8.
    Without segments new_indptr still has an end, which is written. */
static cudaError_t segment_packbits(const segment_packbits_args *a, int pdl, cudaStream_t stream)
{
    const size_t index = a->index_bytes;

    if (a->segments == 0 && a->new_indptr == NULL) {
        return cudaSuccess;
    }
    if ((index != 4 && index != 8) || (unsigned)a->order > 1 || a->indptr == NULL ||
        (a->x == NULL && a->n != 0) || (a->out == NULL && a->out_bytes != 0) ||
        (size_t)a->indptr % index != 0 || (size_t)a->new_indptr % index != 0 ||
        (size_t)a->workspace % 8 != 0 || (size_t)a->errors % 4 != 0 ||
        (a->workspace == NULL && segment_workspace_bytes(a->segments) != 0) ||
        a->segments / CHUNK >= 0xffffff00u - ENOUGH) {
        return cudaErrorInvalidValue;
    }
    return launch_segments(a, pdl, stream);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/packbits.h>

#include <stdio.h>
#include <stdlib.h>

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "packbits: %s\n", cudaGetErrorString(error));
        exit(1);
    }
}

static uint32_t random_below(uint32_t n)
{
    static uint32_t state = 1;

    state = state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)state * n >> 32);
}

/* Half of them 0. */
static uint8_t *random_bytes(size_t n)
{
    uint8_t *x = (uint8_t *)malloc(n + 1);

    for (size_t i = 0; i < n; i++) {
        x[i] = (uint8_t)(random_below(2) * (1 + random_below(255)));
    }
    return x;
}

static void *device(const void *host, size_t bytes)
{
    void *p;

    must(cudaMalloc(&p, bytes + 1));
    must(host != NULL ? cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice)
                      : cudaMemset(p, 0x7f, bytes));
    return p;
}

static int same(const void *got, const void *expected, size_t bytes)
{
    void *copy = malloc(bytes);
    int is_same;

    must(cudaMemcpy(copy, got, bytes, cudaMemcpyDeviceToHost));
    is_same = memcmp(copy, expected, bytes) == 0;
    free(copy);
    return is_same;
}

/* Median of 20 launches of one or the other. */
static void measure(const packbits_args *a, const segment_packbits_args *s, double bytes)
{
    cudaEvent_t start, stop;
    float ms[20];

    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        must(a != NULL ? packbits(a, 0, 0) : segment_packbits(s, 0, 0));
        must(cudaEventRecord(stop, 0));
        must(cudaEventSynchronize(stop));
        must(cudaEventElapsedTime(&ms[i], start, stop));
        for (int j = i; j > 0 && ms[j] < ms[j - 1]; j--) {
            const float swap = ms[j];
            ms[j] = ms[j - 1];
            ms[j - 1] = swap;
        }
    }
    printf("  %.1f us, %.0f GB/s\n", 1e3 * ms[10], 1e-6 * bytes / ms[10]);
}

/* `shift` bytes off alignment. */
static int check(size_t n, size_t shift, fp4_bit_order order, int is_timed)
{
    const size_t bytes = fp4_packed_bytes(n);
    uint8_t *x = random_bytes(n + shift), *expected = (uint8_t *)malloc(bytes + 1);
    uint8_t *on_device = (uint8_t *)device(x, n + shift);
    packbits_args a = {};
    int is_same;

    a.x = on_device + shift;
    a.n = n;
    a.out = (uint8_t *)device(NULL, bytes);
    a.order = order;
    must(packbits(&a, 0, 0));
    is_same = fp4_ref_packbits(x + shift, n, order, expected, bytes) == FP4_OK &&
              same(a.out, expected, bytes);
    printf("%zu bytes, %zu off, %s: %s\n", n, shift, order == FP4_BITS_BIG ? "big" : "little",
           is_same ? "same bytes" : "differ");
    if (is_same && is_timed) {
        measure(&a, NULL, (double)(n + bytes));
    }
    cudaFree(on_device);
    cudaFree(a.out);
    free(x);
    free(expected);
    return is_same;
}

/* Segments of random lengths below twice `length`. */
static int check_segments(size_t segments, uint32_t length, size_t index_bytes, fp4_bit_order order,
                          int is_timed)
{
    const size_t indices = (segments + 1) * index_bytes;
    const size_t workspace = segment_workspace_bytes(segments);
    void *indptr = malloc(indices), *new_indptr = malloc(indices);
    size_t n = 0, bytes = 0;
    uint8_t *x, *expected;
    segment_packbits_args a = {};
    int is_same;

    for (size_t s = 0; s <= segments; s++) {
        const uint32_t next = segments == 1 ? length : random_below(2 * length);
        fp4_ref_set_index_(indptr, index_bytes, s, n);
        n += s < segments ? next : 0;
        bytes += s < segments ? fp4_packed_bytes(next) : 0;
    }
    x = random_bytes(n);
    expected = (uint8_t *)malloc(bytes + 1);
    a.x = (const uint8_t *)device(x, n);
    a.n = n;
    a.out = (uint8_t *)device(NULL, bytes);
    a.out_bytes = bytes;
    a.indptr = device(indptr, indices);
    a.new_indptr = device(NULL, indices);
    a.index_bytes = index_bytes;
    a.segments = segments;
    a.order = order;
    if (workspace != 0) {
        a.workspace = (uint32_t *)device(NULL, workspace);
        must(cudaMemset(a.workspace, 0, workspace));
    }
    must(segment_packbits(&a, 0, 0));
    is_same = fp4_ref_segment_packbits(x, n, indptr, index_bytes, segments, order, expected, bytes,
                                       new_indptr) == FP4_OK &&
              same(a.out, expected, bytes) && same(a.new_indptr, new_indptr, indices);
    printf("%zu segments, %zu bytes, int%zu, %s: %s\n", segments, n, 8 * index_bytes,
           order == FP4_BITS_BIG ? "big" : "little", is_same ? "same bytes" : "differ");
    if (is_same && is_timed) {
        measure(NULL, &a, (double)(n + bytes + 2 * indices));
    }
    cudaFree((void *)a.x);
    cudaFree(a.out);
    cudaFree((void *)a.indptr);
    cudaFree(a.new_indptr);
    cudaFree(a.workspace);
    free(x);
    free(expected);
    free(indptr);
    free(new_indptr);
    return is_same;
}

int main(void)
{
    return !(check(1, 0, FP4_BITS_BIG, 0) && check(999, 0, FP4_BITS_LITTLE, 0) &&
             check(100003, 3, FP4_BITS_BIG, 0) && check_segments(7, 20, 4, FP4_BITS_BIG, 0) &&
             check_segments(5000, 30, 8, FP4_BITS_LITTLE, 0) &&
             check(1u << 30, 0, FP4_BITS_BIG, 1) && check(1u << 30, 3, FP4_BITS_LITTLE, 1) &&
             check_segments(1, 1u << 30, 4, FP4_BITS_LITTLE, 1) &&
             check_segments(100, 10000000, 4, FP4_BITS_LITTLE, 1) &&
             check_segments(1000000, 1000, 4, FP4_BITS_BIG, 1) &&
             check_segments(8000000, 100, 8, FP4_BITS_BIG, 1) &&
             check_segments(50000000, 4, 8, FP4_BITS_LITTLE, 1));
}
#endif
