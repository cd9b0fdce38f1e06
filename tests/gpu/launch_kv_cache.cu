/*
 * tests/gpu/launch_kv_cache.cu - the launchers of examples/12_kv_cache.cu for one INPUT, under
 * names of their own (launch.h).
 */
#define NO_MAIN
#include "../../examples/12_kv_cache.cu"

#include "launch.h"

static kv_scale scale_of(const launch_kv_tensor *t)
{
    const kv_scale s = {t->scale_device, (fp4_kv_sense)t->sense, t->scale};
    return s;
}

static quantize_kv_tensor to_quantize(const launch_kv_tensor *t)
{
    quantize_kv_tensor a = {};

    a.q = t->q;
    a.sf = t->sf;
    a.x = t->x;
    a.x_stride = t->x_stride;
    a.pages = t->pages;
    a.global = scale_of(t);
    a.global_dec = t->global_dec;
    return a;
}

static dequantize_kv_tensor to_dequantize(const launch_kv_tensor *t)
{
    dequantize_kv_tensor a = {};

    a.y = t->y;
    a.strides = t->y_strides;
    a.q = t->q;
    a.sf = t->sf;
    a.pages = t->pages;
    a.global = scale_of(t);
    return a;
}

extern "C" cudaError_t LAUNCH_KV_QUANTIZE(INPUT)(const launch_kv_args *args, int pdl,
                                                 cudaStream_t stream)
{
    const quantize_kv_args a = {to_quantize(&args->of[0]), to_quantize(&args->of[1])};
    return quantize_kv_cache(&a, pdl, stream);
}

extern "C" cudaError_t LAUNCH_KV_DEQUANTIZE(INPUT)(const launch_kv_args *args, int pdl,
                                                   cudaStream_t stream)
{
    dequantize_kv_args a = {};

    a.k = to_dequantize(&args->of[0]);
    a.v = to_dequantize(&args->of[1]);
    a.tables.data = args->tables;
    a.tables.is_64 = args->tables_are_64;
    a.table_stride = args->table_stride;
    a.max_pages = args->max_pages;
    a.seq_lens = args->seq_lens;
    a.batches = args->batches;
    a.max_tokens = args->max_tokens;
    a.skipped = args->skipped;
    return dequantize_kv_cache(&a, pdl, stream);
}
