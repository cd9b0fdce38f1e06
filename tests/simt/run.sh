#!/bin/sh
# run.sh SEED PROGRAM: runs a test program of the machine with this order of threads; a random one
# for SEED=random. FP4_SIMT_SEED in the environment comes first: the same order again.
seed=${FP4_SIMT_SEED:-$1}
[ "$seed" != random ] || seed=$(date +%s)
echo "FP4_SIMT_SEED=$seed"
FP4_SIMT_SEED=$seed FP4_GPU_REDUCED=1 sh tests/tools/criterion.sh "$2"
