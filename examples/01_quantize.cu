/*
 * 01_quantize.cu - a row-major matrix, or a batch of them, to NVFP4, MXFP4 or MXFP8.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/01_quantize.cu -o quantize && ./quantize
 *
 * To change the input type, the format or the layout of the scale bytes, edit one word below
 * (or -DFORMAT=mxfp4).
 *
 * How it works: each thread loads a few pieces of 16 elements, quantizes them in registers and
 * stores their codes; two lanes share the 32-element blocks of MXFP4 and MXFP8. quantize_small and
 * quantize_small_run are that and little else. For large shapes the CTA collects its scale bytes in
 * shared memory, in the order of the tiled buffer, and writes them, padding included, 16 at a time.
 * From e4m3 to four bits, where the target has no instruction for them, it makes a table and goes
 * by that instead of through floats (requant.cuh), for some tiles to make the table worth while.
 */
#include <fp4/device/load.cuh>
#include <fp4/device/quant.cuh>
#include <fp4/device/requant.cuh>
#include <fp4/device/store.cuh>

#if !defined(INPUT)
#define INPUT bf16 /* f32, f16, bf16, e4m3 */
#endif
#if !defined(FORMAT)
#define FORMAT nvfp4 /* nvfp4, mxfp4, mxfp8 */
#endif
#if !defined(LAYOUT)
#define LAYOUT FP4_LAYOUT_128X4 /* FP4_LAYOUT_128X4, FP4_LAYOUT_8X4, FP4_LAYOUT_LINEAR */
#endif

/* What the words stand for. A piece of 16 elements is kept as WORDS registers, as in memory, until
   its turn comes: floats of all pieces at once would not fit. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define WORDS_f32 16
#define WORDS_f16 8
#define WORDS_bf16 8
#define WORDS_e4m3 4
#define LANES_nvfp4 1 /* that share a scale byte */
#define LANES_mxfp4 2
#define LANES_mxfp8 2
#define CODES_nvfp4 8 /* bytes of 16 codes */
#define CODES_mxfp4 8
#define CODES_mxfp8 16
#define QUANTIZE_nvfp4(x, global_enc) fp4_nvfp4_quantize(x, global_enc)
#define QUANTIZE_mxfp4(x, global_enc) fp4_mxfp4_quantize_x16(x)
#define QUANTIZE_mxfp8(x, global_enc) fp4_mxfp8_quantize_x16(x)
#define REQUANTIZE_nvfp4(x, rows, dec, global_enc) fp4_nvfp4_requantize(x, rows, dec, global_enc)
#define REQUANTIZE_mxfp4(x, rows, dec, global_enc) fp4_mxfp4_requantize_x16(x, rows, dec)
#define REQUANT_ROW_nvfp4(rows, m, dec, global_enc) fp4_nvfp4_requant_row(rows, m, dec, global_enc)
#define REQUANT_ROW_mxfp4(rows, m, dec, global_enc) fp4_mxfp4_requant_row(rows, m, dec)
#define PIECE_nvfp4 fp4_nvfp4_block
#define PIECE_mxfp4 fp4_part2
#define PIECE_mxfp8 fp4_part4
#define STORE_nvfp4 fp4_store_e2m1x16
#define STORE_mxfp4 fp4_store_e2m1x16
#define STORE_mxfp8 fp4_store_e4m3x16

#define WORDS JOIN(WORDS_, INPUT, )
#define LOAD JOIN(fp4_load_u32x, WORDS, )
#define WIDEN JOIN(fp4_, INPUT, x16_to_f32x16)
#define QUANTIZE JOIN(QUANTIZE_, FORMAT, )
#define REQUANTIZE JOIN(REQUANTIZE_, FORMAT, )
#define REQUANT_ROW JOIN(REQUANT_ROW_, FORMAT, )
#define STORE JOIN(STORE_, FORMAT, )
#define IS_E4M3_TO_E2M1 (WORDS == 4 && JOIN(CODES_, FORMAT, ) == 8)
typedef JOIN(PIECE_,
             FORMAT, ) piece; /* q: the codes of 16 elements, sf: their block's scale byte */
typedef JOIN(fp4_u32x, WORDS, ) raw;

enum {
    ELEMENT = WORDS / 4, /* bytes of an input element */
    CODES = JOIN(CODES_, FORMAT, ),
    LANES = JOIN(LANES_, FORMAT, ),
    BLOCK = 16 * LANES, /* elements that share a scale byte */
    THREADS = 128,
    EACH = ELEMENT == 4 ? 2 : 4, /* pieces a thread: loads in flight hide the arithmetic */
    /* CTAs of a multiprocessor: measured on sm_90; elsewhere so few that nothing spills */
    RESIDENT = FP4_ARCH != 900               ? 3
               : IS_E4M3_TO_E2M1             ? 8
               : ELEMENT == 1 && CODES == 16 ? 6
                                             : 7,
    TURNS = IS_E4M3_TO_E2M1 ? 8 : 1 /* tiles a CTA, at most */
};

/* Sizes at which the launcher changes its mind; measured on an H200. */
#if !defined(SMALL)
#define SMALL (1 << 19) /* pieces, padding included: up to here one a thread */
#define ENOUGH 4096     /* CTAs; fewer than these take one turn each */
#endif

/* ------------------------------------------------------------------------------ arguments */

/**
 * A scale: a number, or where on the device it is: device[batch * batch_step + row * row_step],
 * 4-byte aligned.
 * is_dec: a global scale is given in decode sense, to be turned round.
 */
typedef struct quantize_scale {
    const float *device;
    int is_dec;
    int has_steps; /* not to be filled in: the launcher does */
    float value;
    size_t row_step, batch_step;
} quantize_scale;

/**
 * shape    x: batches of rows x cols elements; row r of batch b starts at element
 *          b * batch_stride + r * row_stride. cols, q_cols: whole blocks; q_cols >= cols, and the
 *          columns in between become zeros. q: batches * rows * q_cols codes, row-major.
 *          sf: batches * fp4_sf_bytes(LAYOUT, rows, q_cols / BLOCK) bytes.
 *          x, row_stride, batch_stride: multiples of 16 bytes, a row under 4 GiB. q: aligned to the
 *          codes of 16 elements. sf: to 16 bytes unless it is linear. Neither overlaps anything.
 *          With cols = 0 q_cols is 0 too.
 * limits   rows up to 2^32 - 256, batches below 2^32.
 * global   NVFP4: positive and finite, and so its reciprocal (above 2^-128). Other formats ignore
 *          it.
 * x_dec    e4m3 input: x = decode(code) * x_dec, one for a matrix: row_step = 0. Other types
 *          ignore it.
 */
typedef struct quantize_args {
    uint8_t *q, *sf;
    const void *x;
    quantize_scale global, x_dec;
    size_t batches, rows, cols, q_cols, row_stride, batch_stride;
} quantize_args;

/* Matrices as kernels take them, columns counted in pieces of 16 elements. What is needed first
   comes first: a short kernel waits for every line of its parameters. */
typedef struct quantize_tiles {
    const uint8_t *x;
    uint32_t x_row, rows, cols; /* bytes from row to row of x, and its shape */
    uint32_t warp_rows;         /* rows that a warp of quantize_small has, less one */
    size_t x_matrix;            /* bytes from matrix to matrix */
    quantize_scale global, x_dec;
    uint8_t *q, *sf;
    size_t q_matrix, sf_matrix;
    uint32_t q_row, q_cols;
    uint32_t sf_rows, sf_cols; /* of the scale buffer, padding included */
    uint32_t per_matrix;       /* tiles below each other */
    uint32_t stride;           /* CTAs below each other: from tile to tile of one of them */
    uint32_t down, batches;    /* CTAs below each other, of all matrices */
} quantize_tiles;

/* ------------------------------------------------------------------------------ kernels */

static __device__ float scale_at(const quantize_scale *s, size_t batch, size_t row)
{
    const size_t at = s->has_steps ? batch * s->batch_step + row * s->row_step : 0;
    const float v = s->device == NULL ? s->value : s->device[at];
    return s->is_dec ? fp4_nvfp4_global_enc_from_dec(v) : v;
}

/* The piece as floats, times the input's own scale, which only e4m3 has. */
static __device__ fp4_f32x16 widen(raw words, float dec)
{
    return ELEMENT == 1 ? fp4_scale_x16(WIDEN(words), dec) : WIDEN(words);
}

/* What a CTA's pieces are quantized with. by_table: by the table, which e4m3 to four bits can. */
typedef struct factors {
    float global_enc, dec;
    int by_table;
    const uint4 *table;
} factors;

FP4_STATIC_ASSERT(THREADS == FP4_REQUANT_ROWS, "each thread makes a row of the table");

/* Those of a matrix. All threads call: they make the table, a row each. */
static __device__ __forceinline__ factors factors_of(const quantize_scale &global,
                                                     const quantize_scale &x_dec, size_t batch,
                                                     int may_tabulate, uint4 *table)
{
    factors f;

    f.global_enc = scale_at(&global, batch, 0);
    f.dec = ELEMENT == 1 ? scale_at(&x_dec, batch, 0) : 1.0f;
    f.table = table;
    f.by_table = IS_E4M3_TO_E2M1 && !FP4_ARCH_CVT_E2M1 && may_tabulate;
#if IS_E4M3_TO_E2M1
    if (f.by_table) {
        REQUANT_ROW(table, threadIdx.x, f.dec, f.global_enc);
        fp4_ptx_barrier();
    }
#endif
    return f;
}

static __device__ __forceinline__ piece quantize_piece(raw words, const factors &f,
                                                       float global_enc)
{
#if IS_E4M3_TO_E2M1
    if (f.by_table) {
        return REQUANTIZE(words, f.table, f.dec, global_enc);
    }
#endif
    return QUANTIZE(widen(words, f.dec), global_enc);
}

/* THREADS * EACH pieces of a run, of which `here` are left; all of them where full (a constant). */
static __device__ __forceinline__ void quantize_turn(const uint8_t *x, uint8_t *q, uint8_t *sf,
                                                     uint32_t here, const factors &f,
                                                     const int full)
{
    raw v[EACH];

#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t i = threadIdx.x + j * THREADS;
        v[j] = LOAD(x + (full || i < here ? i : 0) * (16 * ELEMENT));
    }
    fp4_pdl_trigger();
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t i = threadIdx.x + j * THREADS;
        const piece p = quantize_piece(v[j], f, f.global_enc);
        if (full || i < here) {
            STORE(q + i * CODES, p.q);
            if (i % LANES == 0) {
                sf[i / LANES] = p.sf;
            }
        }
    }
}

/* Linear scales and no gaps in x: the whole tensor is one run of pieces. */
static __global__ void __launch_bounds__(THREADS, RESIDENT)
    quantize_run(size_t pieces, const quantize_args a)
{
    __shared__ uint4 table[2 * FP4_REQUANT_ROWS];
    const uint32_t turn = THREADS * EACH;
    size_t first = (size_t)blockIdx.x * turn;

    fp4_pdl_wait();
    const factors f = factors_of(a.global, a.x_dec, 0, 1, table);
    do {
        const uint8_t *x = (const uint8_t *)a.x + first * (16 * ELEMENT);
        uint8_t *q = a.q + first * CODES, *sf = a.sf + first / LANES;
        if (first + turn <= pieces) {
            quantize_turn(x, q, sf, turn, f, 1);
        } else {
            quantize_turn(x, q, sf, (uint32_t)(pieces - first), f, 0);
        }
        first += (size_t)gridDim.x * turn;
    } while (TURNS > 1 && first < pieces);
}

/* The same where it is small: a piece a thread. */
static __global__ void __launch_bounds__(THREADS)
    quantize_small_run(size_t pieces, const quantize_args a)
{
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;

    fp4_pdl_wait();
    const raw v = LOAD((const uint8_t *)a.x + (i < pieces ? i : 0) * (16 * ELEMENT));
    const float global_enc = scale_at(&a.global, 0, 0);
    const float dec = ELEMENT == 1 ? scale_at(&a.x_dec, 0, 0) : 1.0f;
    fp4_pdl_trigger();
    const piece p = QUANTIZE(widen(v, dec), global_enc);
    if (i < pieces) {
        STORE(a.q + i * CODES, p.q);
        if (i % LANES == 0) {
            a.sf[i / LANES] = p.sf;
        }
    }
}

/* The row of the matrix that is row k of a tile of `rows` rows. What is contiguous in the scale
   buffer is contiguous in k and the columns: for 128x4 a tile takes a run of rows of each quarter
   of 128. */
static __device__ uint32_t row_of(uint32_t k, uint32_t tile, uint32_t rows)
{
    if (LAYOUT == FP4_LAYOUT_128X4) {
        const uint32_t run = rows / 4;
        return tile / (32 / run) * 128 + tile % (32 / run) * run + k / run * 32 + k % run;
    }
    return tile * rows + k;
}

/* Where the scale byte of row k, scale column c of the tile stands in shared memory: as in the
   buffer. */
static __device__ uint32_t staged_at(uint32_t k, uint32_t c, uint32_t rows, uint32_t sf_cols)
{
    if (LAYOUT == FP4_LAYOUT_128X4) { /* a row of the run has 16 bytes, 4 from each quarter */
        const uint32_t run = rows / 4;
        return c / 4 * (4 * rows) + k % run * 16 + k / run * 4 + c % 4;
    }
    return k / 8 * (8 * sf_cols) + c / 4 * 32 + k % 8 * 4 + c % 4;
}

/* The tile's scale bytes from shared memory to the buffer, 16 a thread: the inverse of staged_at.
   */
static __device__ void store_staged(uint8_t *sf, const uint4 *staged, uint32_t tile, uint32_t rows,
                                    uint32_t sf_cols, const quantize_tiles *t)
{
    const uint32_t at = threadIdx.x * 16;
    const int is_128x4 = LAYOUT == FP4_LAYOUT_128X4;
    const uint32_t c = is_128x4 ? at / (4 * rows) * 4 : at % (8 * sf_cols) / 32 * 4;
    const uint32_t k = is_128x4 ? at % (4 * rows) / 16 : at / (8 * sf_cols) * 8 + at % 32 / 4;
    const uint32_t row = row_of(k, tile, rows), col = blockIdx.x * sf_cols + c;

    if (row < fp4_sf_rows_padded(LAYOUT, t->rows) && col < t->q_cols / LANES) {
        *(uint4 *)(sf + fp4_sf_offset(LAYOUT, row, col, t->q_cols / LANES)) = staged[threadIdx.x];
    }
}

/* The matrix a CTA works on, from its column on. */
typedef struct place {
    const uint8_t *x;
    uint8_t *q, *sf;
    size_t batch;
    uint32_t col;
} place;

/* A tile of THREADS * EACH pieces, `cols` of them in a row, all of them in x where full (constants
   all). Every byte of the padded scale buffer belongs to one thread of the grid; where x has no
   such block it is 0, and so are the codes. */
static __device__ __forceinline__ void quantize_tile(const quantize_tiles &t, const place &at,
                                                     const factors &f, uint4 *staged, uint32_t tile,
                                                     const uint32_t cols, const int full)
{
    const uint32_t rows = THREADS * EACH / cols;
    const uint32_t k = threadIdx.x / cols, c = threadIdx.x % cols;
    const uint32_t row = row_of(k, tile, rows);
    const uint32_t step = (LAYOUT == FP4_LAYOUT_128X4 ? 128 : rows) / EACH; /* to the next piece */
    raw v[EACH];

#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t r = row + j * step;
        v[j] = LOAD(at.x + (size_t)(full || r < t.rows ? r : 0) * t.x_row);
    }
    fp4_pdl_trigger();
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t r = row + j * step;
        const int is_row = full || r < t.rows;
        float global_enc = f.global_enc;
        if (t.global.row_step != 0 && is_row) {
            global_enc = scale_at(&t.global, at.batch, r);
        }
        piece p = quantize_piece(v[j], f, global_enc);
        if (!is_row || !(full || at.col < t.cols)) {
            p = piece();
        }
        if (is_row && (full || at.col < t.q_cols)) {
            STORE(at.q + (size_t)r * t.q_row, p.q);
            if (LAYOUT == FP4_LAYOUT_LINEAR && at.col % LANES == 0) {
                at.sf[((size_t)r * t.q_cols + at.col) / LANES] = p.sf;
            }
        }
        if (LAYOUT != FP4_LAYOUT_LINEAR && c % LANES == 0) {
            ((uint8_t *)staged)[staged_at(k + j * (rows / EACH), c / LANES, rows, cols / LANES)] =
                p.sf;
        }
    }
    if (LAYOUT != FP4_LAYOUT_LINEAR) {
        fp4_ptx_barrier();
        if (threadIdx.x < rows * cols / LANES / 16) {
            store_staged(at.sf, staged, tile, rows, cols / LANES, &t);
        }
    }
}

/* A CTA's tiles: one, or some of one matrix, for any layout, stride, batch and padding.
   Neighbouring CTAs work on neighbouring columns. */
static __device__ __forceinline__ void quantize_tiles_of(const quantize_tiles &t,
                                                         const uint32_t cols)
{
    __shared__ uint4 staged[TURNS > 1 ? 2 : 1][THREADS * EACH / LANES / 16],
        table[2 * FP4_REQUANT_ROWS];
    const uint32_t rows = THREADS * EACH / cols;
    const uint32_t down = blockIdx.z * gridDim.y + blockIdx.y;
    uint32_t tile = t.batches == 1 ? down : down % t.stride;
    place at;

    if (down >= t.down) {
        return; /* the last of a grid with a third dimension */
    }
    at.col = blockIdx.x * cols + threadIdx.x % cols;
    at.batch = t.batches == 1 ? 0 : down / t.stride;
    at.x = t.x + at.batch * t.x_matrix + (at.col < t.cols ? at.col : 0) * (16 * ELEMENT);
    at.q = t.q + at.batch * t.q_matrix + at.col * CODES;
    at.sf = t.sf + at.batch * t.sf_matrix;
    fp4_pdl_wait();
    const factors f = factors_of(t.global, t.x_dec, at.batch, t.global.row_step == 0, table);
    for (uint32_t turn = 0; turn < TURNS && tile < t.per_matrix; turn++) {
        const uint32_t last_row = row_of(rows - 1, tile, rows);
        uint4 *stage = staged[TURNS > 1 ? turn % 2 : 0]; /* the other may still be read */
        if (last_row < t.rows && (blockIdx.x + 1) * cols <= t.cols) {
            quantize_tile(t, at, f, stage, tile, cols, 1);
        } else {
            quantize_tile(t, at, f, stage, tile, cols, 0);
        }
        tile += t.stride;
    }
}

/* The kernels: by the width of a tile. */
enum { WIDE = THREADS * EACH / 8, MIDDLE = 16, NARROW = 4 * LANES };

static __global__ void __launch_bounds__(THREADS, RESIDENT) quantize_wide(const quantize_tiles t)
{
    quantize_tiles_of(t, WIDE);
}

static __global__ void __launch_bounds__(THREADS, RESIDENT) quantize_middle(const quantize_tiles t)
{
    quantize_tiles_of(t, MIDDLE);
}

static __global__ void __launch_bounds__(THREADS, RESIDENT) quantize_narrow(const quantize_tiles t)
{
    quantize_tiles_of(t, NARROW);
}

/* Small shapes, where what takes time is what a thread does one after the other: a piece each, and
   every scale byte on its own to its place. A CTA takes blockDim.y rows of blockDim.x pieces. */
static __global__ void __launch_bounds__(THREADS) quantize_small(const quantize_tiles t)
{
    const uint32_t col = blockIdx.x * blockDim.x + threadIdx.x;
    const uint32_t row = blockIdx.y * blockDim.y + threadIdx.y;
    const size_t batch = blockIdx.z;
    piece p = piece();

    fp4_pdl_wait();
    if (row - (threadIdx.y & t.warp_rows) < t.rows) { /* the warp has a real row */
        const int is_real = row < t.rows && col < t.cols;
        const raw v = LOAD(t.x + batch * t.x_matrix + (size_t)(is_real ? row : 0) * t.x_row +
                           (is_real ? col : 0) * (16 * ELEMENT));
        const float global_enc = scale_at(&t.global, batch, row < t.rows ? row : 0);
        const float dec = ELEMENT == 1 ? scale_at(&t.x_dec, batch, 0) : 1.0f;

        fp4_pdl_trigger();
        p = QUANTIZE(widen(v, dec), global_enc);
        p = is_real ? p : piece();
        if (row < t.rows && col < t.q_cols) {
            STORE(t.q + batch * t.q_matrix + (size_t)row * t.q_row + col * CODES, p.q);
        }
    }
    if (row < t.sf_rows && col / LANES < t.sf_cols && col % LANES == 0) {
        t.sf[batch * t.sf_matrix + fp4_sf_offset(LAYOUT, row, col / LANES, t.sf_cols)] = p.sf;
    }
}

/* ------------------------------------------------------------------------------ launcher */

/* Not positive and finite. Device scales cannot be looked at here. */
static int is_bad_scale(const quantize_scale *s)
{
    return s->device != NULL ? (size_t)s->device % 4 != 0
                             : !(s->value > 0.0f && s->value <= FP4_F32_MAX);
}

/* The reciprocal of what is multiplied by is needed too, and infinite up to 2^-128. */
static int is_bad_global(const quantize_scale *s)
{
    const float enc = s->is_dec ? fp4_nvfp4_global_enc_from_dec(s->value) : s->value;
    return is_bad_scale(s) || (s->device == NULL && enc <= 2.9387358770557188e-39f);
}

static int is_bad(const quantize_args *a)
{
    const int is_tiled = LAYOUT != FP4_LAYOUT_LINEAR;

    return a->q == NULL || a->sf == NULL || a->x == NULL ||                         /* null */
           a->cols % BLOCK != 0 || a->q_cols % BLOCK != 0 || a->q_cols < a->cols || /* shape */
           a->cols == 0 || a->rows > 0xffffff00u || a->q_cols / 16 > 0xffffffffu / CODES ||
           a->batches > 0xffffffffu ||
           a->rows * (a->q_cols / 16) > (size_t)-1 / CODES / a->batches ||     /* bytes of q */
           a->row_stride < a->cols || a->row_stride > 0xffffffffu / ELEMENT || /* strides */
           a->row_stride * ELEMENT % 16 != 0 ||
           (a->batches > 1 && (a->batch_stride > (size_t)-1 / ELEMENT / a->batches ||
                               a->batch_stride * ELEMENT % 16 != 0)) ||
           (size_t)a->x % 16 != 0 || (size_t)a->q % CODES != 0 || /* alignment */
           (is_tiled && (size_t)a->sf % 16 != 0) || (BLOCK == 16 && is_bad_global(&a->global)) ||
           (ELEMENT == 1 && (is_bad_scale(&a->x_dec) || a->x_dec.row_step != 0));
}

/* A tile `width` pieces wide wastes no more than an eighth of its columns. */
static int fits(uint32_t cols, uint32_t width)
{
    return ((size_t)cols + cols / 8) / width * width >= cols;
}

/* CTAs for `tiles`, and `times` as many in all: one each, unless that is more than enough. */
static size_t ctas_for(size_t tiles, size_t times)
{
    const size_t enough = (ENOUGH + times - 1) / times, least = (tiles + TURNS - 1) / TURNS;
    return tiles < enough ? tiles : least < enough ? enough : least;
}

/* What the kernel needs to know of a scale, found out on the host where that is possible. */
static void settle(quantize_scale *s)
{
    if (s->device == NULL && s->is_dec) {
        s->value = fp4_nvfp4_global_enc_from_dec(s->value);
        s->is_dec = 0;
    }
    s->has_steps = (s->row_step | s->batch_step) != 0;
}

static cudaError_t launch(const void *kernel, size_t across, size_t down, size_t deep,
                          uint32_t width, void **arguments, int pdl, cudaStream_t stream)
{
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};

    if (across > 0x7fffffffu || down > 65535 || deep > 65535) {
        return cudaErrorInvalidValue;
    }
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3((unsigned)across, (unsigned)down, (unsigned)deep);
    config.blockDim = dim3(width, THREADS / width);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = pdl ? 1 : 0;
    return cudaLaunchKernelExC(&config, kernel, arguments);
}

/**
 * Quantizes on `stream`: one launch, no allocation, no synchronization, nothing read on the host,
 * so that a CUDA graph can capture it.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory. Only with code compiled for sm_90 or later: PTX of an older
 *          target cannot wait.
 * errors   cudaErrorInvalidValue for a bad shape, stride, alignment, scale or null pointer: nothing
 *          launched, nothing written. batches or rows = 0, or cols and q_cols = 0, is no error.
 */
static cudaError_t quantize(const quantize_args *a, int pdl, cudaStream_t stream)
{
    quantize_args args = *a;
    quantize_tiles t = {};
    void *arguments[] = {&t};
    size_t across, deep;
    uint32_t width;

    if (a->batches == 0 || a->rows == 0 || (a->cols | a->q_cols) == 0) {
        return cudaSuccess;
    }
    if (is_bad(a)) {
        return cudaErrorInvalidValue;
    }
    args.x_dec.is_dec = 0; /* it is used as it is */
    settle(&args.global);
    settle(&args.x_dec);
    t.x = (const uint8_t *)a->x;
    t.q = a->q;
    t.sf = a->sf;
    t.global = args.global;
    t.x_dec = args.x_dec;
    t.rows = (uint32_t)a->rows;
    t.cols = (uint32_t)(a->cols / 16);
    t.q_cols = (uint32_t)(a->q_cols / 16);
    t.sf_rows = (uint32_t)fp4_sf_rows_padded(LAYOUT, a->rows);
    t.sf_cols = (uint32_t)fp4_sf_cols_padded(LAYOUT, a->q_cols / BLOCK);
    t.x_row = (uint32_t)(a->row_stride * ELEMENT);
    t.q_row = t.q_cols * CODES;
    t.x_matrix = a->batch_stride * ELEMENT;
    t.q_matrix = a->rows * t.q_row;
    t.sf_matrix = fp4_sf_bytes(LAYOUT, a->rows, a->q_cols / BLOCK);

    if (LAYOUT == FP4_LAYOUT_LINEAR && a->row_stride == a->cols && a->q_cols == a->cols &&
        (a->batches == 1 || a->batch_stride == a->rows * a->cols) &&
        !(args.global.has_steps || args.x_dec.has_steps)) {
        size_t pieces = a->batches * a->rows * t.q_cols;
        const int is_small = pieces <= SMALL;
        const size_t in_cta = is_small ? THREADS : THREADS * EACH;
        const size_t ctas = (pieces + in_cta - 1) / in_cta;
        void *run_arguments[] = {&pieces, &args};
        return launch(is_small ? (const void *)quantize_small_run : (const void *)quantize_run,
                      is_small ? ctas : ctas_for(ctas, 1), 1, 1, THREADS, run_arguments, pdl,
                      stream);
    }
    if (a->batches * t.sf_rows * t.q_cols <= SMALL && a->batches <= 65535) {
        const uint32_t cols = t.sf_cols * LANES;
        width = THREADS;
        while (width > 4 && !fits(cols, width)) {
            width /= 2;
        }
        t.warp_rows = width < 32 ? 32 / width - 1 : 0;
        return launch((const void *)quantize_small, (cols + width - 1) / width,
                      (t.sf_rows + THREADS / width - 1) / (THREADS / width), a->batches, width,
                      arguments, pdl, stream);
    }
    width = fits(t.q_cols, WIDE) ? WIDE : fits(t.q_cols, MIDDLE) ? MIDDLE : NARROW;
    across = (t.q_cols + width - 1) / width;
    t.per_matrix = (t.sf_rows + THREADS * EACH / width - 1) / (THREADS * EACH / width);
    t.stride = (uint32_t)ctas_for(t.per_matrix, a->batches * across);
    if (a->batches > 0xffffffffu / t.stride) {
        return cudaErrorInvalidValue;
    }
    t.batches = (uint32_t)a->batches;
    t.down = t.batches * t.stride;
    deep = ((size_t)t.down + 65534) / 65535; /* the second dimension of a grid ends at 65535 */
    return launch(width == WIDE     ? (const void *)quantize_wide
                  : width == MIDDLE ? (const void *)quantize_middle
                                    : (const void *)quantize_narrow,
                  across, (t.down + deep - 1) / deep, deep, THREADS, arguments, pdl, stream);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/compare.h>

#include <stdlib.h>

#define DTYPE_f32 FP4_F32
#define DTYPE_f16 FP4_F16
#define DTYPE_bf16 FP4_BF16
#define DTYPE_e4m3 FP4_E4M3
#define FORMAT_nvfp4 FP4_NVFP4
#define FORMAT_mxfp4 FP4_MXFP4
#define FORMAT_mxfp8 FP4_MXFP8
#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

static const float global_enc = 448.0f, x_dec = 0.5f;

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "quantize: %s\n", cudaGetErrorString(error));
        exit(1);
    }
}

static __global__ void ask_native(int *answer)
{
    if (threadIdx.x == 0) {
        *answer = CODES == 16 ? fp4_is_native_e4m3() : fp4_is_native();
    }
}

/* Elements of any bits, but with exponents between 2^-6 and 2^3: the top byte holds sign and most
   of the exponent. */
static void fill(uint8_t *x, size_t bytes)
{
    uint32_t state = 1;
    for (size_t i = 0; i < bytes; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (uint8_t)(state >> 24);
        if (ELEMENT > 1 && i % ELEMENT == ELEMENT - 1) {
            x[i] = (uint8_t)((x[i] & 0x83) | 0x3c);
        } else if (ELEMENT == 1) {
            x[i] = (uint8_t)((x[i] & 0x9f) | 0x20);
        }
    }
}

/* A batch on the device, its outputs poisoned: a byte that is not written will show. */
static quantize_args make_args(size_t rows, size_t cols)
{
    const size_t q_bytes = rows * cols / 16 * CODES;
    const size_t sf_bytes = fp4_sf_bytes(LAYOUT, rows, cols / BLOCK);
    quantize_args a = {};
    void *p;

    must(cudaMalloc(&p, rows * cols * ELEMENT));
    a.x = p;
    must(cudaMalloc(&p, q_bytes));
    a.q = (uint8_t *)p;
    must(cudaMalloc(&p, sf_bytes));
    a.sf = (uint8_t *)p;
    must(cudaMemset(a.q, 0x7f, q_bytes));
    must(cudaMemset(a.sf, 0x7f, sf_bytes));
    a.batches = 1;
    a.rows = rows;
    a.cols = a.q_cols = a.row_stride = cols;
    a.global.value = global_enc;
    a.x_dec.value = x_dec;
    return a;
}

/* The kernel's bytes and the host reference's, for one matrix. */
static int check(size_t rows, size_t cols)
{
    const size_t x_bytes = rows * cols * ELEMENT, q_bytes = rows * cols / 16 * CODES;
    const size_t sf_bytes = fp4_sf_bytes(LAYOUT, rows, cols / BLOCK);
    uint8_t *memory = (uint8_t *)malloc(x_bytes + 2 * (q_bytes + sf_bytes));
    uint8_t *x = memory, *q = x + x_bytes, *sf = q + 2 * q_bytes;
    const fp4_matrix m = {x, JOIN(DTYPE_, INPUT, ), rows, cols, cols, ELEMENT == 1 ? x_dec : 1.0f};
    fp4_tensor got =
        fp4_tensor_view(JOIN(FORMAT_, FORMAT, ), LAYOUT, rows, cols, q, q_bytes, sf, sf_bytes);
    fp4_tensor expected = fp4_tensor_view(JOIN(FORMAT_, FORMAT, ), LAYOUT, rows, cols, q + q_bytes,
                                          q_bytes, sf + sf_bytes, sf_bytes);
    const quantize_args a = make_args(rows, cols);
    char text[FP4_DIFFERENCE_TEXT];
    fp4_difference d = {};
    fp4_status status;

    fill(x, x_bytes);
    must(cudaMemcpy((void *)a.x, x, x_bytes, cudaMemcpyHostToDevice));
    must(quantize(&a, 0, 0));
    must(cudaMemcpy(q, a.q, q_bytes, cudaMemcpyDeviceToHost));
    must(cudaMemcpy(sf, a.sf, sf_bytes, cudaMemcpyDeviceToHost));
    status = fp4_ref_quantize(m, global_enc, &expected);
    if (status != FP4_OK) {
        fprintf(stderr, "host: %s\n", fp4_status_text(status));
        exit(1);
    }
    got.global_dec = expected.global_dec;
    const int same = fp4_ref_same(&got, &expected, &d);
    printf("%zu x %zu, device and host: %s\n", rows, cols,
           fp4_difference_text(&d, text, sizeof(text)));
    free(memory);
    return same;
}

/* Median of 20 launches, and what they moved. */
static void measure(size_t rows, size_t cols)
{
    const quantize_args a = make_args(rows, cols);
    const double bytes = (double)(rows * cols * ELEMENT + rows * cols / 16 * CODES) +
                         (double)fp4_sf_bytes(LAYOUT, rows, cols / BLOCK);
    cudaEvent_t start, stop;
    float ms[20];

    must(cudaMemset((void *)a.x, 0x3d, rows * cols * ELEMENT));
    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        must(quantize(&a, 0, 0));
        must(cudaEventRecord(stop, 0));
        must(cudaEventSynchronize(stop));
        must(cudaEventElapsedTime(&ms[i], start, stop));
        for (int j = i; j > 0 && ms[j] < ms[j - 1]; j--) {
            const float swap = ms[j];
            ms[j] = ms[j - 1];
            ms[j - 1] = swap;
        }
    }
    printf("%zu x %zu: %.1f us, %.0f GB/s\n", rows, cols, 1e3 * ms[10], 1e-6 * bytes / ms[10]);
}

int main(void)
{
    int *native, is_native = 0;
    void *arguments[] = {&native};

    must(cudaMalloc((void **)&native, sizeof(int)));
    must(launch((const void *)ask_native, 1, 1, 1, THREADS, arguments, 0, 0));
    must(cudaMemcpy(&is_native, native, sizeof(int), cudaMemcpyDeviceToHost));
    printf("%s to %s, scales %s, conversion %s\n", TEXT(INPUT), TEXT(FORMAT), TEXT(LAYOUT),
           is_native ? "in hardware" : "emulated: this target has no such instruction");
    /* the small kernels, and each of the large ones */
    if (!check(1, 64) || !check(200, 1056) || !check(4100, 4096) || !check(11000, 768) ||
        !check(8000, 1056)) {
        return 1;
    }
    measure(16384, 8192);
    return 0;
}
#endif
