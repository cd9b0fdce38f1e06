/*
 * The program examples/quantize_safetensors.c inside the test program, so that its tests need no
 * second executable and meet it as each build of the tests compiles it: optimised, with OpenMP,
 * under the sanitizers. Started with FP4_RUN_EXAMPLE in its environment, the test program is the
 * example, before Criterion comes into play.
 */
#define main quantize_safetensors_main
#include "../examples/quantize_safetensors.c"
#undef main

/* glibc hands constructors the arguments of main. */
__attribute__((constructor)) static void run_example(int argc, char **argv)
{
    if (getenv("FP4_RUN_EXAMPLE") != NULL) {
        exit(quantize_safetensors_main(argc, argv));
    }
}
