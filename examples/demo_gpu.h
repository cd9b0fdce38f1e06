/*
 * examples/demo_gpu.h - what demo_rmsnorm asks of a GPU. demo_gpu.cu answers, compiled once for
 * each format; a program built without it (no -DDEMO_GPU) finds no GPU.
 */
#ifndef FP4_EXAMPLES_DEMO_GPU_H
#define FP4_EXAMPLES_DEMO_GPU_H

#include <fp4/host/tensor.h>

/** Tokens and how they are quantized. x: rows x cols bf16, weight: cols bf16; on the host. */
typedef struct demo_tokens {
    const uint16_t *x, *weight;
    size_t rows, cols;
    float eps;
    float global_enc; /* NVFP4 with one scale; */
    float base_dec;   /* 0, or NVFP4 with a scale a token, made from this */
} demo_tokens;

/** Medians over launches, in seconds. */
typedef struct demo_speed {
    size_t tokens;
    double bytes;   /* read and written by a launch, each once */
    double kernel;  /* seconds of the kernel, */
    double traffic; /* and of one that moves the same bytes and computes nothing */
} demo_speed;

/* Each returns null, or what went wrong. */
#if defined(__cplusplus)
extern "C" {
#endif
#if defined(DEMO_GPU)
/** The name of the GPU that is used. */
const char *demo_gpu_find(char *name, size_t bytes);
/** The kernel's codes and scales of all rows, into t's buffers. */
const char *demo_gpu_nvfp4(const demo_tokens *in, fp4_tensor *t);
const char *demo_gpu_mxfp4(const demo_tokens *in, fp4_tensor *t);
/** The rows again and again, about speed->tokens of them in all. */
const char *demo_gpu_nvfp4_speed(const demo_tokens *in, demo_speed *speed);
const char *demo_gpu_mxfp4_speed(const demo_tokens *in, demo_speed *speed);
#else
static const char demo_gpu_none[] = "built without nvcc or where there is no GPU";

static inline const char *demo_gpu_find(char *name, size_t bytes)
{
    (void)name;
    (void)bytes;
    return demo_gpu_none;
}
static inline const char *demo_gpu_nvfp4(const demo_tokens *in, fp4_tensor *t)
{
    (void)in;
    (void)t;
    return demo_gpu_none;
}
static inline const char *demo_gpu_nvfp4_speed(const demo_tokens *in, demo_speed *speed)
{
    (void)in;
    (void)speed;
    return demo_gpu_none;
}
#define demo_gpu_mxfp4 demo_gpu_nvfp4
#define demo_gpu_mxfp4_speed demo_gpu_nvfp4_speed
#endif
#if defined(__cplusplus)
}
#endif

#endif /* FP4_EXAMPLES_DEMO_GPU_H */
