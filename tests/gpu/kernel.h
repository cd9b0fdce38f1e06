/*
 * tests/gpu/kernel.h - kernel<<<grid, cta>>>(arguments...), in words that a compiler without CUDA
 * understands too: these files also run on the CPU (tests/simt).
 */
#ifndef FP4_TESTS_GPU_KERNEL_H
#define FP4_TESTS_GPU_KERNEL_H

#if defined(SIMT_UNIT)
#define GPU_LAUNCH(kernel, grid, cta, ...) SIMT_LAUNCH(kernel, grid, cta, __VA_ARGS__)
#else
#define GPU_LAUNCH(kernel, grid, cta, ...) kernel<<<grid, cta>>>(__VA_ARGS__)
#endif

#endif /* FP4_TESTS_GPU_KERNEL_H */
