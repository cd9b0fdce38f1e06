/* What a user's program does: quantize a row to NVFP4, read it back, look at the error. */
#include <fp4/fp4.h>
#include <fp4/host/error.h>
#include <fp4/host/quant.h>

#include <stdio.h>

int main(void)
{
    float x[64], y[64];
    uint8_t q[32], sf[4];
    fp4_tensor t = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_LINEAR, 1, 64, q, sizeof q, sf, sizeof sf);
    const fp4_matrix m = fp4_matrix_f32(x, 1, 64, 64);
    fp4_error error;
    int i;

    for (i = 0; i < 64; i++) {
        x[i] = (float)(i - 32) / 8.0f;
    }
    if (fp4_ref_nvfp4_quantize(m, fp4_nvfp4_global_enc(4.0f), &t) != FP4_OK ||
        fp4_ref_dequantize(&t, y, sizeof y, 64) != FP4_OK ||
        fp4_ref_error(m, &t, &error) != FP4_OK) {
        return 1;
    }
    printf("fp4 %d.%d.%d: x[0] = %g -> %g, %.1f dB\n", FP4_VERSION_MAJOR, FP4_VERSION_MINOR,
           FP4_VERSION_PATCH, (double)x[0], (double)y[0], error.sqnr_db);
    return error.sqnr_db > 15.0 ? 0 : 1;
}
