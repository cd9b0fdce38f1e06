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
#define PART 4096        /* segments and bytes of bits that are worth a CTA */
#define CHUNK_ITEMS 1024 /* a multiple of THREADS */
#endif
#if !defined(ENOUGH)
#define ENOUGH 512 /* CTAs, a power of two; more have nothing to add but their start */
#endif

enum {
    THREADS = 256,
    EACH = 2,            /* pieces of 32 bytes of x a thread */
    CHUNK = CHUNK_ITEMS, /* segments whose places are known at a time */
    TILE = 2040,         /* bytes of bits made at a time, eight a thread: of no more bytes of x,
                            wherever they begin, than what threads load at a time */
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
    size_t chunks;      /* CHUNK items each, but the last */
    uint32_t ctas_log2; /* dividing 64-bit numbers by others takes registers that are not there */
} packbits_job;

/* Words of the workspace: what has been given away, what has come back, how many CTAs are at their
   end; and for each chunk and the end two of a 64-bit number. */
enum { TICKETS, COUNTED, FINISHED, PLACES = 4 };

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

/* A tile, in the coordinates of its share. */
typedef struct packbits_plan {
    uint32_t low, high;      /* its first byte, and behind its last */
    uint32_t segment, after; /* at or in front of that of the first, and behind that of the last */
    uint32_t bits, end;      /* the first of its bits, aligned to 32, and behind the last */
    size_t x;                /* where their bytes of x begin; wraps where that is in front of x */
    int is_inside;           /* of x are also those that only fill the last 32 */
} packbits_plan;

enum { PLANS = 4 }; /* what is made, what is on its way, what comes then; a power of two */

/* What all threads of a CTA know: of a chunk, where its items begin in x, and in what its segments
   make; of the CTA's work; of its share of a chunk, which is the work that it has there; and of
   tiles. */
typedef struct packbits_chunk {
    size_t start[CHUNK + 1], at[CHUNK + 1];
    size_t number, before; /* of the chunk, and how many bytes those in front of it make */
    size_t unit, end_unit; /* where the work of the CTA begins and ends */
    /* where the share's segments begin, cut where it is: bytes, from the aligned eight on in which
       it begins; bits, from the aligned 32 of x on in which its first one is */
    uint32_t byte[CHUNK + 1], bit[CHUNK + 1];
    packbits_plan plans[PLANS];
    uint32_t bits[2][THREADS * EACH + 2]; /* of tiles' bytes of x, little; two more may be read */
    size_t sums[THREADS / 32];
    uint32_t found, is_decreasing;
} packbits_chunk;

static __device__ void add_error(const packbits_job &job, fp4_packbits_error error)
{
    if (job.a.errors != NULL) {
        fp4_ptx_atomic_or(job.a.errors, (uint32_t)error);
    }
}

/* Where an item begins in x. */
static __device__ __forceinline__ size_t item_start(const packbits_job &job, size_t i, int *is_bad)
{
    const size_t at = i < job.a.segments ? i : job.a.segments, n = job.a.n;
    const long long start = job.a.index_bytes == 4 ? ((const int32_t *)job.a.indptr)[at]
                                                   : ((const long long *)job.a.indptr)[at];

    *is_bad |= start < 0 || (size_t)start > n;
    return start < 0 ? 0 : (size_t)start > n ? n : (size_t)start;
}

static __device__ size_t lane_xor(size_t x, int lanes)
{
    const uint32_t low = fp4_ptx_shuffle_xor_u32(0xffffffffu, (uint32_t)x, lanes);
    return low | (size_t)fp4_ptx_shuffle_xor_u32(0xffffffffu, (uint32_t)(x >> 32), lanes) << 32;
}

static __device__ size_t of_lane(size_t x, int lane)
{
    const uint32_t low = fp4_ptx_shuffle_u32(0xffffffffu, (uint32_t)x, lane);
    return low | (size_t)fp4_ptx_shuffle_u32(0xffffffffu, (uint32_t)(x >> 32), lane) << 32;
}

/* The sum of what the threads before this one have, and of what all have. All threads call. */
static __device__ size_t sum_before(size_t x, size_t *all, size_t *sums)
{
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    size_t before = 0;

    for (uint32_t lanes = 1; lanes < 32; lanes *= 2) { /* groups of so many know theirs */
        const size_t other = lane_xor(x, (int)lanes);
        before += lane & lanes ? other : 0;
        x += other;
    }
    if (lane == 0) {
        sums[warp] = x;
    }
    fp4_ptx_barrier();
    *all = 0;
    for (uint32_t w = 0; w < THREADS / 32; w++) {
        before += w < warp ? sums[w] : 0;
        *all += sums[w];
    }
    fp4_ptx_barrier();
    return before;
}

/* How many items a chunk has. */
static __device__ uint32_t items_of(const packbits_job &job, size_t number)
{
    const size_t left = job.items - number * CHUNK;
    return left < CHUNK ? (uint32_t)left : CHUNK;
}

/* Fills c.start and c.at; returns c.at of the end. All threads call. */
static __device__ size_t read_chunk(const packbits_job &job, size_t number, packbits_chunk &c)
{
    enum { MINE = CHUNK / THREADS };
    const uint32_t items = items_of(job, number), first = threadIdx.x * MINE;
    size_t bytes[MINE], starts[MINE], mine = 0, at, all;
    int is_bad = 0, is_decreasing = 0;

    fp4_ptx_barrier(); /* nobody needs what was there */
#pragma unroll
    for (uint32_t j = 0; j < MINE; j++) { /* all of them at a time */
        const uint32_t i = threadIdx.x + j * THREADS;
        starts[j] = item_start(job, number * CHUNK + (i < items ? i : items), &is_bad);
    }
#pragma unroll
    for (uint32_t j = 0; j < MINE; j++) {
        c.start[threadIdx.x + j * THREADS] = starts[j];
    }
    if (threadIdx.x == 0) {
        c.is_decreasing = 0;
        if (items == CHUNK) {
            c.start[CHUNK] = item_start(job, number * CHUNK + CHUNK, &is_bad);
        }
    }
    fp4_ptx_barrier();
#pragma unroll
    for (uint32_t j = 0; j < MINE; j++) {
        bytes[j] = 0;
        if (first + j < items) {
            const size_t start = c.start[first + j], end = c.start[first + j + 1];
            bytes[j] = end > start ? fp4_packed_bytes(end - start) : 0;
            is_decreasing |= end < start;
        }
        mine += bytes[j];
    }
    at = sum_before(mine, &all, c.sums);
#pragma unroll
    for (uint32_t j = 0; j < MINE; j++) {
        if (first + j < items) {
            c.at[first + j] = at;
            at += bytes[j];
        }
    }
    if (threadIdx.x == 0) {
        c.at[items] = all;
    }
    if (is_decreasing) {
        fp4_ptx_atomic_exchange(&c.is_decreasing, 1);
    }
    if (is_bad || is_decreasing) {
        add_error(job, FP4_PACKBITS_INDPTR);
    }
    fp4_ptx_barrier();
    return all;
}

/* What a chunk has in the workspace: first how many bytes it makes, then how many all those before
   it do. By exchanges, since others read it in the same launch. */
static __device__ void set_bytes(const packbits_job &job, size_t number, size_t bytes)
{
    uint32_t *words = job.a.workspace + PLACES + 2 * number;

    fp4_ptx_atomic_exchange(&words[0], (uint32_t)bytes);
    fp4_ptx_atomic_exchange(&words[1], (uint32_t)(bytes >> 32));
}

static __device__ __forceinline__ size_t bytes_of(const packbits_job &job, size_t number)
{
    return ((const size_t *)(job.a.workspace + PLACES))[number];
}

/* From the bytes of each chunk to those before it; behind the last one, of all. By one CTA. */
static __device__ void sum_chunks(const packbits_job &job, packbits_chunk &c)
{
    const size_t mine = (job.chunks + THREADS - 1) / THREADS, first = threadIdx.x * mine;
    const size_t end = first + mine < job.chunks ? first + mine : job.chunks;
    size_t bytes = 0, at, all;

#pragma unroll 8
    for (size_t i = first; i < end; i++) {
        bytes += bytes_of(job, i);
    }
    at = sum_before(bytes, &all, c.sums);
#pragma unroll 8
    for (size_t i = first; i < end; i++) {
        bytes = bytes_of(job, i);
        set_bytes(job, i, at);
        at += bytes;
    }
    if (threadIdx.x == 0) {
        set_bytes(job, job.chunks, all);
    }
    fp4_ptx_fence();
    fp4_ptx_barrier();
}

/* How many bytes a chunk makes; a warp calls. */
static __device__ size_t count_chunk(const packbits_job &job, size_t number)
{
    enum { AT_ONCE = 8 };
    const uint32_t items = items_of(job, number), lane = threadIdx.x % 32;
    size_t bytes = 0;
    int is_bad = 0; /* who packs the chunk says so */

    for (uint32_t first = 0; first < items; first += 32 * AT_ONCE) {
        size_t start[AT_ONCE + 1]; /* the last is where the last lane's last one ends */
#pragma unroll
        for (uint32_t j = 0; j < AT_ONCE + 1; j++) {
            const uint32_t i = first + j * 32 + lane;
            start[j] = item_start(job, number * CHUNK + (i < items ? i : items), &is_bad);
        }
#pragma unroll
        for (uint32_t j = 0; j < AT_ONCE; j++) {
            const size_t end = of_lane(lane == 0 ? start[j + 1] : start[j], (int)(lane + 1) % 32);
            bytes += end > start[j] ? fp4_packed_bytes(end - start[j]) : 0;
        }
    }
    for (int lanes = 1; lanes < 32; lanes *= 2) {
        bytes += lane_xor(bytes, lanes);
    }
    return bytes;
}

/* Counts what each chunk makes, by whoever comes first, a warp each, and sums it up, by whoever is
   the last. Returns when that is known. All threads call. */
static __device__ void count_chunks(const packbits_job &job, packbits_chunk &c)
{
    enum { WARPS = THREADS / 32 };
    const uint32_t last = (uint32_t)((job.chunks + WARPS - 1) / WARPS - 1);
    uint32_t *words = job.a.workspace;

    for (;;) {
        if (threadIdx.x == 0) {
            c.found = fp4_ptx_atomic_inc(&words[TICKETS], 0xffffffffu);
        }
        fp4_ptx_barrier();
        const size_t number = (size_t)c.found * WARPS + threadIdx.x / 32;
        if (c.found > last) {
            break;
        }
        if (number < job.chunks) {
            const size_t bytes = count_chunk(job, number);
            if (threadIdx.x % 32 == 0) {
                set_bytes(job, number, bytes);
                fp4_ptx_fence();
            }
        }
        fp4_ptx_barrier();
        if (threadIdx.x == 0) {
            fp4_ptx_fence();
            c.found = fp4_ptx_atomic_inc(&words[COUNTED], 0xffffffffu);
            fp4_ptx_fence();
        }
        fp4_ptx_barrier();
        if (c.found == last) {
            sum_chunks(job, c);
            if (threadIdx.x == 0) {
                fp4_ptx_atomic_inc(&words[COUNTED], 0xffffffffu);
            }
        }
        fp4_ptx_barrier();
    }
    if (threadIdx.x == 0) {
        while (fp4_ptx_load_acquire(&words[COUNTED]) != last + 2) {
        }
    }
    fp4_ptx_barrier();
}

/* The last to come leaves the counters as they were. */
static __device__ void finish_chunks(const packbits_job &job)
{
    uint32_t *words = job.a.workspace;

    if (threadIdx.x == 0 && fp4_ptx_atomic_inc(&words[FINISHED], gridDim.x - 1) == gridDim.x - 1) {
        fp4_ptx_atomic_exchange(&words[TICKETS], 0);
        fp4_ptx_atomic_exchange(&words[COUNTED], 0);
    }
}

/* The chunk in which a unit lies: of THREADS places as many as there are between two of them, until
   these are neighbours. All threads call. */
static __device__ size_t chunk_of(const packbits_job &job, packbits_chunk &c, size_t unit)
{
    size_t low = 0, high = job.chunks;

    while (high - low > 1) {
        const size_t step = (high - low + THREADS - 1) / THREADS;
        const size_t i = low + threadIdx.x * step, next = i + step;
        if (i < high && bytes_of(job, i) + i * CHUNK <= unit &&
            (next >= high || bytes_of(job, next) + next * CHUNK > unit)) {
            c.found = (uint32_t)i;
        }
        fp4_ptx_barrier();
        low = c.found;
        high = low + step < high ? low + step : high;
        fp4_ptx_barrier();
    }
    return low;
}

/* Work is a unit for each item, then one for each byte that it makes. It is cut in as many parts as
   there are CTAs; this one's part, which may be nothing. All threads call. */
static __device__ void find_part(const packbits_job &job, packbits_chunk &c)
{
    const size_t bytes = job.chunks == 1 ? read_chunk(job, 0, c) : bytes_of(job, job.chunks);
    const size_t all = bytes + job.items, each = ((all - 1) >> job.ctas_log2) + 1;
    const size_t unit = blockIdx.x * each < all ? blockIdx.x * each : all;
    const size_t number = job.chunks == 1 || unit == all ? 0 : chunk_of(job, c, unit);

    if (threadIdx.x == 0) {
        c.unit = unit;
        c.end_unit = all - unit < each ? all : unit + each;
        c.number = number;
        c.before = job.chunks == 1 ? 0 : bytes_of(job, number);
        if (blockIdx.x == 0 && bytes > job.a.out_bytes) {
            add_error(job, FP4_PACKBITS_OUT_BYTES);
        }
    }
    fp4_ptx_barrier();
}

/* How many items of the chunk have their own unit before this one. */
static __device__ uint32_t items_before(const packbits_chunk &c, uint32_t items, size_t unit)
{
    uint32_t low = 0;

    while (low < items) {
        const uint32_t middle = (low + items) / 2;
        if (c.at[middle] + middle < unit) {
            low = middle + 1;
        } else {
            items = middle;
        }
    }
    return low;
}

/* The segment that makes a byte of the chunk: the last that begins there or before. */
static __device__ uint32_t segment_of(const packbits_chunk &c, uint32_t items, size_t byte)
{
    uint32_t low = 0;

    while (items - low > 1) {
        const uint32_t middle = (low + items) / 2;
        if (c.at[middle] <= byte) {
            low = middle;
        } else {
            items = middle;
        }
    }
    return low;
}

/* Of those of the share, from low on, in front of high. */
static __device__ __forceinline__ uint32_t share_segment(const packbits_chunk &c, uint32_t low,
                                                         uint32_t high, uint32_t byte)
{
    while (high - low > 1) {
        const uint32_t middle = (low + high) / 2;
        if (c.byte[middle] <= byte) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Bytes `from` to `to` of what the chunk's segments make, one a thread: where there is something
   wrong with indptr. */
static __device__ void pack_wrong(const packbits_job &job, const packbits_chunk &c, uint32_t items,
                                  size_t from, size_t to)
{
    for (size_t byte = from + threadIdx.x; byte < to; byte += THREADS) {
        const uint32_t segment = segment_of(c, items, byte);
        const size_t x = c.start[segment] + (byte - c.at[segment]) * 8;
        const size_t left = c.start[segment + 1] - x;
        job.a.out[c.before + byte] =
            (uint8_t)pack_some(job.a.x + x, 0, left < 8 ? (uint32_t)left : 8, job.a.order);
    }
}

/* A CTA's share of what a chunk's segments make: where it begins in out and x, eight and 32 bytes
   aligned; how many segments it has. */
typedef struct packbits_share {
    uint8_t *out;
    size_t x;
    uint32_t segments;
} packbits_share;

/* Fills c.byte and c.bit. All threads call. */
static __device__ packbits_share cut_share(const packbits_job &job, packbits_chunk &c,
                                           uint32_t items, size_t from, size_t to)
{
    const int is_first = from == 0, is_last = to == c.at[items];
    const uint32_t first = is_first ? 0 : segment_of(c, items, from);
    const uint32_t after = is_last ? items : segment_of(c, items, to - 1) + 1;
    const size_t x = c.start[first] + (from - c.at[first]) * 8;
    const size_t whole = c.start[after - 1] + (to - c.at[after - 1]) * 8; /* of the last segment */
    const size_t end = whole > c.start[after] ? c.start[after] : whole;
    uint8_t *out = job.a.out + c.before + from;
    const uint32_t out_skew = (uint32_t)((size_t)out % 8);
    const uint32_t x_skew = (uint32_t)(((size_t)job.a.x + x) % 32);
    packbits_share p;

    for (uint32_t i = threadIdx.x; i <= after - first; i += THREADS) {
        const int is_end = i == after - first;
        const size_t byte = i == 0 ? from : is_end ? to : c.at[first + i];
        const size_t bit = i == 0 ? x : is_end ? end : c.start[first + i];
        c.byte[i] = out_skew + (uint32_t)(byte - from);
        c.bit[i] = x_skew + (uint32_t)(bit - x);
    }
    p.out = out - out_skew;
    p.x = x - x_skew;
    p.segments = after - first;
    return p;
}

/* Which bits make the bytes before this one; it is of this segment, or the first behind it. */
static __device__ __forceinline__ uint32_t bits_before(const packbits_chunk &c, uint32_t segment,
                                                       uint32_t byte)
{
    const uint32_t bit = c.bit[segment] + (byte - c.byte[segment]) * 8;
    return bit < c.bit[segment + 1] ? bit : c.bit[segment + 1];
}

/* Tile number `tile` of a share; there is one. One thread calls, for one after the other. */
static __device__ void plan_tile(packbits_chunk &c, const packbits_share &of, size_t n,
                                 uint32_t tile)
{
    const packbits_plan *before = &c.plans[(tile - 1) % PLANS];
    const uint32_t end = c.byte[of.segments], next = (tile + 1) * TILE;
    packbits_plan p;

    p.low = tile == 0 ? c.byte[0] : tile * TILE;
    p.high = end < next ? end : next;
    p.segment = tile == 0 ? 0 : before->after - 1;
    p.after = share_segment(c, p.segment, of.segments, p.high - 1) + 1;
    p.bits = (tile == 0 ? c.bit[0] : before->end) & ~31u;
    p.end = bits_before(c, p.after - 1, p.high);
    p.x = of.x + p.bits;
    p.is_inside = p.x <= n && n - p.x >= (p.end - p.bits + 31) / 32 * 32;
    c.plans[tile % PLANS] = p;
}

/* This thread's bytes of x, 32 at a time. */
static __device__ __forceinline__ void load_tile(const packbits_job &job, const packbits_plan &p,
                                                 fp4_u32x8 v[EACH])
{
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t i = threadIdx.x + j * THREADS;
        if (i * 32 < p.end - p.bits && (p.is_inside || is_whole(job.a.n, p.x + i * 32))) {
            v[j] = fp4_load_u32x8(job.a.x + p.x + i * 32);
        }
    }
}

/* Their bits, and zeros behind them. */
static __device__ __forceinline__ void pack_tile(const packbits_job &job, const packbits_plan &p,
                                                 const fp4_u32x8 v[EACH], uint32_t *bits)
{
    FP4_STATIC_ASSERT(TILE % 8 == 0 && TILE <= THREADS * 8 && TILE * 8 + 31 <= THREADS * EACH * 32,
                      "a tile is what the threads have at a time");
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t i = threadIdx.x + j * THREADS;
        if (i * 32 < p.end - p.bits) {
            bits[i] = p.is_inside ? pack_x32(v[j], low_factors(FP4_BITS_LITTLE),
                                             high_factors(FP4_BITS_LITTLE))
                                  : pack_piece(job.a.x, job.a.n, p.x + i * 32, v[j]);
        }
    }
    if (threadIdx.x < 2) {
        bits[(p.end - p.bits + 31) / 32 + threadIdx.x] = 0;
    }
}

/* 64 bits from `bit` on. */
static __device__ __forceinline__ unsigned long long bits_at(const uint32_t *bits, uint32_t bit)
{
    const uint32_t *w = bits + bit / 32, shift = bit % 32;
    const uint32_t low = (uint32_t)((w[0] | (unsigned long long)w[1] << 32) >> shift);
    const uint32_t high = (uint32_t)((w[1] | (unsigned long long)w[2] << 32) >> shift);
    return low | (unsigned long long)high << 32;
}

/* Bytes `from` to `to`, eight at most, of a tile, one segment after the other. */
static __device__ __forceinline__ unsigned long long pack_window(const packbits_chunk &c,
                                                                 const packbits_plan &p,
                                                                 const uint32_t *bits,
                                                                 uint32_t from, uint32_t to)
{
    uint32_t segment = share_segment(c, p.segment, p.after, from);
    uint32_t bit = c.bit[segment] + (from - c.byte[segment]) * 8, byte = from;
    uint32_t next = c.byte[segment + 1], left = c.bit[segment + 1] - bit;
    unsigned long long v = 0;

    if (next >= from + 8 && left >= 64) { /* whether all are wanted or not */
        return bits_at(bits, bit - p.bits);
    }
    for (;;) {
        const unsigned long long here = bits_at(bits, bit - p.bits);
        v |= (left < 64 ? here & ((1ull << left) - 1) : here) << (byte - from) * 8;
        byte = next;
        if (byte >= to) {
            return v;
        }
        bit += left; /* where the next one begins that makes something */
        do {
            segment++;
            next = c.byte[segment + 1];
        } while (next <= byte);
        left = c.bit[segment + 1] - bit;
    }
}

/* Bytes `from` to `to` of what the chunk's segments make. All threads call. What a tile is made of
   is on its way while the one before it is made. */
static __device__ void pack_chunk(const packbits_job &job, packbits_chunk &c, uint32_t items,
                                  size_t from, size_t to)
{
    const packbits_share of = cut_share(job, c, items, from, to);
    fp4_u32x8 v[EACH];

    fp4_ptx_barrier();
    const uint32_t end = c.byte[of.segments], tiles = (end + TILE - 1) / TILE;
    if (threadIdx.x == 0) {
        plan_tile(c, of, job.a.n, 0);
    }
    fp4_ptx_barrier();
    load_tile(job, c.plans[0], v);
    if (threadIdx.x == 0 && tiles > 1) {
        plan_tile(c, of, job.a.n, 1);
    }
    for (uint32_t tile = 0; tile < tiles; tile++) {
        const packbits_plan &p = c.plans[tile % PLANS];
        const uint32_t mine = tile * TILE + threadIdx.x * 8;
        uint32_t *bits = c.bits[tile % 2];

        pack_tile(job, p, v, bits);
        fp4_ptx_barrier();
        if (tile + 1 < tiles) {
            load_tile(job, c.plans[(tile + 1) % PLANS], v);
        }
        if (threadIdx.x == 0 && tile + 2 < tiles) {
            plan_tile(c, of, job.a.n, tile + 2);
        }
        if (mine < p.high && mine + 8 > p.low) {
            const uint32_t low = mine < p.low ? p.low : mine;
            const uint32_t high = p.high < mine + 8 ? p.high : mine + 8;
            const int is_big = job.a.order == FP4_BITS_BIG;
            unsigned long long eight = pack_window(c, p, bits, low, high) << (low - mine) * 8;
            const uint32_t a = is_big ? turned((uint32_t)eight) : (uint32_t)eight;
            const uint32_t b = is_big ? turned((uint32_t)(eight >> 32)) : (uint32_t)(eight >> 32);
            if (high - low == 8) {
                fp4_ptx_store8(of.out + mine, a, b);
            } else {
                const uint32_t first = low - mine, after = high - mine;
                store_some(of.out + mine, a, first, after);
                store_some(of.out + mine + 4, b, first < 4 ? 0 : first - 4,
                           after < 4 ? 0 : after - 4);
            }
        }
    }
}

static __device__ void set_new_indptr(const packbits_job &job, size_t i, size_t at)
{
    if (job.a.index_bytes == 4) {
        ((int32_t *)job.a.new_indptr)[i] = (int32_t)at;
    } else {
        ((long long *)job.a.new_indptr)[i] = (long long)at;
    }
}

/* What the CTA's part has of a chunk: its entries of new_indptr, and its bytes, no more of them
   than out has room for. Returns how many bytes the chunk makes. All threads call. */
static __device__ size_t make_chunk(const packbits_job &job, packbits_chunk &c)
{
    const uint32_t items = items_of(job, c.number);
    const size_t bytes = job.chunks > 1 ? read_chunk(job, c.number, c) : c.at[items];
    const size_t units = c.before + c.number * CHUNK; /* in front of it */
    const size_t low = c.unit - units, high = c.end_unit - units;
    const size_t from = low == 0 ? 0 : low - items_before(c, items, low);
    const size_t end = high < bytes + items ? high - items_before(c, items, high) : bytes;
    const size_t room = job.a.out_bytes > c.before ? job.a.out_bytes - c.before : 0;
    const size_t to = end < room ? end : room;

    for (uint32_t i = threadIdx.x; i < items && job.a.new_indptr != NULL; i += THREADS) {
        if (c.at[i] + i >= low && c.at[i] + i < high) {
            set_new_indptr(job, c.number * CHUNK + i, c.before + c.at[i]);
        }
    }
    /* 32-bit coordinates are good for 2^28 bytes of bits in one CTA's part: more than that takes
       1 TiB of x, or segments that overlap elsewhere */
    if (from < to && (c.is_decreasing || to - from > 1u << 28)) {
        pack_wrong(job, c, items, from, to);
    } else if (from < to) {
        pack_chunk(job, c, items, from, to);
    }
    return bytes;
}

static __global__ void __launch_bounds__(THREADS, RESIDENT) pack_segments(const packbits_job job)
{
    __shared__ packbits_chunk c;

    fp4_pdl_wait();
    fp4_pdl_trigger();
    if (job.chunks > 1) {
        count_chunks(job, c);
    }
    find_part(job, c);
    while (c.unit < c.end_unit) {
        const size_t bytes = make_chunk(job, c);

        fp4_ptx_barrier();
        if (threadIdx.x == 0) {
            c.before += bytes;
            c.number++;
            c.unit = c.before + c.number * CHUNK;
        }
        fp4_ptx_barrier();
    }
    if (job.chunks > 1) {
        finish_chunks(job);
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
    return chunks == 1 ? 0 : (PLACES + 2 * (chunks + 1)) * sizeof(uint32_t);
}

static cudaError_t launch_segments(const segment_packbits_args *a, int pdl, cudaStream_t stream)
{
    packbits_job job = {};
    void *arguments[] = {&job};
    size_t ctas;

    job.a = *a;
    job.items = a->segments + 1;
    job.chunks = a->segments / CHUNK + 1;
    ctas = (a->n / 8 + a->segments) / PART + a->segments / PART + 1; /* the most that it can be */
    while ((size_t)1 << job.ctas_log2 < ctas && 1 << job.ctas_log2 < ENOUGH) {
        job.ctas_log2++;
    }
    return launch((const void *)pack_segments, (size_t)1 << job.ctas_log2, arguments, pdl, stream);
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
