/*
 * tests/simt/halves.cu - a kernel written with the types of cuda_fp16.h and cuda_bf16.h, by one.sh:
 * this machine's headers of these names give what NVIDIA's do.
 */
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <stdio.h>

#define CHECKS 20

static __global__ void check(const half2 *x, const __nv_bfloat162 *y, unsigned *failed)
{
    const __half a = __low2half(*x), b = __high2half(*x), tiny = __ushort_as_half(1);
    const nv_bfloat16 c = y->x, d = y->y, nan = __ushort_as_bfloat16(0xff81);
    const float2 f = __half22float2(*x), g = __bfloat1622float2(*y);
    const int checks[CHECKS] = {
        f.x == 0x1.ffcp0f && f.y == 0x1p-10f && __low2float(*x) == f.x,
        g.x == 0x1.fep0f && g.y == -0x1p-8f && __high2float(*y) == g.y,
        __half_as_ushort(a + b) == 0x4000,           /* exactly 2 */
        __half_as_ushort(a * a) == 0x43fe,           /* 2^2 - 2^-8 + 2^-20: down */
        __half_as_ushort(a - b / half(2)) == 0x3ffe, /* a tie, to even */
        __half_as_ushort(tiny / half(2)) == 0,       /* a tie, to even */
        __half_as_ushort(tiny * half(1.5)) == 2,     /* a tie, to even */
        __half_as_ushort(__float2half(65519.0f)) == 0x7bff,
        __half_as_ushort(__float2half_rn(65520.0f)) == 0x7c00,
        __half_as_ushort(__hneg(__hmax(-a, b))) == 0x9400,
        (float)__habs(-a) == f.x && a > b && !(a == b) && a != b,
        __bfloat16_as_ushort(c + d) == 0x3ffe, /* a tie, to even */
        __bfloat16_as_ushort(c * c) == 0x407e, /* 3.96875 + 2^-14... : down */
        __bfloat16_as_ushort(__float2bfloat16(0x1.ffp127f)) == 0x7f80,
        __bfloat16_as_ushort(__hmax(nan, d)) == 0xbb80 && __hisnan(nan),
        __bfloat16_as_ushort(__hmin(nan, nan)) == 0x7fff,
        __high2bfloat16(__hmul2(*y, *y)) == nv_bfloat16(0x1p-16),
        __low2half(__hadd2(*x, __half2half2(b))) == half(2),
        (float)__float22half2_rn(make_float2(0.1f, 3.0f)).y == 3.0f,
        sizeof(half2) == 4 && alignof(__nv_bfloat162) == 4,
    };

    if (!checks[threadIdx.x]) {
        atomicAdd(failed, 1u);
        printf("check %u\n", threadIdx.x);
    }
}

int main(void)
{
    half2 *x;
    __nv_bfloat162 *y;
    unsigned *failed;

    if (cudaMallocManaged(&x, sizeof *x) != cudaSuccess ||
        cudaMallocManaged(&y, sizeof *y) != cudaSuccess ||
        cudaMallocManaged(&failed, sizeof *failed) != cudaSuccess) {
        return 1;
    }
    *x = __floats2half2_rn(0x1.ffcp0f, 0x1p-10f);
    *y = __floats2bfloat162_rn(0x1.fep0f, -0x1p-8f);
    *failed = 0;
    check<<<1, CHECKS>>>(x, y, failed);
    if (cudaDeviceSynchronize() != cudaSuccess) {
        return 1;
    }
    printf("halves: %u of %d failed\n", *failed, CHECKS);
    return *failed != 0;
}
