/* fp4/fp4.h - every portable header. Kernels include <fp4/device/...>, checks <fp4/host/...>. */
#ifndef FP4_FP4_H
#define FP4_FP4_H

#include <fp4/activation.h>
#include <fp4/divisor.h>
#include <fp4/e2m1.h>
#include <fp4/e4m3.h>
#include <fp4/e8m0.h>
#include <fp4/experts.h>
#include <fp4/f16.h>
#include <fp4/kv_cache.h>
#include <fp4/layout.h>
#include <fp4/modelopt.h>
#include <fp4/packbits.h>
#include <fp4/rope.h>
#include <fp4/row.h>
#include <fp4/scale.h>
#include <fp4/types.h>

#endif /* FP4_FP4_H */
