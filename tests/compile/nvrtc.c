/*
 * nvrtc ARCHS FILE...: each FILE must compile under NVRTC for every architecture, with include/ as
 * the only include path and without a word in the log. TARGET_IS_SPECIFIC is 1 for those
 * that end in a or f, else 0.
 *
 *     cc nvrtc.c -I$CUDA_HOME/include -L$CUDA_HOME/lib64 -lnvrtc
 *     ./nvrtc "75 90 100a 120a" build/use/e2m1.h.c
 */
#include <nvrtc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = NULL;
    long size;

    if (file && fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) >= 0 &&
        (text = calloc((size_t)size + 1, 1)) != NULL) {
        rewind(file);
        if (fread(text, 1, (size_t)size, file) != (size_t)size) {
            free(text);
            text = NULL;
        }
    }
    if (file) {
        fclose(file);
    }
    return text;
}

/* 0 where it compiles, and to a cubin that holds the kernel. */
static int compile(const char *path, const char *text, const char *arch)
{
    char arch_option[64];
    const int is_specific = arch[strlen(arch) - 1] > '9';
    const char *options[] = {arch_option, "--include-path=include", "--std=c++17",
                             is_specific ? "--define-macro=TARGET_IS_SPECIFIC=1"
                                         : "--define-macro=TARGET_IS_SPECIFIC=0"};
    nvrtcProgram program;
    nvrtcResult result;
    size_t log_size = 0, cubin_size = 0;
    char *log;
    int failed = 1;

    snprintf(arch_option, sizeof arch_option, "--gpu-architecture=sm_%s", arch);
    if (nvrtcCreateProgram(&program, text, path, 0, NULL, NULL) != NVRTC_SUCCESS) {
        return 1;
    }
    result = nvrtcCompileProgram(program, 4, options);
    if (nvrtcGetProgramLogSize(program, &log_size) == NVRTC_SUCCESS &&
        (log = calloc(log_size + 1, 1)) != NULL) {
        if (nvrtcGetProgramLog(program, log) == NVRTC_SUCCESS) {
            const int silent = strspn(log, " \t\r\n") == strlen(log);

            if (result == NVRTC_SUCCESS && silent &&
                nvrtcGetCUBINSize(program, &cubin_size) == NVRTC_SUCCESS && cubin_size > 0) {
                failed = 0;
            } else {
                printf("%s for sm_%s: %s\n%s\n", path, arch, nvrtcGetErrorString(result), log);
            }
        }
        free(log);
    }
    nvrtcDestroyProgram(&program);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0, compiled = 0, i;

    for (i = 2; i < argc; i++) {
        char *text = read_file(argv[i]);
        const char *arch = argv[1];

        if (!text) {
            printf("%s: cannot be read\n", argv[i]);
            return 1;
        }
        while (*arch) {
            char name[16] = "";
            const size_t length = strcspn(arch, " ");

            if (length > 0 && length < sizeof name) {
                memcpy(name, arch, length);
                failed += compile(argv[i], text, name);
                compiled++;
            }
            arch += length + (arch[length] == ' ');
        }
        free(text);
    }
    printf("%d compiled, %d of them failed\n", compiled, failed);
    return failed > 0 || compiled == 0;
}
