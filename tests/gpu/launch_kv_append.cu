/*
 * tests/gpu/launch_kv_append.cu - the launcher of examples/13_kv_append.cu for one INPUT, under a
 * name of its own (launch.h).
 */
#define NO_MAIN
#include "../../examples/13_kv_append.cu"

#include "launch.h"

static append_tensor side_from(const launch_append_tensor *from)
{
    append_tensor to = {};

    to.x = from->x;
    to.x_token = from->x_token;
    to.x_head = from->x_head;
    to.q = from->q;
    to.sf = from->sf;
    to.pages = from->pages;
    to.global.device = from->scale_device;
    to.global.sense = (fp4_kv_sense)from->sense;
    to.global.value = from->scale;
    return to;
}

extern "C" cudaError_t LAUNCH_APPEND(INPUT)(const launch_append_args *args, int pdl,
                                            cudaStream_t stream)
{
    append_args a = {};

    a.k = side_from(&args->k);
    a.v = side_from(&args->v);
    a.tokens = args->tokens;
    a.slots.data = args->slots;
    a.slots.is_64 = args->slots_are_64;
    a.positions.data = args->positions;
    a.positions.is_64 = args->positions_are_64;
    a.tables.data = args->tables;
    a.tables.is_64 = args->tables_are_64;
    a.batch_indices = args->batch_indices;
    a.indptr = args->indptr;
    a.batches = args->batches;
    a.max_pages = args->max_pages;
    a.table_stride = args->table_stride;
    a.cos_sin = args->cos_sin;
    a.max_position = args->max_position;
    a.rotary = args->rotary;
    a.style = (fp4_rope_style)args->style;
    a.rounded = args->rounded;
    a.k_out = args->k_out;
    a.k_out_token = args->k_out_token;
    a.k_out_head = args->k_out_head;
    a.skipped = args->skipped;
    return append(&a, pdl, stream);
}
