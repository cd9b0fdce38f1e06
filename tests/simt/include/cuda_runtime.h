/*
 * tests/simt/include/cuda_runtime.h - CUDA C++ as far as kernels use it, for a compiler that knows
 * nothing of CUDA. Included in front of every .cu file (-include), as nvcc does with its own.
 *
 * -D__CUDA_ARCH__=900 says which target to be; a file is compiled once, so that its host code is
 * told so too. -DSIMT_UNIT=name says what the file is called in messages.
 */
#ifndef FP4_TESTS_SIMT_CUDA_RUNTIME_H
#define FP4_TESTS_SIMT_CUDA_RUNTIME_H

#include "../simt.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- qualifiers */

#define SIMT_TEXT_(word) #word
#define SIMT_TEXT(word) SIMT_TEXT_(word)
#define SIMT_JOIN_(a, b) a##b
#define SIMT_JOIN(a, b) SIMT_JOIN_(a, b)

#define __host__
#define __device__ __attribute__((unused))
#define __global__ __attribute__((noinline))
#define __forceinline__ inline
#define __constant__ __attribute__((unused))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __noinline__ /* gcc's own attributes have this name too */
#define __launch_bounds__(...)
#define __restrict__ __restrict

/* Shared memory of a file stands together, in a section of its own, so that the machine knows it.
   There is one copy: CTAs run one after the other. Dynamic shared memory is simt_dynamic_shared();
   of `extern __shared__` one.sh makes that. */
#define __shared__ static __attribute__((section("shared_" SIMT_TEXT(SIMT_UNIT))))

/* Not what track.cpp should look at: the machine's own accesses, and atomic ones. */
#define SIMT_NOT_TRACKED __attribute__((no_sanitize("thread")))

#define FP4_HD static inline __attribute__((unused))
#define FP4_D static inline __attribute__((unused))

extern "C" {
extern uint8_t SIMT_JOIN(__start_shared_, SIMT_UNIT)[] __attribute__((weak));
extern uint8_t SIMT_JOIN(__stop_shared_, SIMT_UNIT)[] __attribute__((weak));
}

/* ---------------------------------------------------------------- vectors, built-in variables */

struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(16) ulonglong2 {
    unsigned long long x, y;
};
struct alignas(8) ushort4 {
    unsigned short x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct float3 {
    float x, y, z;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

static inline __attribute__((unused)) uint2 make_uint2(unsigned x, unsigned y)
{
    return {x, y};
}

static inline __attribute__((unused)) uint4 make_uint4(unsigned x, unsigned y, unsigned z,
                                                       unsigned w)
{
    return {x, y, z, w};
}

static inline __attribute__((unused)) int2 make_int2(int x, int y)
{
    return {x, y};
}

static inline __attribute__((unused)) int4 make_int4(int x, int y, int z, int w)
{
    return {x, y, z, w};
}

static inline __attribute__((unused)) ulonglong2 make_ulonglong2(unsigned long long x,
                                                                 unsigned long long y)
{
    return {x, y};
}

static inline __attribute__((unused)) float2 make_float2(float x, float y)
{
    return {x, y};
}

static inline __attribute__((unused)) float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
enum { warpSize = 32 };

/* ---------------------------------------------------------------- rounding, bits */

FP4_D float __uint_as_float(unsigned bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

FP4_D unsigned __float_as_uint(float x)
{
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* A float of which the compiler does not know where it is from: no product that it could fuse with
   a sum, as it may where it contracts (SIMT_CONTRACTS). */
FP4_D float simt_alone(float x)
{
#if defined(SIMT_CONTRACTS)
    __asm__("" : "+m"(x));
#endif
    return x;
}

/* Nearest even is how the host rounds. */
FP4_D float __fmul_rn(float a, float b)
{
    return simt_alone(a * b);
}

FP4_D float __fadd_rn(float a, float b)
{
    return simt_alone(a) + simt_alone(b);
}

FP4_D float __fsub_rn(float a, float b)
{
    return simt_alone(a) - simt_alone(b);
}

FP4_D float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}

FP4_D float __fdiv_rn(float a, float b)
{
    return a / b;
}

FP4_D float __frcp_rn(float x)
{
    return 1.0f / x;
}

/* The functions of a GPU are less exact than these. The C library has its own __expf, __logf. */
#define __expf(x) expf(x)
#define __logf(x) logf(x)

FP4_D float __fsqrt_rn(float x)
{
    return sqrtf(x);
}

FP4_D float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}

FP4_D float __fdividef(float a, float b)
{
    return a / b;
}

FP4_D float __saturatef(float x)
{
    return fminf(fmaxf(x, 0.0f), 1.0f); /* of NaN 0 */
}

FP4_D int __float2int_rn(float x)
{
    return (int)lrintf(x);
}

FP4_D int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

FP4_D int __clz(int x)
{
    return x == 0 ? 32 : __builtin_clz((unsigned)x);
}

FP4_D int __ffs(int x)
{
    return __builtin_ffs(x);
}

template <class T> static inline T __ldg(const T *p)
{
    return *p;
}

template <class T> static inline T min(T a, T b)
{
    return b < a ? b : a;
}

template <class T> static inline T max(T a, T b)
{
    return a < b ? b : a;
}

/* ---------------------------------------------------------------- threads */

/* The line of a call comes along as a default argument, for messages. */
#define SIMT_LINE const char *file = __builtin_FILE(), int line = __builtin_LINE()

FP4_D void __syncthreads(SIMT_LINE)
{
    simt_barrier(file, line);
}

FP4_D void __syncwarp(unsigned mask = 0xffffffffu, SIMT_LINE)
{
    simt_warp(SIMT_SYNCWARP, mask, 0, 0, 32, file, line);
}

FP4_D unsigned __ballot_sync(unsigned mask, int predicate, SIMT_LINE)
{
    return simt_warp(SIMT_BALLOT, mask, predicate != 0, 0, 32, file, line);
}

FP4_D int __any_sync(unsigned mask, int predicate, SIMT_LINE)
{
    return simt_warp(SIMT_BALLOT, mask, predicate != 0, 0, 32, file, line) != 0;
}

FP4_D int __all_sync(unsigned mask, int predicate, SIMT_LINE)
{
    return simt_warp(SIMT_BALLOT, mask, predicate != 0, 0, 32, file, line) == mask;
}

#define SIMT_SHUFFLES_(type, to_bits, from_bits) \
    FP4_D type __shfl_sync(unsigned mask, type x, int lane, int width = 32, SIMT_LINE) \
    { \
        return from_bits( \
            simt_warp(SIMT_SHUFFLE, mask, to_bits(x), lane, (uint32_t)width, file, line)); \
    } \
    FP4_D type __shfl_xor_sync(unsigned mask, type x, int lanes, int width = 32, SIMT_LINE) \
    { \
        return from_bits( \
            simt_warp(SIMT_SHUFFLE_XOR, mask, to_bits(x), lanes, (uint32_t)width, file, line)); \
    } \
    FP4_D type __shfl_up_sync(unsigned mask, type x, unsigned by, int width = 32, SIMT_LINE) \
    { \
        return from_bits( \
            simt_warp(SIMT_SHUFFLE_UP, mask, to_bits(x), by, (uint32_t)width, file, line)); \
    } \
    FP4_D type __shfl_down_sync(unsigned mask, type x, unsigned by, int width = 32, SIMT_LINE) \
    { \
        return from_bits( \
            simt_warp(SIMT_SHUFFLE_DOWN, mask, to_bits(x), by, (uint32_t)width, file, line)); \
    }

SIMT_SHUFFLES_(float, __float_as_uint, __uint_as_float)
SIMT_SHUFFLES_(unsigned, unsigned, unsigned)
SIMT_SHUFFLES_(int, unsigned, int)

/* One thread runs at a time, and none is interrupted. */
template <class T, class U> static inline SIMT_NOT_TRACKED T atomicAdd(T *at, U value)
{
    const T before = *at;
    *at = before + value;
    return before;
}

template <class T, class U> static inline SIMT_NOT_TRACKED T atomicMin(T *at, U value)
{
    const T before = *at;
    *at = value < before ? value : before;
    return before;
}

template <class T, class U> static inline SIMT_NOT_TRACKED T atomicMax(T *at, U value)
{
    const T before = *at;
    *at = before < value ? value : before;
    return before;
}

template <class T, class U> static inline SIMT_NOT_TRACKED T atomicExch(T *at, U value)
{
    const T before = *at;
    *at = value;
    return before;
}

template <class T, class U, class V>
static inline SIMT_NOT_TRACKED T atomicCAS(T *at, U expected, V value)
{
    const T before = *at;
    *at = before == (T)expected ? (T)value : before;
    return before;
}

/** Ends the run. */
FP4_D void __trap(void)
{
    simt_fail("__trap() was called");
}

FP4_D void __threadfence(void)
{
}

FP4_D void __threadfence_block(void)
{
}

/* Time passes whenever one looks. */
FP4_D long long clock64(void)
{
    static long long now;
    return now += 1000;
}

/* ---------------------------------------------------------------- launches */

template <class T> struct simt_same {
    typedef T type;
};
template <size_t... I> struct simt_numbers {
};
template <size_t N, size_t... I> struct simt_up_to : simt_up_to<N - 1, N - 1, I...> {
};
template <size_t... I> struct simt_up_to<0, I...> {
    typedef simt_numbers<I...> type;
};

/* A call through untyped pointers, as cudaLaunchKernelExC has them, for kernels of one type. */
template <class... P> struct simt_call {
    template <size_t... I>
    static SIMT_NOT_TRACKED void with(void (*kernel)(P...), void **arguments, simt_numbers<I...>)
    {
        (void)arguments;
        kernel(*(P *)arguments[I]...);
    }
    static SIMT_NOT_TRACKED void run(const void *function, void **arguments)
    {
        with((void (*)(P...))function, arguments, typename simt_up_to<sizeof...(P)>::type());
    }
};

/* Makes what has this address known, unless it is: of the file that is compiled. */
static inline __attribute__((unused)) void simt_make_known(const void *function, const char *name,
                                                           void (*call)(const void *, void **),
                                                           const size_t *sizes)
{
    if (simt_kernel_of(function) == NULL) {
        simt_kernel *kernel = new simt_kernel();
        kernel->function = function;
        kernel->name = name;
        kernel->unit = SIMT_TEXT(SIMT_UNIT);
        kernel->call = call;
        kernel->sizes = sizes;
        kernel->shared = SIMT_JOIN(__start_shared_, SIMT_UNIT);
        kernel->shared_end = SIMT_JOIN(__stop_shared_, SIMT_UNIT);
        simt_register(kernel);
    }
}

template <class... P> static int simt_register_kernel(void (*function)(P...), const char *name)
{
    static const size_t sizes[] = {sizeof(P)..., 0};

    simt_make_known((const void *)function, name, simt_call<P...>::run, sizes);
    return 1;
}

/** Makes a kernel known that is launched by its address. Once for each, at the end of the file. */
#define SIMT_KERNEL(kernel) \
    __attribute__((unused)) static const int SIMT_JOIN(simt_is_known_, __COUNTER__) = \
        simt_register_kernel(kernel, #kernel)

/** The typed launch of CUDA's C++ header. A kernel that is not known is called "kernel" in
    messages. */
template <class... P>
static cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(P...),
                                      typename simt_same<P>::type... arguments)
{
    void *pointers[] = {(void *)&arguments..., NULL};

    simt_register_kernel(kernel, "kernel");
    return cudaLaunchKernelExC(config, (const void *)kernel, pointers);
}

/** The address of a kernel that is known from then on. */
template <class... P> static const void *simt_address(void (*kernel)(P...), const char *name)
{
    simt_register_kernel(kernel, name);
    return (const void *)kernel;
}

template <class... P>
static cudaError_t simt_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 cta,
                               typename simt_same<P>::type... arguments)
{
    cudaLaunchConfig_t config = {};

    simt_register_kernel(kernel, name);
    config.gridDim = grid;
    config.blockDim = cta;
    return cudaLaunchKernelEx(&config, kernel, arguments...);
}

/* A launch of whatever can be called: each thread calls f. What the names of launches become. */
template <class F> static SIMT_NOT_TRACKED void simt_call_closure(const void *, void **arguments)
{
    (*(F *)arguments[0])();
}

template <class F>
static cudaError_t simt_launch_of(const char *name, dim3 grid, dim3 cta, F f, size_t dynamic = 0)
{
    static const size_t sizes[] = {sizeof(F), 0};
    const void *function = (const void *)simt_call_closure<F>;
    void *arguments[] = {&f};
    cudaLaunchConfig_t config = {};

    simt_make_known(function, name, simt_call_closure<F>, sizes);
    config.gridDim = grid;
    config.blockDim = cta;
    config.dynamicSmemBytes = dynamic;
    return cudaLaunchKernelExC(&config, function, arguments);
}

/* Dynamic shared memory that is declared outside of a function. */
template <class T> struct simt_dynamic_array {
    operator T *() const
    {
        return (T *)simt_dynamic_shared();
    }
    template <class U> explicit operator U *() const
    {
        return (U *)simt_dynamic_shared();
    }
};

/* As much of it as is asked for may always be had. */
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
template <class F> static cudaError_t cudaFuncSetAttribute(F *, cudaFuncAttribute, int)
{
    return cudaSuccess;
}

/* ---------------------------------------------------------------- __constant__, __device__ */

template <class T>
static inline cudaError_t cudaMemcpyToSymbol(T &symbol, const void *from, size_t bytes,
                                             size_t offset = 0,
                                             cudaMemcpyKind = cudaMemcpyHostToDevice)
{
    if (offset > sizeof symbol || bytes > sizeof symbol - offset) {
        return cudaErrorInvalidValue;
    }
    memcpy((uint8_t *)(uintptr_t)&symbol + offset, from, bytes);
    return cudaSuccess;
}

template <class T>
static inline cudaError_t cudaMemcpyFromSymbol(void *to, const T &symbol, size_t bytes,
                                               size_t offset = 0,
                                               cudaMemcpyKind = cudaMemcpyDeviceToHost)
{
    if (offset > sizeof symbol || bytes > sizeof symbol - offset) {
        return cudaErrorInvalidValue;
    }
    memcpy(to, (const uint8_t *)&symbol + offset, bytes);
    return cudaSuccess;
}

/* ---------------------------------------------------------------- typed pointers */

template <class T> static inline cudaError_t cudaMalloc(T **memory, size_t bytes)
{
    return cudaMalloc((void **)memory, bytes);
}

template <class T> static inline cudaError_t cudaMallocManaged(T **memory, size_t bytes)
{
    return cudaMallocManaged((void **)memory, bytes, cudaMemAttachGlobal);
}

template <class T> static inline cudaError_t cudaMallocHost(T **memory, size_t bytes)
{
    return cudaMallocHost((void **)memory, bytes);
}

template <class F>
static inline cudaError_t cudaLaunchKernel(F *kernel, dim3 grid, dim3 cta, void **arguments,
                                           size_t dynamic_bytes = 0, cudaStream_t stream = NULL)
{
    simt_register_kernel(kernel, "kernel");
    return cudaLaunchKernel((const void *)kernel, grid, cta, arguments, dynamic_bytes, stream);
}

/** kernel<<<grid, cta>>>(arguments...) */
#define SIMT_LAUNCH(kernel, grid, cta, ...) simt_launch(#kernel, kernel, grid, cta, __VA_ARGS__)

#endif /* FP4_TESTS_SIMT_CUDA_RUNTIME_H */
