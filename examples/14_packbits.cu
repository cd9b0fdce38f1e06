/*
 * 14_packbits.cu - bytes to bits, 1 where a byte is not 0: of a whole buffer, or of each segment of
 * it on its own, each with whole bytes, and where these begin.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/14_packbits.cu -o packbits && ./packbits
 *
 * How it works: the sum of four bytes that are 0 or 128, times powers of two, is four bits in any
 * order: one instruction (dp4a). A buffer is packed 32 bytes at a time.
 *
 * Of segments it is not known before the launch where their bits go: one must know how many bytes
 * all those in front make. So CTAs first count: who comes takes the next task, some chunks of
 * segments, until there is none left. Who counts the last one adds up, and tells each CTA where its
 * work begins, in words of its own, since hundreds of CTAs that look at the same few lines of the
 * L2 cache are slow. A CTA waits only for what others have begun, so that not all of them need be
 * on the GPU together. Work, segments and bytes of bits alike, is cut in even parts, one for each
 * warp: a part may be thousands of empty segments or the middle of one.
 *
 * A warp then needs no other. It reads indptr a chunk at a time, the next one while it packs this
 * one. Its lanes make the bytes of x bits, whatever segments they are of, a window at a time, and
 * take from these in shared memory what makes eight bytes each; the bytes of the next window are on
 * their way meanwhile, across chunks too.
 */
#include <fp4/device/load.cuh>
#include <fp4/device/store.cuh>
#include <fp4/packbits.h>

/* Sizes at which the launcher changes its mind, and which are a matter of speed. */
#if !defined(PART)
#define PART 4096 /* segments and bytes of bits that are worth a CTA */
#endif
#if !defined(CHUNK_ITEMS)
#define CHUNK_ITEMS 128 /* a multiple of 32, 128 at most */
#endif

enum {
    THREADS = 256,
    WARPS = THREADS / 32,
    EACH = 2,             /* pieces of 32 bytes of x a thread */
    CHUNK = CHUNK_ITEMS,  /* segments whose places a warp knows at a time */
    MINE = CHUNK / 32,    /* of which a lane has so many */
    BITS = EACH * 32 + 4, /* words of a window's bits: two more on either side may be read */
    WINDOW = 248, /* bytes of bits that a warp makes at a time, eight a lane: of no more bytes
                             of x, wherever they begin, than its lanes load at a time */
    TASKS = 1024, /* the most in which counting is cut, and the most CTAs */
    RESIDENT = 4  /* CTAs of a multiprocessor: so few that nothing spills */
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
 * workspace  segment_workspace_bytes(segments) bytes, 8-byte aligned; may be null if that is 0. All
 *          0 before the first call, which might not end otherwise; each call leaves it fit for the
 *          next. Calls that may overlap need one of their own each.
 * range    indptr is on the device, where nobody has checked it. An entry below 0 or behind n is
 *          taken as 0 or n, a segment whose end lies before its start as empty; bytes that out has
 *          no room for are not written, though new_indptr says where they would be (modulo 2^32
 *          where it is of 4 bytes).
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
    size_t chunks;  /* CHUNK items each, but the last */
    size_t each;    /* chunks of a task */
    uint32_t tasks; /* no more than CTAs */
    uint32_t part;  /* 2^32 by the number of warps, rounded up */
} packbits_job;

/* The workspace: words of 32 bits, what has been given away and how many tasks have come back; then
   words of 64 bits, for each CTA three that it is told, for each task and for each chunk how many
   bytes it makes. What CTAs are told has this bit. Behind a launch all is 0 up to the tasks. */
enum { GIVEN, COUNTED, WORDS = 4, TOLD = 3 };
static const size_t IS_TOLD = (size_t)1 << 63;

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

#pragma unroll 1
    for (uint32_t i = from; i < to; i++) {
        bits |= (uint32_t)(x[i] != 0) << (order == FP4_BITS_BIG ? i ^ 7 : i);
    }
    return bits;
}

/* The bits of each byte in the other order. */
static __device__ __forceinline__ uint32_t turned(uint32_t v)
{
    return fp4_ptx_bytes(fp4_ptx_reversed(v), 0, 0x0123);
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

/* What the lanes of a warp know: of the warp's part; and of its share, which is what that has of a
   chunk. Coordinates of a share are bytes from the aligned eight on in which it begins, and bits
   from the aligned 32 of x on in which its first one is. */
typedef struct packbits_warp {
    size_t unit, end_unit; /* what there is of the part yet */
    size_t number, before; /* of the chunk in which that begins, and the bytes in front of that */
    size_t x, cut[2];   /* where in x the coordinates begin, which wraps in front of x; the share */
    size_t loaded_x;    /* where the bytes of x begin that the lanes have, */
    uint32_t is_loaded; /* if they have some */
    uint32_t low, end_bit;         /* of the share: the first byte, and behind the last bit */
    uint32_t first, span;          /* of its 32 bytes of x, these are whole */
    uint32_t room;                 /* and these if also those behind it count */
    fp4_u32x2 start[2][CHUNK + 1]; /* where items begin in x, of this chunk and the next */
    fp4_u32x2 place[CHUNK + 32];   /* where segments begin, cut where the share is: byte and bit */
    uint32_t bits[2 * BITS];       /* of this window and the next */
} packbits_warp;

typedef struct packbits_cta {
    union {                   /* first one, then the other */
        size_t before[TASKS]; /* how many bytes those in front of a task make, or of a chunk */
        packbits_warp warps[WARPS];
    };
    size_t sums[WARPS];
    size_t bytes, first_before; /* what all chunks make, and those in front of */
    size_t first;               /* the first chunk of the task in which the CTA's work begins */
    uint32_t task, is_last;
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

/* The sum of what the lanes before this one have; *all: of what all have. A warp calls. */
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

/* The same of threads. All of them call, with barriers. */
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

/* What indptr says of item `first` of a chunk and of each 32nd behind it; behind the end, of that.
   */
static __device__ __forceinline__ void load_starts(const packbits_job &job, size_t number,
                                                   uint32_t first, long long start[MINE])
{
    const size_t left = job.a.segments - number * CHUNK;
    const uint32_t end = left < CHUNK ? (uint32_t)left : CHUNK;

    if (job.a.index_bytes == 4) {
        const int32_t *p = (const int32_t *)job.a.indptr + number * CHUNK;
#pragma unroll
        for (uint32_t j = 0; j < MINE; j++) {
            const uint32_t i = first + j * 32;
            start[j] = p[i < end ? i : end];
        }
    } else {
        const long long *p = (const long long *)job.a.indptr + number * CHUNK;
#pragma unroll
        for (uint32_t j = 0; j < MINE; j++) {
            const uint32_t i = first + j * 32;
            start[j] = p[i < end ? i : end];
        }
    }
}

/* What that means: where the item begins in x. */
static __device__ __forceinline__ size_t start_of(size_t n, long long start, int *is_bad)
{
    if ((size_t)start > n) {
        *is_bad = 1;
        return start < 0 ? 0 : n;
    }
    return (size_t)start;
}

static __device__ __forceinline__ size_t bytes_between(size_t start, size_t end)
{
    return end > start ? (end - start + 7) / 8 : 0;
}

/* How many bytes this chunk makes, and the next if count is 2. A warp calls. */
static __device__ __forceinline__ void count_chunks(const packbits_job &job, size_t number,
                                                    uint32_t count, size_t bytes[2])
{
    long long start[2][MINE], end[2][MINE];
    int is_bad = 0; /* who packs the chunk says so */

#pragma unroll
    for (uint32_t k = 0; k < 2; k++) { /* all of them at a time */
        const size_t chunk = number + (k < count ? k : 0);
        load_starts(job, chunk, lane_number(), start[k]);
        load_starts(job, chunk, lane_number() + 1, end[k]);
    }
#pragma unroll
    for (uint32_t k = 0; k < 2; k++) {
        bytes[k] = 0;
#pragma unroll
        for (uint32_t j = 0; j < MINE; j++) {
            bytes[k] += bytes_between(start_of(job.a.n, start[k][j], &is_bad),
                                      start_of(job.a.n, end[k][j], &is_bad));
        }
    }
    for (int lanes = 1; lanes < 32; lanes *= 2) {
        bytes[0] += lane_xor(bytes[0], lanes);
        bytes[1] += lane_xor(bytes[1], lanes);
    }
}

/* What others read in the same launch. */
static __device__ __forceinline__ size_t *told_words(const packbits_job &job, uint32_t cta)
{
    return (size_t *)(job.a.workspace + WORDS) + TOLD * cta;
}

static __device__ __forceinline__ size_t *task_words(const packbits_job &job)
{
    return told_words(job, TASKS);
}

static __device__ __forceinline__ size_t *chunk_words(const packbits_job &job)
{
    return task_words(job) + TASKS;
}

/* Counts what each chunk of a task makes; c.is_last: no task is left to be counted. All threads
   call. */
static __device__ void count_task(const packbits_job &job, packbits_cta &c, uint32_t task)
{
    const size_t first = task * job.each;
    const size_t end = first + job.each < job.chunks ? first + job.each : job.chunks;
    size_t sum = 0;

    for (size_t number = first + threadIdx.x / 32 * 2; number < end; number += WARPS * 2) {
        const uint32_t count = end - number < 2 ? 1 : 2;
        size_t bytes[2];
        count_chunks(job, number, count, bytes);
        if (lane_number() < count) {
            fp4_ptx_store_relaxed_u64(chunk_words(job) + number + lane_number(),
                                      lane_number() == 0 ? bytes[0] : bytes[1]);
        }
        sum += bytes[0] + (count == 2 ? bytes[1] : 0);
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
        fp4_ptx_store_relaxed_u64(task_words(job) + task, sum);
        fp4_ptx_fence();
        c.is_last = fp4_ptx_atomic_inc(&job.a.workspace[COUNTED], job.tasks - 1) == job.tasks - 1;
        fp4_ptx_fence();
    }
    fp4_ptx_barrier();
}

/* Work is a unit for each item, then one for each byte that it makes. It is cut in as many parts as
   there are warps: so many units, an even part or a little more. */
static __device__ __forceinline__ size_t part_units(const packbits_job &job, size_t bytes)
{
    const size_t all = bytes + job.items;
    return (all >> 32) * job.part + ((all & 0xffffffffu) * job.part >> 32) + 1;
}

/* Tells each CTA where its work begins. The CTA calls that has counted the last task. */
static __device__ void tell_ctas(const packbits_job &job, packbits_cta &c)
{
    enum { OF_THREAD = TASKS / THREADS };
    const uint32_t first = threadIdx.x * OF_THREAD;
    size_t bytes[OF_THREAD], sum = 0, at, all;

#pragma unroll
    for (uint32_t j = 0; j < OF_THREAD; j++) {
        const uint32_t task = first + j;
        bytes[j] = task < job.tasks ? fp4_ptx_load_relaxed_u64(&task_words(job)[task]) : 0;
        sum += bytes[j];
    }
    at = threads_before(sum, &all, c.sums);
#pragma unroll
    for (uint32_t j = 0; j < OF_THREAD; j++) {
        c.before[first + j] = at;
        at += bytes[j];
    }
    fp4_ptx_fence(); /* who is told sees what chunks make */
    fp4_ptx_barrier();
    const size_t units = part_units(job, all) * WARPS;
    for (uint32_t cta = threadIdx.x; cta < gridDim.x; cta += THREADS) {
        uint32_t low = 0, high = job.tasks;
        while (high - low > 1) {
            const uint32_t middle = (low + high) / 2;
            if (c.before[middle] + middle * job.each * CHUNK <= cta * units) {
                low = middle;
            } else {
                high = middle;
            }
        }
        fp4_ptx_store_relaxed_u64(&told_words(job, cta)[0], IS_TOLD | all);
        fp4_ptx_store_relaxed_u64(&told_words(job, cta)[1], IS_TOLD | c.before[low]);
        fp4_ptx_store_relaxed_u64(&told_words(job, cta)[2], IS_TOLD | low);
    }
}

/* Waits until it is told, and leaves the words as they were. One thread calls. */
static __device__ void be_told(const packbits_job &job, packbits_cta &c)
{
    size_t *words = told_words(job, blockIdx.x), told[TOLD], all;

    do {
        all = IS_TOLD;
#pragma unroll
        for (uint32_t i = 0; i < TOLD; i++) {
            told[i] = fp4_ptx_load_relaxed_u64(&words[i]);
            all &= told[i];
        }
    } while (all == 0);
    fp4_ptx_fence();
    c.bytes = told[0] & ~IS_TOLD;
    c.first_before = told[1] & ~IS_TOLD;
    c.first = (told[2] & ~IS_TOLD) * job.each;
#pragma unroll
    for (uint32_t i = 0; i < TOLD; i++) {
        fp4_ptx_store_relaxed_u64(&words[i], 0);
    }
}

/* Counts tasks, whoever comes first the next one, until there is none left; then waits for others.
   All threads call. */
static __device__ void count_tasks(const packbits_job &job, packbits_cta &c)
{
    for (;;) {
        if (threadIdx.x == 0) { /* each CTA is once given none: behind the last, 0 comes again */
            const uint32_t last = job.tasks + gridDim.x - 1;
            c.task = fp4_ptx_atomic_inc(&job.a.workspace[GIVEN], last);
            if (c.task >= job.tasks) {
                be_told(job, c);
            }
        }
        fp4_ptx_barrier();
        const uint32_t task = c.task;
        if (task >= job.tasks) {
            return;
        }
        count_task(job, c, task);
        if (c.is_last) {
            tell_ctas(job, c);
        }
        fp4_ptx_barrier();
    }
}

/* The chunk in which a unit lies, each warp for its own, none of which is behind last_unit. All
   threads call. */
static __device__ size_t find_chunk(const packbits_job &job, packbits_cta &c, size_t unit,
                                    size_t last_unit, size_t *bytes_before)
{
    size_t before = c.first_before, found = 0;

    for (size_t group = c.first;; group += THREADS) {
        const size_t number = group + threadIdx.x;
        size_t all;
        const size_t bytes =
            number < job.chunks ? fp4_ptx_load_relaxed_u64(&chunk_words(job)[number]) : 0;
        c.before[threadIdx.x] = before + threads_before(bytes, &all, c.sums);
        fp4_ptx_barrier();
        if (unit >= before + group * CHUNK) { /* here, or in a group behind */
            uint32_t low = 0;
#pragma unroll
            for (uint32_t step = THREADS / 2; step > 0; step /= 2) {
                const size_t chunk = group + low + step;
                if (chunk < job.chunks && c.before[low + step] + chunk * CHUNK <= unit) {
                    low += step;
                }
            }
            found = group + low;
            *bytes_before = c.before[low];
        }
        before += all;
        fp4_ptx_barrier();
        if (last_unit < before + (group + THREADS) * CHUNK || group + THREADS >= job.chunks) {
            return found;
        }
    }
}

/* This warp's part, which may be nothing. All threads call. */
static __device__ void find_part(const packbits_job &job, packbits_cta &c, packbits_warp &w)
{
    size_t counts[2], number = 0, before = 0;

    if (job.chunks == 1) {
        count_chunks(job, 0, 1, counts);
    }
    const size_t bytes = job.chunks == 1 ? counts[0] : c.bytes;
    const size_t all = bytes + job.items, each = part_units(job, bytes);
    const size_t part = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    const size_t last = ((size_t)blockIdx.x * WARPS + WARPS - 1) * each;
    const size_t unit = part * each < all ? part * each : all;

    if (job.chunks > 1) {
        number = find_chunk(job, c, unit, last < all ? last : all - 1, &before);
    }
    if (lane_number() < 8) { /* the words on either side */
        const uint32_t i = lane_number() % 4;
        w.bits[lane_number() / 4 * BITS + (i < 2 ? i : EACH * 32 + i)] = 0;
    }
    if (lane_number() == 0) {
        w.unit = unit;
        w.end_unit = all - unit < each ? all : unit + each;
        w.number = number;
        w.before = before;
        w.is_loaded = 0;
        if (part == 0 && bytes > job.a.out_bytes) {
            add_error(job, FP4_PACKBITS_OUT_BYTES);
        }
    }
    fp4_ptx_warp_barrier();
}

/* A chunk of which no segment ends before it begins. What those in front of an item make is an
   eighth of what they have and of what each of them lacks to a multiple of eight. */
typedef struct packbits_items {
    const fp4_u32x2 *start;   /* where they begin in x */
    size_t first, end, bytes; /* where the first one does and the last one ends; all make */
    uint32_t before, rows; /* lacks, eight bits for each 32 items: of those in front of this lane's,
                              of all */
} packbits_items;

static __device__ __forceinline__ size_t item_start(const packbits_items &of, uint32_t i)
{
    const fp4_u32x2 words = fp4_ptx_load8(&of.start[i]);
    return words.v[0] | (size_t)words.v[1] << 32;
}

/* What those in front of this lane's item of the j-th 32 lack. For each j in turn; *rows: 0 at
   first. */
static __device__ __forceinline__ uint32_t item_lacks(const packbits_items &of, uint32_t j,
                                                      uint32_t *rows)
{
    const uint32_t lacks = *rows + (of.before >> 8 * j & 255);

    *rows += of.rows >> 8 * j & 255;
    return lacks;
}

/* Where it begins in what the chunk makes. */
static __device__ __forceinline__ size_t item_at(const packbits_items &of, size_t start, uint32_t j,
                                                 uint32_t *rows)
{
    return (start - of.first + item_lacks(of, j, rows)) / 8;
}

/* Lets come what indptr says of a chunk. A warp calls. */
static __device__ __forceinline__ void ask_for_items(const packbits_job &job, packbits_warp &w,
                                                     size_t number)
{
    const size_t left = job.a.segments - number * CHUNK;
    const uint32_t end = left < CHUNK ? (uint32_t)left : CHUNK, lane = lane_number();
    fp4_u32x2 *start = w.start[number % 2];

    if (job.a.index_bytes == 8) {
        const long long *p = (const long long *)job.a.indptr + number * CHUNK;
#pragma unroll
        for (uint32_t i = 0; i < CHUNK; i += 32) {
            fp4_ptx_copy8_async(&start[i + lane], p + (i + lane < end ? i + lane : end));
        }
        if (lane == 0) {
            fp4_ptx_copy8_async(&start[CHUNK], p + end);
        }
    } else {
        const int32_t *p = (const int32_t *)job.a.indptr + number * CHUNK;
#pragma unroll
        for (uint32_t i = 0; i < CHUNK; i += 32) {
            fp4_ptx_copy4_async(&start[i + lane], p + (i + lane < end ? i + lane : end));
        }
        if (lane == 0) {
            fp4_ptx_copy4_async(&start[CHUNK], p + end);
        }
    }
}

/* Makes of what indptr says where items begin. Returns whether something is wrong with this lane's.
   A warp calls. */
static __device__ int read_starts(const packbits_job &job, fp4_u32x2 *start)
{
    int is_bad = 0;

#pragma unroll 1
    for (uint32_t i = lane_number(); i < CHUNK + 1; i += 32) {
        long long from = (int32_t)start[i].v[0];
        if (job.a.index_bytes == 8) {
            from = (long long)((uint32_t)from | (size_t)start[i].v[1] << 32);
        }
        const size_t at = start_of(job.a.n, from, &is_bad);
        start[i].v[0] = (uint32_t)at;
        start[i].v[1] = (uint32_t)(at >> 32);
    }
    fp4_ptx_warp_barrier();
    return is_bad;
}

/* What has come of this chunk. Returns whether a segment ends before it begins; then all but
   of->start is of no use. A warp calls. */
static __device__ __forceinline__ int read_items(const packbits_job &job, packbits_warp &w,
                                                 packbits_items *of)
{
    FP4_STATIC_ASSERT(MINE <= 4, "eight bits for each 32 items");
    const uint32_t lane = lane_number();
    uint32_t lacks = 0, before = 0;
    int is_bad = 0, is_decreasing = 0;

    of->start = w.start[w.number % 2];
    fp4_ptx_copies_wait();
    fp4_ptx_warp_barrier();
    if (job.a.index_bytes == 4) {
        is_bad = read_starts(job, w.start[w.number % 2]);
    }
    of->end = item_start(*of, CHUNK);
    int is_outside = of->end > job.a.n;
#pragma unroll
    for (uint32_t j = 0; j < MINE; j++) {
        const size_t from = item_start(*of, j * 32 + lane), to = item_start(*of, j * 32 + lane + 1);
        is_outside |= from > job.a.n;
        is_decreasing |= to < from;
        lacks |= (((uint32_t)from - (uint32_t)to) & 7) << 8 * j;
    }
    if (fp4_ptx_any(0xffffffffu, is_outside)) { /* once more */
        fp4_ptx_warp_barrier();
        is_bad |= read_starts(job, w.start[w.number % 2]);
        is_decreasing = 0;
        lacks = 0;
#pragma unroll 1
        for (uint32_t j = 0; j < MINE; j++) {
            const size_t from = item_start(*of, j * 32 + lane);
            const size_t to = item_start(*of, j * 32 + lane + 1);
            is_decreasing |= to < from;
            lacks |= (((uint32_t)from - (uint32_t)to) & 7) << 8 * j;
        }
        of->end = item_start(*of, CHUNK);
    }
    if (is_bad || is_decreasing) {
        add_error(job, FP4_PACKBITS_INDPTR);
    }
#pragma unroll
    for (uint32_t lanes = 1; lanes < 32; lanes *= 2) { /* sums of 32 lanes fit eight bits */
        const uint32_t other = fp4_ptx_shuffle_xor_u32(0xffffffffu, lacks, (int)lanes);
        before += lane & lanes ? other : 0;
        lacks += other;
    }
    of->before = before;
    of->rows = lacks;
    of->first = item_start(*of, 0);
    of->bytes = (of->end - of->first + (lacks & 255) + (lacks >> 8 & 255) + (lacks >> 16 & 255) +
                 (lacks >> 24)) /
                8;
    return fp4_ptx_any(0xffffffffu, is_decreasing);
}

/* How many of so many items begin before a byte; with their own units, before a unit. A warp calls.
   */
static __device__ __forceinline__ uint32_t items_before(const packbits_items &of, uint32_t items,
                                                        size_t limit, uint32_t units)
{
    uint32_t count = 0, rows = 0;

#pragma unroll 1
    for (uint32_t j = 0; j < MINE; j++) {
        const uint32_t i = j * 32 + lane_number();
        const size_t at = item_at(of, item_start(of, i), j, &rows);
        count +=
            fp4_ptx_ones(fp4_ptx_ballot(0xffffffffu, i < items && at + (units ? i : 0) < limit));
    }
    return count;
}

static __device__ __forceinline__ size_t within(size_t x, size_t low, size_t high)
{
    return x < low ? low : x > high ? high : x;
}

static __device__ void set_new_indptr(const packbits_job &job, size_t i, size_t at)
{
    if (job.a.index_bytes == 4) {
        ((int32_t *)job.a.new_indptr)[i] = (int32_t)at;
    } else {
        ((long long *)job.a.new_indptr)[i] = (long long)at;
    }
}

/* The part begins with the next chunk; this one makes so many bytes. */
static __device__ __forceinline__ void go_on(packbits_warp &w, size_t bytes)
{
    fp4_ptx_warp_barrier();
    if (lane_number() == 0) {
        w.before += bytes;
        w.number++;
        w.unit = w.before + w.number * CHUNK;
    }
    fp4_ptx_warp_barrier();
}

/* Units `low` to `high` of the chunk, one segment after the other, a byte a lane: where there is
   something wrong with indptr. A warp calls. */
static __device__ void make_wrong(const packbits_job &job, packbits_warp &w,
                                  const packbits_items &items, size_t low, size_t high)
{
    const size_t number = w.number, before = w.before;
    const uint32_t count = items_of(job, number);
    size_t at = 0;

#pragma unroll 1
    for (uint32_t i = 0; i < count; i++) {
        const size_t start = item_start(items, i), end = item_start(items, i + 1), unit = at + i;
        const size_t bytes = bytes_between(start, end);
        if (unit >= low && unit < high && job.a.new_indptr != NULL && lane_number() == 0) {
            set_new_indptr(job, number * CHUNK + i, before + at);
        }
        for (size_t byte = (low > unit + 1 ? low - unit - 1 : 0) + lane_number();
             byte < bytes && unit + 1 + byte < high && before + at + byte < job.a.out_bytes;
             byte += 32) {
            const size_t x = start + byte * 8;
            job.a.out[before + at + byte] = (uint8_t)pack_some(
                job.a.x + x, 0, end - x < 8 ? (uint32_t)(end - x) : 8, job.a.order);
        }
        at += bytes;
    }
    go_on(w, at);
    if (w.unit < w.end_unit) {
        ask_for_items(job, w, number + 1);
    }
}

/* ------------------------------------------------------------------------------ windows */

/* 64 bits from `bit` on. */
static __device__ __forceinline__ unsigned long long bits_at(const uint32_t *bits, int bit)
{
    const uint32_t *w = bits + (bit >> 5), shift = (uint32_t)bit % 32;
    const uint32_t low = (uint32_t)((w[0] | (unsigned long long)w[1] << 32) >> shift);
    const uint32_t high = (uint32_t)((w[1] | (unsigned long long)w[2] << 32) >> shift);
    return low | (unsigned long long)high << 32;
}

/* The first so many of 64 bits. */
static __device__ __forceinline__ unsigned long long lowest(unsigned long long v, uint32_t count)
{
    return count < 64 ? v & ~(~0ull << count) : v;
}

/* Bits of what is of x of 32 bytes, where that begins or ends among them. */
static __device__ void pack_cut(const packbits_job &job, const packbits_warp &w, uint32_t bit,
                                uint32_t *bits)
{
#pragma unroll 1
    for (uint32_t i = lane_number(); i < EACH * 32; i += 32) {
        const uint32_t at = bit + i * 32;
        if (at < w.end_bit && at - w.first >= w.span) {
            const size_t here = w.x + at, left = job.a.n - here;
            bits[i] = pack_some(job.a.x + here, here > job.a.n ? (uint32_t)(0 - here) : 0,
                                left < 32 ? (uint32_t)left : 32, FP4_BITS_LITTLE);
        }
    }
}

/* The last segment that begins at a byte or before, from one on that does. A warp calls; the end
   begins behind the byte. */
static __device__ __forceinline__ uint32_t segment_of(const packbits_warp &w, uint32_t segment,
                                                      uint32_t byte)
{
    uint32_t count;

    do {
        count = fp4_ptx_ones(
            fp4_ptx_ballot(0xffffffffu, w.place[segment + 1 + lane_number()].v[0] <= byte));
        segment += count;
    } while (count == 32);
    return segment;
}

/* The same for a byte of each lane, of this segment and so many behind it. */
static __device__ __forceinline__ uint32_t segment_of_lane(const packbits_warp &w, uint32_t segment,
                                                           uint32_t count, uint32_t byte)
{
    if (count < 32) { /* behind them all begin too late */
        const fp4_u32x2 *p = &w.place[segment];
        if (count >= 8) {
            p += p[16].v[0] <= byte ? 16 : 0;
            p += p[8].v[0] <= byte ? 8 : 0;
        }
        p += p[4].v[0] <= byte ? 4 : 0;
        p += p[2].v[0] <= byte ? 2 : 0;
        p += p[1].v[0] <= byte ? 1 : 0;
        return (uint32_t)(p - w.place);
    }
    for (uint32_t n = count + 1; n > 1;) {
        const uint32_t half = n / 2;
        segment += w.place[segment + half].v[0] <= byte ? half : 0;
        n -= half;
    }
    return segment;
}

/* Eight bytes from `from` on, of which those from `to` on are anything. The first is of this
   segment; those in front of the share, too. */
static __device__ __forceinline__ unsigned long long
pack_eight(const packbits_warp &w, const uint32_t *bits, uint32_t first_bit, uint32_t segment,
           uint32_t from, uint32_t to)
{
    const fp4_u32x2 *p = &w.place[segment];
    const fp4_u32x2 here = fp4_ptx_load8(p);
    fp4_u32x2 next = fp4_ptx_load8(p + 1);
    const uint32_t bit = here.v[1] + (from - here.v[0]) * 8;
    unsigned long long v = lowest(bits_at(bits, (int)(bit - first_bit)), next.v[1] - bit);

    while (next.v[0] < to) {
        const fp4_u32x2 now = next; /* where the next one begins that makes something */
        do {
            p++;
            next = fp4_ptx_load8(p + 1);
        } while (next.v[0] <= now.v[0]);
        v |= lowest(bits_at(bits, (int)(now.v[1] - first_bit)), next.v[1] - now.v[1])
             << (now.v[0] - from) * 8;
    }
    return v;
}

/* What a share makes, whose coordinates begin at `out`; end: behind its last byte. What a window is
   made of is on its way while the one before it is made; is_more: behind the share, too. A warp
   calls. */
static __device__ __forceinline__ void pack_share(const packbits_job &job, packbits_warp &w,
                                                  uint8_t *out, uint32_t end, fp4_u32x8 v[EACH],
                                                  int is_more)
{
    FP4_STATIC_ASSERT(WINDOW % 8 == 0 && WINDOW <= 32 * 8 && WINDOW * 8 + 31 <= EACH * 1024,
                      "a window is what the lanes have at a time");
    const uint32_t lane = lane_number(), span = w.span, from = lane * 32 - w.first;
    const uint8_t *x = job.a.x + w.x + lane * 32;
    uint32_t segment = segment_of(w, 0, w.low), bit = 0, which = 2;

    out += lane * 8;
    if (!w.is_loaded || w.loaded_x != w.x) {
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) {
            if (from + j * 1024 < span) {
                v[j] = fp4_load_u32x8(x + j * 1024);
            }
        }
    }
    for (uint32_t window = 0; window < end; window += WINDOW, out += WINDOW) {
        const uint32_t after = window + WINDOW, mine = window + lane * 8;
        const uint32_t next = segment_of(w, segment, after < end ? after : end - 1);
        const fp4_u32x2 place = fp4_ptx_load8(&w.place[next]);
        uint32_t next_bit = (place.v[1] + (after - place.v[0]) * 8) & ~31u, room = span;
        uint32_t *bits = w.bits + which;

        if (after >= end) {
            next_bit = w.end_bit & ~31u;
            room = is_more ? w.room : 0;
        }
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) { /* anything where there are none */
            bits[j * 32 + lane] =
                pack_x32(v[j], low_factors(FP4_BITS_LITTLE), high_factors(FP4_BITS_LITTLE));
            if (next_bit + from + j * 1024 < room) {
                v[j] = fp4_load_u32x8(x + next_bit + j * 1024);
            }
        }
        if (w.span < w.end_bit) {
            pack_cut(job, w, bit, bits);
        }
        fp4_ptx_warp_barrier();
        if (mine < end && lane < WINDOW / 8) {
            const uint32_t to = end < mine + 8 ? end : mine + 8;
            const uint32_t mine_of = segment_of_lane(w, segment, next - segment, mine);
            const unsigned long long eight = pack_eight(w, bits, bit, mine_of, mine, to);
            uint32_t a = (uint32_t)eight, b = (uint32_t)(eight >> 32);
            if (job.a.order == FP4_BITS_BIG) {
                a = turned(a);
                b = turned(b);
            }
            if (to == mine + 8 && (mine != 0 || w.low == 0)) {
                fp4_ptx_store8(out, a, b);
            } else {
                const uint32_t first = mine == 0 ? w.low : 0, last = to - mine;
                store_some(out, a, first, last);
                store_some(out + 4, b, first < 4 ? 0 : first - 4, last < 4 ? 0 : last - 4);
            }
        }
        which = BITS + 4 - which;
        segment = next;
        bit = next_bit;
    }
    if (lane == 0) {
        w.is_loaded = (uint32_t)is_more;
        w.loaded_x = w.x + bit;
    }
}

/* The share is bytes `from` to `to` of what a chunk of `count` items makes, the first of which is
   byte `low` of the aligned eight in out. A warp calls. */
static __device__ __forceinline__ void cut_share(const packbits_job &job, packbits_warp &w,
                                                 const packbits_items &items, uint32_t count,
                                                 uint32_t low, size_t from, size_t to)
{
    size_t first_x = items.first, end_x = items.end;
    const int is_whole = from == 0 && to == items.bytes && end_x - first_x < 1u << 31;

    if (!is_whole) {
        const uint32_t first = items_before(items, count, from + 1, 0) - 1;
        const uint32_t last = items_before(items, count, to, 0) - 1;
        uint32_t rows = 0;
#pragma unroll 1
        for (uint32_t j = 0; j < MINE; j++) {
            const uint32_t i = j * 32 + lane_number();
            const size_t start = item_start(items, i), at = item_at(items, start, j, &rows);
            if (i == first) {
                w.cut[0] = start + (from - at) * 8;
            }
            if (i == last) {
                const size_t x = start + (to - at) * 8, next = item_start(items, i + 1);
                w.cut[1] = x < next ? x : next;
            }
        }
        fp4_ptx_warp_barrier();
        first_x = w.cut[0];
        end_x = w.cut[1];
    }
    const uint32_t x_skew = (uint32_t)(((size_t)job.a.x + first_x) % 32);
    const uint32_t end_bit = x_skew + (uint32_t)(end_x - first_x);
    const size_t x = first_x - x_skew;
    const uint32_t first = x > job.a.n ? 32 : 0;
    const size_t left = x + first <= job.a.n ? job.a.n - (x + first) : 0;
    const uint32_t room = left < 0xffff0000u ? (uint32_t)left / 32 * 32 : 0xffff0000u;
    const uint32_t span = (end_bit + 31) / 32 * 32 - first;
    uint32_t rows = 0;

    if (lane_number() == 0) {
        w.x = x;
        w.low = low;
        w.end_bit = end_bit;
        w.first = first;
        w.span = room < span ? room : span;
        w.room = room;
    }
    if (is_whole) {
#pragma unroll
        for (uint32_t j = 0; j < MINE; j++) {
            const uint32_t i = j * 32 + lane_number();
            const uint32_t bit = items.start[i].v[0] - (uint32_t)first_x;
            const fp4_u32x2 place = {{low + (bit + item_lacks(items, j, &rows)) / 8, x_skew + bit}};
            w.place[i] = place;
        }
    } else {
#pragma unroll 1
        for (uint32_t j = 0; j < MINE; j++) {
            const uint32_t i = j * 32 + lane_number();
            const size_t start = item_start(items, i), at = item_at(items, start, j, &rows);
            const fp4_u32x2 place = {
                {low + (uint32_t)(within(at, from, to) - from),
                 x_skew + (uint32_t)(within(start, first_x, end_x) - first_x)}};
            w.place[i] = place;
        }
    }
    const fp4_u32x2 behind = {{low + (uint32_t)(to - from), end_bit}};
    w.place[CHUNK + lane_number()] = behind;
    fp4_ptx_warp_barrier();
}

/* What the part has of a chunk: its entries of new_indptr, and its bytes, no more of them than out
   has room for. Then the part begins with the next one. v: what the lanes have of x. A warp calls.
   */
static __device__ __forceinline__ void make_chunk(const packbits_job &job, packbits_warp &w,
                                                  fp4_u32x8 v[EACH])
{
    packbits_items items;
    const int is_wrong = read_items(job, w, &items);
    const size_t number = w.number, before = w.before, units = before + number * CHUNK;
    const size_t low = w.unit - units, high = w.end_unit - units; /* of the chunk's units */
    const uint32_t count = items_of(job, number);
    size_t from = 0, to = items.bytes;

    if (low != 0) {
        from = low - items_before(items, count, low, 1);
    }
    if (high < items.bytes + count) {
        to = high - items_before(items, count, high, 1);
    }
    /* 32-bit coordinates are good for 2^28 bytes of bits in one warp's part: more than that takes
       TiB of x */
    if (is_wrong || to > from + (1u << 28)) {
        make_wrong(job, w, items, low, high);
        return;
    }
    const int is_more = high > items.bytes + count;
    if (is_more) {
        ask_for_items(job, w, number + 1);
    }
    if (job.a.new_indptr != NULL) {
        uint32_t rows = 0;
#pragma unroll 1
        for (uint32_t j = 0; j < MINE; j++) {
            const uint32_t i = j * 32 + lane_number();
            const size_t at = item_at(items, item_start(items, i), j, &rows);
            if (i < count && at + i >= low && at + i < high) {
                set_new_indptr(job, number * CHUNK + i, before + at);
            }
        }
    }
    go_on(w, items.bytes);
    const size_t room = job.a.out_bytes > before ? job.a.out_bytes - before : 0;
    to = to < room ? to : room;
    if (from < to) {
        uint8_t *out = job.a.out + before + from;
        const uint32_t skew = (uint32_t)((size_t)out % 8);
        cut_share(job, w, items, count, skew, from, to);
        pack_share(job, w, out - skew, skew + (uint32_t)(to - from), v, is_more);
    }
}

static __global__ void __launch_bounds__(THREADS, RESIDENT) pack_segments(const packbits_job job)
{
    __shared__ packbits_cta c;
    packbits_warp &w = c.warps[threadIdx.x / 32];
    fp4_u32x8 v[EACH] = {}; /* of x, for the next window */

    fp4_pdl_wait();
    fp4_pdl_trigger();
    if (job.chunks > 1) {
        count_tasks(job, c);
    }
    find_part(job, c, w);
    if (w.unit < w.end_unit) {
        ask_for_items(job, w, w.number);
    }
    while (w.unit < w.end_unit) {
        make_chunk(job, w, v);
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

/* As many CTAs as the device has room for at a time. */
static cudaError_t ctas_for(const void *kernel, size_t *ctas)
{
    int device = 0, processors = 0, resident = 0;
    cudaError_t error = cudaGetDevice(&device);

    if (error == cudaSuccess) {
        error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    }
    if (error == cudaSuccess) {
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, THREADS, 0);
    }
    *ctas = (size_t)processors * (size_t)resident;
    return error;
}

/** Bytes of the workspace of so many segments; 0 for a few. */
static size_t segment_workspace_bytes(size_t segments)
{
    const size_t chunks = segments / CHUNK + 1;
    return chunks == 1
               ? 0
               : WORDS * sizeof(uint32_t) + (TASKS + TOLD * TASKS + chunks) * sizeof(size_t);
}

static cudaError_t launch_segments(const segment_packbits_args *a, int pdl, cudaStream_t stream)
{
    packbits_job job = {};
    void *arguments[] = {&job};
    size_t ctas, at_once;
    const cudaError_t error = ctas_for((const void *)pack_segments, &at_once);

    if (error != cudaSuccess || at_once == 0) {
        return error != cudaSuccess ? error : cudaErrorInvalidConfiguration;
    }
    job.a = *a;
    job.items = a->segments + 1;
    job.chunks = a->segments / CHUNK + 1;
    ctas = (a->n / 8 + a->segments) / PART + a->segments / PART + 1; /* the most that it can be */
    ctas = ctas < at_once ? ctas : at_once; /* more have nothing to add but their start */
    ctas = ctas < TASKS ? ctas : (size_t)TASKS;
    job.part = (uint32_t)((((size_t)1 << 32) - 1) / (ctas * WARPS) + 1);
    job.each = (job.chunks - 1) / ctas + 1;
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
        a->segments / CHUNK >= 0xffffff00u) {
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
