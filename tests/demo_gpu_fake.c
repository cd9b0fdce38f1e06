/*
 * demo_gpu_fake.c - in place of examples/demo_gpu.cu: a GPU that is none, so that what the demo
 * does with one is tested without. Its kernel is the host reference. FP4_DEMO_FAULT in the
 * environment: "codes", a wrong code in MXFP4; "launch", a kernel that does not start.
 */
#include "../examples/demo_gpu.h"

#include <fp4/host/ops.h>

#include <stdio.h>
#include <stdlib.h>

static int has_fault(const char *fault)
{
    const char *planted = getenv("FP4_DEMO_FAULT");

    return planted != NULL && strcmp(planted, fault) == 0;
}

const char *demo_gpu_find(char *name, size_t bytes)
{
    snprintf(name, bytes, "a GPU that is none");
    return NULL;
}

const char *demo_gpu_nvfp4(const demo_tokens *in, fp4_tensor *t)
{
    const fp4_matrix x = fp4_matrix_bf16(in->x, in->rows, in->cols, in->cols);
    fp4_ref_fused how;

    memset(&how, 0, sizeof how);
    how.global_enc = in->global_enc;
    how.base_dec = in->base_dec;
    return has_fault("launch")                                                   ? "does not start"
           : fp4_ref_rmsnorm_quantize(x, in->weight, in->eps, &how, t) == FP4_OK ? NULL
                                                                                 : "bad arguments";
}

const char *demo_gpu_mxfp4(const demo_tokens *in, fp4_tensor *t)
{
    const char *failed = demo_gpu_nvfp4(in, t);

    if (has_fault("codes")) {
        t->q[in->cols / 2 + 5] ^= 0x20; /* row 1, column 11 */
    }
    return failed;
}

/* 2 GB in a millisecond, a quarter longer than the limit. */
const char *demo_gpu_nvfp4_speed(const demo_tokens *in, demo_speed *speed)
{
    (void)in;
    speed->bytes = 2e9;
    speed->kernel = 1e-3;
    speed->traffic = 0.8e-3;
    return NULL;
}

const char *demo_gpu_mxfp4_speed(const demo_tokens *in, demo_speed *speed)
{
    return demo_gpu_nvfp4_speed(in, speed);
}
