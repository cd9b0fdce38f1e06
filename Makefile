# fp4: demo, tests, installation. The library itself is headers only: -Iinclude is all a user needs.
#
# Variables: CC CXX CLANG NVCC CUDA_HOME; ARCHS="90 100a" (what nvcc compiles for); CPPFLAGS CFLAGS
# LDFLAGS; JOBS; V=1 (show commands); PREFIX DESTDIR (install); FUZZ_SECONDS; NVDISASM (a tool to
# read machine code with); GPU_ARCH (of test-gpu); KERNEL TRACK CPU_ARCH WORDS (of cpu).

ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
CLANG ?= clang
NVCC ?= $(firstword $(shell command -v nvcc) /usr/local/cuda/bin/nvcc)
ARCHS ?= 75 80 86 89 90 100a 103a 110a 120a 121a
CFLAGS ?= -O2 -g
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 30
Q := $(if $(V),,@)
comma := ,
define newline


endef

MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
.PHONY: help demo test test-san test-exhaustive test-toolkits bench golden fuzz install uninstall
.PHONY: format clean FORCE

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile
	@sed -n '/^# Variables/,/^$$/s/^# //p' Makefile

# -------------------------------------------------------------------------------- what is here

PORTABLE := $(sort $(wildcard include/fp4/*.h))
HOST := $(sort $(wildcard include/fp4/host/*.h))
DEVICE := $(sort $(wildcard include/fp4/device/*.cuh))
HEADERS := $(PORTABLE) $(HOST) $(DEVICE)
TESTS := $(sort $(wildcard tests/test_*.c))
# What clang-format formats, and what the text checks read.
CODE := $(HEADERS) $(shell find examples tests -path tests/golden -prune -o \
	-name '*.[ch]' -print -o -name '*.cu' -print -o -name '*.cuh' -print -o -name '*.cpp' -print)
TEXT := $(CODE) Makefile CMakeLists.txt README.md CHANGELOG.md .ci/run \
	$(wildcard examples/*.py) $(shell find tests -name '*.sh' -o -name '*.py' -o -name CMakeLists.txt)

VERSION := $(shell sed -n 's/.define FP4_VERSION_.* \([0-9]*\)$$/\1/p' \
	include/fp4/config.h | paste -sd.)

has_clang := $(and $(shell command -v $(CLANG)),$(shell command -v $(CLANG)++))
has_fuzzer := $(if $(has_clang),$(wildcard $(shell $(CLANG) -print-runtime-dir)/*fuzzer*))
has_nvcc := $(shell command -v $(NVCC))
CUDA_HOME ?= $(patsubst %/bin/nvcc,%,$(realpath $(has_nvcc)))
has_nvrtc := $(and $(wildcard $(CUDA_HOME)/include/nvrtc.h),\
	$(wildcard $(CUDA_HOME)/lib64/libnvrtc.so))

# nvcc knows sm_100a where it lists sm_100.
nvcc_lists := $(if $(has_nvcc),$(shell $(NVCC) --list-gpu-code))
archs := $(strip $(foreach a,$(ARCHS),$(if $(filter sm_$(patsubst %a,%,$(a:f=)),$(nvcc_lists)),$a)))

WARNINGS := -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wundef -Werror
STRICT := -O2 $(WARNINGS) -Iinclude -Ibuild/use $(CPPFLAGS)
# The sanitizers' own code sets off gcc's conversion warnings.
SANITIZE := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all \
	-fno-omit-frame-pointer -Wno-conversion -Wno-sign-conversion
# -Wpedantic stays out: it objects to the line directives that nvcc itself writes. The toolkit's
# headers are system headers, since they do not pass -Wundef.
NVCCFLAGS := -std=c++17 -Iinclude -Ibuild/use $(CPPFLAGS) -isystem $(CUDA_HOME)/include \
	-Werror all-warnings -Xcompiler=-Wall,-Wextra,-Wconversion,-Wsign-conversion,-Wundef,-Werror
CJSON = $(shell pkg-config --cflags --libs libcjson 2>/dev/null || echo -lcjson)

# -------------------------------------------------------------------------------- checks
#
# A check is a command that tests/tools/check.sh runs as build/checks/NAME.ok. Compile proofs run
# again only when a file they depend on changes; what runs a program runs always.

check = $(Q)env CC='$(or $(cc),$(CC))' CXX='$(or $(cxx),$(CXX))' FLAGS='$(STRICT)' \
	NVCC='$(NVCC)' CUDA_HOME='$(CUDA_HOME)' VERSION='$(VERSION)' \
	$(live) sh tests/tools/check.sh $(patsubst build/checks/%.ok,%,$@)

snippets := $(shell sh tests/tools/readme.sh list README.md)
proofs := $(PORTABLE:include/fp4/%=cc/%) $(HOST:include/fp4/%=cc/%) \
	cc/openmp cc/symbols cc/two-tu \
	$(patsubst tests/compile/%.cpp,cc/%,$(wildcard tests/compile/*.cpp)) \
	$(patsubst tests/compile/%.c,cc/%,$(wildcard tests/compile/not_*.c))
runs := host-tests host-tests-native threads vectorised golden fuzz \
	demo demo-numbers quantize_safetensors readback \
	hygiene/macros hygiene/layers hygiene/nvrtc hygiene/text hygiene/lines hygiene/format \
	$(addprefix consumer/,install pkg-config find_package add_subdirectory FetchContent) \
	$(snippets:%=readme/%)
san := san/host-tests san/demo san/quantize_safetensors
simt := $(addprefix simt/,one races sm_75)
# What takes longer: `make test-exhaustive`.
sweeps := exhaustive/O3 exhaustive/Ofast
longer := $(addprefix simt/,tracked planted_san planted_track)

# Examples are compiled for many words: launch_*.cu, of which example, and what the words of an
# object's name define.
launchers := $(patsubst tests/gpu/launch_%.cu,%,$(sort $(wildcard tests/gpu/launch_*.cu)))
example_first := 00_first
words_first := # none
example_rows := 01_quantize
words_rows := INPUT= FORMAT= LAYOUT=FP4_LAYOUT_
example_columns := 02_quantize_colmajor
words_columns := $(words_rows)
example_rmsnorm := 03_rmsnorm
words_rmsnorm := INPUT= FORMAT= NORM=
example_silu_mul := 04_silu_mul
words_silu_mul := INPUT= FORMAT= ACTIVATION=
example_per_token := 05_per_token
words_per_token := INPUT= FORMAT=
example_dequantize := 06_dequantize
words_dequantize := FORMAT= OUTPUT= RULE= # the last one or none
example_fake := 07_fake_quant
words_fake := INPUT= OUTPUT= RULE=
example_amax := 08_amax
words_amax := INPUT=
example_gemv := 09_gemv
words_gemv := INPUT= FORMAT= OUTPUT=
example_experts := 10_experts
words_experts := INPUT= FORMAT= ACTIVATION=
example_shuffle := 11_shuffle
words_shuffle := # none: what the object is called behind its name says nothing
example_kv_cache := 12_kv_cache
words_kv_cache := INPUT=
example_kv_append := 13_kv_append
words_kv_append := INPUT=
example_packbits := 14_packbits
words_packbits :=
example_modelopt := 15_modelopt
words_modelopt := INPUT= FORMAT=
example_modelopt_back := 06_dequantize
words_modelopt_back := $(words_dequantize)
words_epilogue := FORMAT= LAYOUT=
words_gated_norm := INPUT=FP4_ FORMAT=FP4_ LAYOUT=FP4_LAYOUT_
# What tests/tools/first.sh compiles and runs, with their mains.
first_files := $(addprefix examples/,00_first.cu 16_epilogue.cu 17_gated_norm.cu)
defines = $(if $(words_$1),$(filter-out %=,$(join $(words_$1:%=-D%),$(subst -, ,$*))))

# Device code and what became of it: the building blocks for all targets, the examples for one or
# two of each generation, in three groups: now, which `make test` compiles, older and newer, which
# `make test-exhaustive` does. Of an example with a layout among its words there are three Latin
# squares, in which any two words meet, one a group: together all combinations. The fused examples
# take longer: each combination for one group. In 03_rmsnorm any two of input, norm, group and rule
# of the format meet; in the others every group, input and activation occurs; in 06_dequantize,
# 07_fake_quant and 09_gemv every word, each format and rule for one group; in 10_experts each
# group with an activation and without.
gpu_words := $(foreach input,bf16 f16 f32 e4m3,$(foreach format,nvfp4 mxfp4 mxfp8,\
	$(foreach layout,128X4 8X4 LINEAR,$(input)-$(format)-$(layout))))
square = bf16-nvfp4-$1 bf16-mxfp4-$2 bf16-mxfp8-$3 f16-nvfp4-$2 f16-mxfp4-$3 f16-mxfp8-$1 \
	f32-nvfp4-$3 f32-mxfp4-$1 f32-mxfp8-$2 e4m3-nvfp4-$1 e4m3-mxfp4-$2 e4m3-mxfp8-$3
with_layout = $(foreach e,01_quantize 02_quantize_colmajor,$(addprefix $e/,$(call square,$1,$2,$3)))
targets_older := 75
targets_now := 90
targets_newer := 100a 120a
device_older := $(call with_layout,8X4,LINEAR,128X4) \
	$(addprefix 03_rmsnorm/,bf16-nvfp4-rmsnorm f32-mxfp4-add_rmsnorm f16-mxfp8-layernorm) \
	$(addprefix 04_silu_mul/,f32-mxfp8-silu bf16-mxfp4-gelu_tanh bf16-nvfp4-swiglu_oai) \
	05_per_token/f32-nvfp4 $(addprefix 06_dequantize/,mxfp4-f32 mxfp8-bf16 mxfp4-f16-modelopt) \
	$(addprefix 07_fake_quant/,bf16-f32-nvfp4 f32-bf16-mxfp8 f16-f16-modelopt) \
	08_amax/bf16 09_gemv/bf16-nvfp4-f32 09_gemv/f16-mxfp4-bf16 \
	$(addprefix 10_experts/,bf16-nvfp4-none f32-mxfp4-silu) \
	00_first/older 11_shuffle/older 12_kv_cache/f16 13_kv_append/f16 14_packbits/older \
	$(addprefix 15_modelopt/,bf16-nvfp4 f32-mxfp4) 16_epilogue/mxfp4-8x4 \
	17_gated_norm/F16-MXFP4-8X4
device_now := $(call with_layout,128X4,8X4,LINEAR) \
	$(addprefix 03_rmsnorm/,f16-mxfp4_16-rmsnorm bf16-mxfp8-add_rmsnorm f32-nvfp4-layernorm) \
	04_silu_mul/f16-nvfp4-swiglu_oai 04_silu_mul/bf16-nvfp4-silu \
	05_per_token/bf16-nvfp4_32 \
	$(addprefix 06_dequantize/,nvfp4-bf16 mxfp4_16-f16 nvfp4-bf16-modelopt) \
	$(addprefix 07_fake_quant/,f16-bf16-nvfp4_32 bf16-f16-mxfp4 f32-f32-cast) \
	08_amax/f16 09_gemv/f32-mxfp4_16-f16 09_gemv/bf16-mxfp4-bf16 \
	$(addprefix 10_experts/,f16-mxfp4-none bf16-mxfp4-swiglu_oai) \
	11_shuffle/now 12_kv_cache/bf16 13_kv_append/bf16 14_packbits/now \
	$(addprefix 15_modelopt/,f16-nvfp4_32 bf16-mxfp8) 16_epilogue/nvfp4-128x4 \
	17_gated_norm/BF16-NVFP4-128X4
device_newer := $(call with_layout,LINEAR,128X4,8X4) \
	$(addprefix 03_rmsnorm/,f32-mxfp8-rmsnorm f16-nvfp4_32-add_rmsnorm bf16-mxfp4-layernorm) \
	04_silu_mul/bf16-nvfp4_32-silu 05_per_token/f16-nvfp4 \
	$(addprefix 06_dequantize/,nvfp4_32-f32 mxfp8-f16 mxfp8-f32-modelopt) \
	$(addprefix 07_fake_quant/,f32-f16-mxfp4_16 f16-f32-nvfp4 bf16-bf16-modelopt) \
	08_amax/f32 09_gemv/f16-nvfp4_32-f32 09_gemv/f32-nvfp4-f16 \
	$(addprefix 10_experts/,f32-mxfp8-none f16-nvfp4-silu) \
	00_first/newer 11_shuffle/newer 12_kv_cache/f32 13_kv_append/f32 14_packbits/newer \
	$(addprefix 15_modelopt/,f32-nvfp4 f16-mxfp4_16) 16_epilogue/mxfp8-linear \
	17_gated_norm/F32-MXFP8-LINEAR
device := $(addprefix device/,blocks portable first first_words complete ptx ptx-portable sass \
	compile-time $(device_now) $(patsubst examples/%.cu,main/%,$(wildcard examples/*.cu))) \
	$(patsubst %,device/readme/%,$(filter %-cuda,$(snippets))) \
	$(patsubst tests/compile/%.cu,device/%,$(wildcard tests/compile/not_*.cu))

ifneq ($(has_clang),)
proofs += $(PORTABLE:include/fp4/%=clang/%) $(HOST:include/fp4/%=clang/%) \
	clang/symbols clang/two-tu \
	$(patsubst tests/compile/%.cpp,clang/%,$(wildcard tests/compile/*.cpp)) \
	$(patsubst tests/compile/%.c,clang/%,$(wildcard tests/compile/not_*.c))
runs += host-tests-clang
else
left_out += "LEFT OUT (no $(CLANG) here): headers, must-fail files and host tests under clang"
endif
ifneq ($(has_fuzzer),)
simt += simt/fuzz_compiled
longer += simt/fuzz
else
longer_left_out += "LEFT OUT (no $(CLANG) with libFuzzer here): the launchers on the CPU, fuzzed"
endif
ifneq ($(has_nvcc),)
proofs += $(HEADERS:include/fp4/%=nvcc/%) nvcc/two-tu $(device)
longer += $(addprefix device/,$(device_older) $(device_newer) gpu_tests)
ifneq ($(archs),$(strip $(ARCHS)))
left_out += "LEFT OUT ($(NVCC) does not know them): $(filter-out $(archs),$(ARCHS))"
endif
else
left_out += "LEFT OUT (no nvcc here): the headers under nvcc, the README's cuda snippets, and what \
	became of device code: its registers, PTX, machine code and compile time, and its must-fail \
	files"
longer_left_out += "LEFT OUT (no nvcc here): the examples for $(targets_older) $(targets_newer)"
endif
ifneq ($(has_nvrtc),)
proofs += $(patsubst include/fp4/%,nvrtc/%,$(PORTABLE) $(DEVICE)) nvrtc/native nvrtc/blocks \
	nvrtc/from_python \
	$(patsubst %,nvrtc/readme/%,$(filter %-cuda,$(snippets)))
else
left_out += "LEFT OUT (no NVRTC here): the headers under NVRTC"
endif

# $(call run,CHECKS,LEFT OUT,ALONE): runs them, those that want all cores first, one by one; shows
# what failed; ends on `N passed, N failed`.
make_checks = $(MAKE) --no-print-directory -k $2 $(1:%=build/checks/%.ok) || status=$$?
run = @status=0; $(if $3,$(call make_checks,$3,-j1);) $(if $1,$(call make_checks,$1,\
	    -Otarget $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS)));) \
	LEFT_OUT="$$(printf '%s\n' $2)" sh tests/tools/summary.sh $$status $3 $1

demo_in := $(firstword $(wildcard examples/data/*.safetensors))

demo_program = build/examples/demo_rmsnorm$(if $(gpu_here),-gpu)

demo: ## RMSNorm and FP4 in one kernel, on real tokens: on the GPU if there is one, else on the CPU
	@sh tests/tools/need.sh libc cjson
	@$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS)) $(demo_program)
	@mkdir -p build/demo
	$(demo_program) $(demo_in) build/demo/rmsnorm.svg

test: ## the tests, without a GPU; installs what it needs on Debian and Ubuntu
	@sh tests/tools/need.sh libc c++ criterion cjson pkg-config cmake python3-venv
	$(call run,$(runs) $(san) $(simt) $(proofs),$(left_out))

test-san: ## host tests and host programs under AddressSanitizer and UBSan
	@sh tests/tools/need.sh libc criterion cjson
	$(call run,$(san))

golden: ## verify the checksums of the golden vectors
	$(call run,golden)

# What the outputs are made with. A change makes everything again.
build/config: FORCE
	@mkdir -p $(@D)
	@{ $(CC) --version; $(CXX) --version; $(CLANG) --version; $(NVCC) --version; \
	    echo '$(STRICT) $(CFLAGS) $(LDFLAGS) $(archs) $(SANITIZE) $(simt_san) $(simt_track)' \
	        '$(simt_track_kernels) $(simt_cov) $(simt_fuzz) $(simt_sm_100a)'; } >$@.new 2>/dev/null; \
	cmp -s $@.new $@ || mv $@.new $@

# -------------------------------------------------------------------------------- host tests
#
# Four times: as they are; as an optimised user's build compiles the headers (fma, vectors, OpenMP,
# and gcc's own dialect, which fuses a * b + c); so with clang; and under the sanitizers.

define host_tests # folder, compiler, flags
build/$1/%.o: tests/%.c build/config
	@mkdir -p $$(@D)
	$$(Q)$2 -std=c11 $(WARNINGS) $3 -Iinclude -Itests $(CPPFLAGS) -MMD -MP -c $$< -o $$@
build/$1/fp4-tests: $(TESTS:tests/%.c=build/$1/%.o)
	$$(Q)$2 $3 $$^ $(LDFLAGS) -lcriterion $$(CJSON) -lm -o $$@
endef
folders := tests native clang san examples exhaustive bench
$(eval $(call host_tests,tests,$(CC),$(CFLAGS)))
$(eval $(call host_tests,native,$(CC),-std=gnu17 -O3 -march=native -fopenmp))
$(eval $(call host_tests,clang,$(CLANG),-O3 -march=native))
$(eval $(call host_tests,san,$(CC),$(SANITIZE)))

build/checks/host-tests.ok: build/tests/fp4-tests FORCE
	$(check) sh tests/tools/criterion.sh $<
build/checks/host-tests-native.ok: build/native/fp4-tests FORCE
	$(check) sh tests/tools/criterion.sh $< as-one
build/checks/host-tests-clang.ok: build/clang/fp4-tests FORCE
	$(check) sh tests/tools/criterion.sh $< as-one
build/checks/san/host-tests.ok: build/san/fp4-tests FORCE
	$(check) sh tests/tools/criterion.sh $< as-one

# Rows spread over threads give the same bytes; gcc vectorises the loops over a row.
build/checks/threads.ok: build/native/check_openmp FORCE
	$(check) $<
build/native/check_openmp: tests/check_openmp.c $(HEADERS) build/config
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -O2 -fopenmp -Iinclude $< -lm -o $@
build/checks/vectorised.ok: FORCE
	$(check) sh tests/tools/check_vectorised.sh

# The golden vectors are what they were when they came.
build/checks/golden.ok: FORCE
	$(check) sh -c 'cd tests/golden && sha256sum --quiet -c SHA256SUMS'

# -------------------------------------------------------------------------------- examples

build/examples/%: examples/%.c build/config
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 $(CFLAGS) -O3 $(WARNINGS) -Iinclude $(CPPFLAGS) -MMD -MP $< $(LDFLAGS) \
	    $(CJSON) -lm -o $@
build/san/examples/%: examples/%.c build/config
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 $(WARNINGS) $(SANITIZE) -Iinclude $(CPPFLAGS) -MMD -MP $< $(LDFLAGS) \
	    $(CJSON) -lm -o $@

# The GPU's half of the demo, once for each format, linked to the same program.
build/examples/demo_gpu-%.o: examples/demo_gpu.cu build/config
	@mkdir -p $(@D)
	$(Q)$(gpu_nvcc) -DFORMAT=$* -c $< -o $@
build/examples/demo_rmsnorm-gpu: examples/demo_rmsnorm.c build/examples/demo_gpu-nvfp4.o \
		build/examples/demo_gpu-mxfp4.o build/config
	$(Q)$(CC) -std=c11 $(CFLAGS) -O3 $(WARNINGS) -Iinclude $(CPPFLAGS) -DDEMO_GPU -MMD -MP -MT $@ \
	    -c $< -o $@.o
	$(Q)$(CXX) $@.o $(filter %.o,$^) $(LDFLAGS) $(CJSON) -L$(CUDA_HOME)/lib64 -lcudart_static \
	    -ldl -lrt -lpthread -lm -o $@
build/examples/demo_rmsnorm-fake: examples/demo_rmsnorm.c tests/demo_gpu_fake.c \
		$(wildcard examples/*.h) $(PORTABLE) $(HOST) build/config
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 $(CFLAGS) -O3 $(WARNINGS) -Iinclude $(CPPFLAGS) -DDEMO_GPU $(filter %.c,$^) \
	    $(LDFLAGS) $(CJSON) -lm -o $@

# The demo and what it refuses: as it is, with a GPU that is none, with its GPU's half, and under
# the sanitizers. Its figures and its picture, computed once more by numpy; not while the other
# check makes the venv.
build/checks/demo.ok: build/examples/demo_rmsnorm build/examples/demo_rmsnorm-fake FORCE
	$(check) sh tests/tools/demo.sh $< $(demo_in) build/checks/demo build/examples/demo_rmsnorm-fake
build/checks/demo-gpu.ok: build/examples/demo_rmsnorm-gpu FORCE
	$(check) sh tests/tools/demo.sh $< $(demo_in) build/checks/demo-gpu
build/checks/san/demo.ok: build/san/examples/demo_rmsnorm FORCE
	$(check) sh tests/tools/demo.sh $< $(demo_in) build/checks/san/demo
build/checks/demo-numbers.ok: build/examples/demo_rmsnorm FORCE | build/checks/readback.ok
	$(check) sh -c 'sh tests/tools/venv.sh build/venv numpy ml_dtypes safetensors && \
	    build/venv/bin/python tests/verify_demo.py $< $(demo_in) build/checks/demo-numbers'
ifneq ($(has_nvcc),)
runs += demo-gpu
endif

# The checkpoint quantizer in both formats and both sets of names.
build/checks/quantize_safetensors.ok: build/examples/quantize_safetensors FORCE
	$(check) sh tests/tools/quantize_safetensors.sh $< $(demo_in) build/checks/quantize_safetensors
build/checks/san/quantize_safetensors.ok: build/san/examples/quantize_safetensors FORCE
	$(check) sh tests/tools/quantize_safetensors.sh $< $(demo_in) \
	    build/checks/san/quantize_safetensors

# Its output read back by the reference implementation of safetensors, ml_dtypes and numpy.
build/checks/readback.ok: build/examples/quantize_safetensors FORCE
	$(check) sh -c 'sh tests/tools/venv.sh build/venv numpy ml_dtypes safetensors && \
	    build/venv/bin/python tests/verify_safetensors.py $< $(demo_in) build/checks/readback'

# -------------------------------------------------------------------------------- compile proofs

# A translation unit with the header twice and all its functions in use, in C, C++ and CUDA.
build/use/%.c: include/fp4/% tests/tools/use.sh
	@mkdir -p $(@D)
	$(Q)sh tests/tools/use.sh $< >$@
build/use/everything.h: $(PORTABLE) $(HOST) tests/tools/use.sh
	@mkdir -p $(@D)
	$(Q)sh tests/tools/use.sh $(PORTABLE) $(HOST) >$@

define compile_proofs # label, C compiler, C++ compiler
build/checks/$1/%.ok: cc = $2
build/checks/$1/%.ok: cxx = $3
build/checks/$1/%.ok: build/use/%.c build/config tests/tools/compile.sh
	$$(check) sh tests/tools/compile.sh standards $$< $$(basename $$@)
build/checks/$1/%.ok: tests/compile/%.cpp build/config tests/tools/compile.sh
	$$(check) sh tests/tools/compile.sh cxx $$< $$(basename $$@)
build/checks/$1/not_%.ok: tests/compile/not_%.c $(HEADERS) build/config tests/tools/compile.sh
	$$(check) sh tests/tools/compile.sh must-fail $$<
build/checks/$1/openmp.ok: build/use/everything.h build/config tests/tools/compile.sh
	$$(check) sh tests/tools/compile.sh openmp $$<
build/checks/$1/symbols.ok: build/use/everything.h build/config tests/tools/compile.sh
	$$(check) sh tests/tools/compile.sh symbols $$<
build/checks/$1/two-tu.ok: tests/compile/two_tu_a.c tests/compile/two_tu_b.c \
		build/use/everything.h build/config tests/tools/compile.sh
	$$(check) sh tests/tools/compile.sh two-tu tests/compile/two_tu_a.c tests/compile/two_tu_b.c
endef
$(eval $(call compile_proofs,cc,$(CC),$(CXX)))
$(eval $(call compile_proofs,clang,$(CLANG),$(CLANG)++))

build/checks/nvcc/two-tu.ok: tests/compile/two_tu_a.c tests/compile/two_tu_b.c $(HEADERS) \
		build/use/everything.h build/config tests/tools/compile.sh
	$(check) sh tests/tools/compile.sh nvcc-two-tu tests/compile/two_tu_a.c \
	    tests/compile/two_tu_b.c
# (For all targets NVRTC compiles those of the device.)
build/checks/nvcc/%.ok: build/use/%.c build/config
	$(check) $(NVCC) $(NVCCFLAGS) \
	    $(call code,$(filter $(if $(filter %.cuh,$*),75 100a) 90,$(archs))) \
	    -MD -MP -MT $@ -MF $(@:ok=d) -x cu -c $< -o build/use/$*.o

build/checks/nvrtc/%.ok: build/use/%.c build/nvrtc $(PORTABLE) $(DEVICE)
	$(check) build/nvrtc '$(archs)' $<
build/checks/nvrtc/readme/%.ok: README.md build/nvrtc $(PORTABLE) $(DEVICE) \
		| build/checks/readme/%.ok
	$(check) build/nvrtc '$(archs)' build/readme/$*/snippet.cu
build/checks/nvrtc/native.ok build/checks/nvrtc/blocks.ok: \
build/checks/nvrtc/%.ok: tests/compile/%.cu build/nvrtc $(PORTABLE) $(DEVICE)
	$(check) build/nvrtc '$(if $(filter blocks,$*),$(filter 75 90 100a 120a,$(archs)),$(archs))' $<
build/checks/nvrtc/from_python.ok: examples/from_python.py build/nvrtc $(PORTABLE) $(DEVICE)
	$(check) sh -c "python3 -c 'import runpy; \
	    print(runpy.run_path(\"examples/from_python.py\")[\"SOURCE\"])' \
	    > build/from_python.cu && build/nvrtc '$(archs)' build/from_python.cu"
build/nvrtc: tests/compile/nvrtc.c build/config
	$(Q)$(CC) -std=c11 $(WARNINGS) -isystem $(CUDA_HOME)/include $< -L$(CUDA_HOME)/lib64 \
	    -Wl,-rpath,$(CUDA_HOME)/lib64 -lnvrtc -o $@

# -------------------------------------------------------------------------------- device code
#
# What can be seen without a GPU: that kernels keep to their registers on every target, which
# instructions they became, what compiling them costs. One call of nvcc serves all targets: ARCHS;
# plain 100 and 120, which lack what 100a and 120a have; and their families, as code for the next
# chip of the family, since nvcc takes 100 and 100f for the same code.

code = $(foreach a,$1,-gencode arch=compute_$a$(,)code=sm_$a)
family = $(if $(filter $1a,$(archs)),$(if $(filter sm_$2,$(nvcc_lists)),\
	-gencode arch=compute_$1f$(,)code=sm_$2))
, := ,
plain := $(filter-out $(archs),$(patsubst %a,%,$(filter 100a 120a,$(archs))))
targets := $(call code,$(archs) $(plain)) $(call family,100,103) $(call family,120,121)
three := $(call code,$(filter 90 100a 120a,$(archs)))

build/checks/device/%.ok: live = TARGETS='$(or $(only),$(targets))' NVDISASM='$(NVDISASM)'

build/checks/device/blocks.ok: tests/compile/blocks.cu build/config tests/tools/device.sh
	$(check) sh tests/tools/device.sh frames $< build/device/blocks $(basename $@)
build/checks/device/portable.ok: tests/compile/blocks.cu build/config tests/tools/device.sh
	$(check) sh tests/tools/device.sh frames $< build/device/portable $(basename $@) \
	    -DFP4_ARCH_CVT_E2M1=0 -DFP4_ARCH_CVT_E4M3=0
build/checks/device/first.ok: examples/00_first.cu build/config tests/tools/device.sh
	$(check) sh tests/tools/device.sh frames $< build/device/first $(basename $@)
build/checks/device/first_words.ok: $(first_files) README.md $(PORTABLE) $(DEVICE) $(HOST) \
		build/config tests/tools/first.sh
	$(check) sh tests/tools/first.sh build/first.d sm_90
build/checks/device/first.ok: only = $(call code,$(filter 90,$(archs)))
build/checks/device/complete.ok: tests/compile/blocks.cu $(DEVICE) tests/tools/device.sh
	$(check) sh tests/tools/device.sh complete $< $(DEVICE)
build/checks/device/ptx.ok: build/checks/device/blocks.ok tests/tools/device.sh
	$(check) sh tests/tools/device.sh ptx build/device/blocks
build/checks/device/ptx-portable.ok: build/checks/device/portable.ok tests/tools/device.sh
	$(check) sh tests/tools/device.sh ptx build/device/portable portable
build/checks/device/portable.ok build/checks/device/ptx-portable.ok: only = $(three)
$(device_older:%=build/checks/device/%.ok): only = $(call code,$(filter $(targets_older),$(archs)))
$(device_now:%=build/checks/device/%.ok): only = $(call code,$(filter $(targets_now),$(archs)))
$(device_newer:%=build/checks/device/%.ok): only = $(call code,$(filter $(targets_newer),$(archs)))

build/device/cuda_fp4: tests/compile/cuda_fp4.cu build/config tests/tools/device.sh
	$(Q)env NVCC='$(NVCC)' TARGETS='$(three)' sh tests/tools/device.sh compile $< $@ -DNDEBUG
build/checks/device/sass.ok: build/device/cuda_fp4 build/checks/device/blocks.ok FORCE
	$(check) sh tests/tools/device.sh sass build/device/blocks $<

build/checks/device/compile-time.ok: $(PORTABLE) $(DEVICE) build/config tests/tools/compile_time.py
	$(check) python3 tests/tools/compile_time.py $(NVCC) 0.3 fp4/device/quant.cuh

# An example with its main, as its first lines say, with the words as they stand.
build/checks/device/main/%.ok: examples/%.cu $(PORTABLE) $(DEVICE) $(HOST) build/config
	@mkdir -p build/device
	$(check) $(NVCC) -std=c++17 -arch=sm_90 -Iinclude -Werror all-warnings -diag-suppress 177 \
	    -c $< -o build/device/main-$*.o

build/checks/device/not_%.ok: tests/compile/not_%.cu $(PORTABLE) $(DEVICE) build/config \
		tests/tools/device.sh
	$(check) sh tests/tools/device.sh must-fail $<

build/checks/device/readme/%.ok: README.md build/config tests/tools/device.sh \
		| build/checks/readme/%.ok
	$(check) sh tests/tools/device.sh frames build/readme/$*/snippet.cu build/device/readme-$* \
	    $(basename $@)

define device_example # name, launch_*.cu
build/checks/device/$1/%.ok: examples/$1.cu build/config tests/tools/device.sh
	$$(check) sh tests/tools/device.sh frames $$< build/device/$1/$$* $$(basename $$@) -DNO_MAIN \
	    $$(call defines,$2)
endef
$(foreach l,$(launchers),$(eval $(call device_example,$(example_$l),$l)))
$(eval $(call device_example,16_epilogue,epilogue))
$(eval $(call device_example,17_gated_norm,gated_norm))

# -------------------------------------------------------------------------------- text, consumers

$(foreach w,macros layers text,build/checks/hygiene/$w.ok): FORCE
	$(check) sh tests/tools/hygiene.sh $(basename $(@F)) $(HEADERS)
build/checks/hygiene/nvrtc.ok: FORCE
	$(check) sh tests/tools/hygiene.sh nvrtc $(PORTABLE) $(DEVICE)
build/checks/hygiene/lines.ok: FORCE
	$(check) sh tests/tools/hygiene.sh lines $(TEXT)
build/checks/hygiene/format.ok: FORCE
	$(check) sh tests/tools/format.sh $(CODE)
build/checks/consumer/%.ok: FORCE
	$(check) sh tests/consumer/consumer.sh $*
build/checks/readme/%.ok: FORCE
	$(check) sh tests/tools/readme.sh check README.md $*

# -------------------------------------------------------------------------------- sweeps, fuzz

nvidia_headers := $(if $(wildcard $(CUDA_HOME)/include/cuda_fp4.h),-isystem $(CUDA_HOME)/include)

test-exhaustive: ## all 2^32 floats through every conversion; what of the tests takes longer
	@sh tests/tools/need.sh libc c++ criterion
	$(call run,$(longer),$(longer_left_out) $(if $(nvidia_headers),,\
	    "LEFT OUT (no cuda_fp4.h here): comparison with NVIDIA's own conversions"),$(sweeps))

# Compilers of other CUDA Toolkits, and what they compile for.
toolkit_11.8.89 := 75 80 86 89 90
toolkit_12.0.140 := 89 90a
toolkit_12.4.127 := 89 90
toolkit_12.8.93 := 90 100 100a 101a 120a
toolkit_12.9.86 := 90 100f 103a 121a
toolkit_13.5.37 := 75 90 100a 107a 110a 120f
toolkits := $(patsubst toolkit_%,toolkits/%,$(filter toolkit_%,$(.VARIABLES)))
toolkit_files := tests/compile/native.cu tests/compile/blocks.cu \
	$(PORTABLE:include/fp4/%=build/use/%.c)

test-toolkits: ## the headers under NVRTC of CUDA 11.8 to 13.5; downloads these from PyPI
	@sh tests/tools/need.sh libc python3-venv
	$(call run,$(toolkits))
build/checks/toolkits/%.ok: $(toolkit_files) $(DEVICE) build/config tests/compile/nvrtc.c \
		tests/tools/toolkit.sh
	$(check) sh tests/tools/toolkit.sh $* '$(toolkit_$*)' $(toolkit_files)

build/exhaustive/O3 build/exhaustive/Ofast: build/exhaustive/%: tests/exhaustive.cpp build/config
	@mkdir -p $(@D)
	$(Q)$(CXX) -std=c++11 -$* -march=native -pthread $(WARNINGS) -Iinclude -Itests $(CPPFLAGS) \
	    $(nvidia_headers) -MMD -MP $< $(LDFLAGS) -o $@
build/checks/exhaustive/%.ok: live = LIVE=1
build/checks/exhaustive/%.ok: build/exhaustive/% FORCE
	$(check) $<

fuzz: ## libFuzzer on the safetensors reader and the launchers, FUZZ_SECONDS each; needs clang
	@sh tests/tools/need.sh libc cjson
	$(Q)$(run_fuzzer) $(FUZZ_SECONDS)
	@$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS)) \
	    build/simt/fuzz/fuzz_launch
	$(Q)$(fuzz_launch) $(FUZZ_SECONDS)
build/checks/fuzz.ok: FORCE
	$(check) $(run_fuzzer) 5
run_fuzzer = env CLANG='$(CLANG)' FLAGS='-Iinclude $(CPPFLAGS)' LIBS='$(LDFLAGS) $(CJSON) -lm' \
	sh tests/tools/fuzz.sh tests/fuzz_safetensors.c

# -------------------------------------------------------------------------------- bench

# Vectors of AVX2 where the machine is an x86-64.
march := $(if $(filter x86_64,$(shell uname -m)),-march=x86-64-v3,-march=native)
bench_programs := build/bench/gcc build/bench/gcc-openmp \
	$(if $(has_clang),build/bench/clang build/bench/clang-openmp)

build/bench/gcc build/bench/gcc-openmp: bench_cc = $(CC)
build/bench/clang build/bench/clang-openmp: bench_cc = $(CLANG)
$(bench_programs): build/bench/%: tests/bench/host_bench.c build/config
	@mkdir -p $(@D)
	$(Q)$(bench_cc) -std=c11 -O3 $(march) $(if $(findstring openmp,$*),-fopenmp) $(WARNINGS) \
	    -Iinclude $(CPPFLAGS) -MMD -MP $< $(LDFLAGS) -lm -o $@

# On the GPU: tests/bench/gpu_KERNEL.cu once for each combination of words, beside kernels that only
# move the same bytes and a baseline. Compiled for the GPU that is here. Where the layout is an
# argument, one unit has all.
gpu_kernels := quantize quantize_colmajor
gpu_fused := $(foreach format,nvfp4 mxfp4,\
	$(foreach norm,rmsnorm add_rmsnorm layernorm,rmsnorm-bf16-$(format)-$(norm)) \
	$(foreach activation,silu gelu_tanh,silu_mul-bf16-$(format)-$(activation))) \
	per_token-bf16-nvfp4
gpu_back := $(addprefix dequantize-,$(foreach rule,ours modelopt,nvfp4-bf16-$(rule) \
	mxfp4-bf16-$(rule) mxfp8-bf16-$(rule)) nvfp4-f16-ours nvfp4-f32-ours) \
	$(addprefix fake_quant-bf16-bf16-,nvfp4 mxfp4 mxfp8 modelopt cast) fake_quant-f32-f32-nvfp4 \
	amax-bf16 gemv-bf16-nvfp4-f32 gemv-bf16-mxfp4-f32
# The README's kernel; those of many rows and places: experts, shuffles, KV caches, bits; ModelOpt's
# tensors.
gpu_rest := first $(addprefix experts-bf16-,nvfp4-none mxfp8-none nvfp4-silu) shuffle \
	kv_cache-bf16 kv_append-bf16 packbits $(addprefix modelopt-bf16-,nvfp4 mxfp4 mxfp8)
gpu_here := $(if $(has_nvcc),$(shell nvidia-smi -L 2>/dev/null))
gpu_arch := $(if $(gpu_here),native,sm_90)
gpu_bench := build/bench/$(gpu_arch)/gpu_bench
gpu_objects := $(addprefix build/bench/$(gpu_arch)/,bench.o traffic.o traffic_back.o \
	$(foreach kernel,$(gpu_kernels),$(gpu_words:%=$(kernel)-%.o)) \
	$(addsuffix .o,$(gpu_fused) $(gpu_back) $(gpu_rest)) \
	cuda_fp4-bf16-nvfp4-LINEAR.o cuda_fp4-bf16-mxfp4-LINEAR.o)
gpu_nvcc = $(NVCC) -std=c++17 -O3 -arch=$(gpu_arch) -Iinclude $(CPPFLAGS) \
	-isystem $(CUDA_HOME)/include -Werror all-warnings -Xcompiler=-Wall,-Wextra,-Werror \
	-MD -MP -MF $(@:o=d)
word_of = $(word $1,$(subst -, ,$*))

build/bench/$(gpu_arch)/%.o: tests/bench/gpu_%.cu build/config
	@mkdir -p $(@D)
	$(Q)$(gpu_nvcc) -c $< -o $@
define gpu_kernel_rule # kernel, what its words define
build/bench/$(gpu_arch)/$1-%.o: tests/bench/gpu_$1.cu build/config
	@mkdir -p $$(@D)
	$$(Q)$$(gpu_nvcc) $$(join $(addprefix -D,$2),$$(subst -, ,$$*)) -c $$< -o $$@
endef
$(foreach kernel,$(gpu_kernels) cuda_fp4,\
	$(eval $(call gpu_kernel_rule,$(kernel),INPUT= FORMAT= LAYOUT=FP4_LAYOUT_)))
$(eval $(call gpu_kernel_rule,rmsnorm,INPUT= FORMAT= NORM=))
$(eval $(call gpu_kernel_rule,silu_mul,INPUT= FORMAT= ACTIVATION=))
$(eval $(call gpu_kernel_rule,per_token,INPUT= FORMAT=))
$(eval $(call gpu_kernel_rule,dequantize,FORMAT= OUTPUT= RULE=))
$(eval $(call gpu_kernel_rule,fake_quant,INPUT= OUTPUT= RULE=))
$(eval $(call gpu_kernel_rule,amax,INPUT=))
$(eval $(call gpu_kernel_rule,gemv,INPUT= FORMAT= OUTPUT=))
$(eval $(call gpu_kernel_rule,experts,INPUT= FORMAT= ACTIVATION=))
$(eval $(call gpu_kernel_rule,kv_cache,INPUT=))
$(eval $(call gpu_kernel_rule,kv_append,INPUT=))
$(eval $(call gpu_kernel_rule,modelopt,INPUT= FORMAT=))
$(gpu_bench): $(gpu_objects)
	$(Q)$(NVCC) -arch=$(gpu_arch) $^ -o $@

bench: ## throughput of the host reference, and of the kernels where there is a GPU
	@sh tests/tools/need.sh libc
	@$(MAKE) --no-print-directory -k $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS)) \
	    $(bench_programs) $(if $(gpu_here),$(gpu_bench)) || echo "(what does not build is left out)"
	@for program in $(bench_programs); do [ ! -x $$program ] || \
	    { echo "== $$program"; $$program || exit 1; }; done
ifneq ($(gpu_here),)
	@echo "== $(gpu_bench)"
	$(Q)$(gpu_bench) --markdown build/bench/RESULTS.md
	@if python3 -c 'import torch' 2>/dev/null; then echo "== tests/bench/torch_fused.py"; \
	    python3 tests/bench/torch_fused.py --append build/bench/RESULTS.md; \
	else echo "LEFT OUT (python3 cannot import torch here): the same jobs in PyTorch"; fi
else
	@echo "LEFT OUT (no $(if $(has_nvcc),GPU,nvcc) here): the kernels beside the same-traffic limit," \
	    "the same jobs in PyTorch; tests/bench/RESULTS.md keeps the last run"
endif

# -------------------------------------------------------------------------------- GPU tests
#
# The launchers of the examples, compiled for each input type, format and layout or operation, and
# the building blocks, compiled in four ways (tests/gpu/parts.h), called from C. For the GPU here;
# GPU_ARCH="sm_90" for another. Where Criterion's libraries are not in a system directory, the
# program finds them in the -L directories of LDFLAGS.

GPU_ARCH ?= $(gpu_arch)
test_gpu := build/gpu/$(GPU_ARCH)
test_gpu_parts := default portable fast_math native
# KERNEL-INPUT-FORMAT-OPERATION of the fused examples (tests/gpu/launch.h).
test_gpu_fused := $(foreach input,f32 f16 bf16,\
	$(foreach format,nvfp4 mxfp4 mxfp8 nvfp4_32 mxfp4_16,\
	$(foreach norm,rmsnorm add_rmsnorm layernorm,rmsnorm-$(input)-$(format)-$(norm)) \
	$(foreach activation,silu gelu_tanh swiglu_oai,silu_mul-$(input)-$(format)-$(activation))) \
	$(foreach format,nvfp4 nvfp4_32,per_token-$(input)-$(format)))
# INPUT, and INPUT-FORMAT-OUTPUT, of those that read and do not quantize.
test_gpu_read := $(foreach input,f32 f16 bf16,amax-$(input) \
	$(foreach format,nvfp4 mxfp4 nvfp4_32 mxfp4_16,\
	$(foreach output,f32 f16 bf16,gemv-$(input)-$(format)-$(output))))
# INPUT-FORMAT-ACTIVATION of many experts.
test_gpu_experts := $(foreach input,f32 f16 bf16,$(foreach format,nvfp4 mxfp4 mxfp8,\
	$(foreach activation,none silu gelu_tanh swiglu_oai,experts-$(input)-$(format)-$(activation))))
# INPUT of KV caches; those that move bytes of any kind; and the README's kernel.
test_gpu_kv := $(foreach input,f32 f16 bf16,kv_cache-$(input) kv_append-$(input))
test_gpu_bytes := shuffle-all packbits-all first-all
# INPUT-FORMAT of ModelOpt's tensors, and FORMAT-OUTPUT of the way back.
test_gpu_modelopt := $(foreach type,f32 f16 bf16,\
	$(foreach format,nvfp4 mxfp4 mxfp8 nvfp4_32 mxfp4_16,\
	modelopt-$(type)-$(format) modelopt_back-$(format)-$(type)))
# FORMAT-OUTPUT, and INPUT-OUTPUT-RULE, of those that lead back.
test_gpu_back := $(foreach output,f32 f16 bf16,\
	$(foreach format,nvfp4 mxfp4 mxfp8 nvfp4_32 mxfp4_16,dequantize-$(format)-$(output)) \
	$(foreach input,f32 f16 bf16,\
	$(foreach rule,nvfp4 mxfp4 mxfp8 nvfp4_32 mxfp4_16 modelopt cast,\
	fake-$(input)-$(output)-$(rule))))
test_gpu_objects := $(patsubst tests/gpu/%.c,$(test_gpu)/%.o,$(sort $(wildcard tests/gpu/*.c))) \
	$(test_gpu)/tools.o $(test_gpu_parts:%=$(test_gpu)/parts-%.o) \
	$(gpu_words:%=$(test_gpu)/rows-%.o) $(gpu_words:%=$(test_gpu)/columns-%.o) \
	$(test_gpu_fused:%=$(test_gpu)/%.o) $(test_gpu_back:%=$(test_gpu)/%.o) \
	$(test_gpu_read:%=$(test_gpu)/%.o) $(test_gpu_experts:%=$(test_gpu)/%.o) \
	$(test_gpu_kv:%=$(test_gpu)/%.o) $(test_gpu_bytes:%=$(test_gpu)/%.o) \
	$(test_gpu_modelopt:%=$(test_gpu)/%.o)
test_gpu_nvcc = $(NVCC) -std=c++17 -O3 -arch=$(GPU_ARCH) $(front) -Iinclude $(CPPFLAGS) \
	-isystem $(CUDA_HOME)/include -Werror all-warnings \
	-Xcompiler=-Wall,-Wextra,-Wconversion,-Wsign-conversion,-Wundef,-Werror -MD -MP -MF $(@:o=d)
test_gpu_rpath := $(patsubst -L%,-Wl$(comma)-rpath$(comma)%,$(filter -L%,$(LDFLAGS)))
folders += gpu
.PHONY: test-gpu test-gpu-san

test-gpu: ## the tests that need a GPU; without one they fail
	@sh tests/tools/need.sh libc c++ criterion
	$(call run,gpu-tests gpu-reduced gpu-first,)

test-gpu-san: ## a reduced set of them under compute-sanitizer
	@sh tests/tools/need.sh libc c++ criterion
	@$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS)) \
	    $(test_gpu)/fp4-gpu-tests
	$(call run,,,gpu-memcheck gpu-initcheck gpu-racecheck)

$(test_gpu)/test_%.o: tests/gpu/test_%.c build/config
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -O3 -fopenmp $(WARNINGS) -Iinclude -Itests $(CPPFLAGS) \
	    -isystem $(CUDA_HOME)/include -MMD -MP -c $< -o $@
$(test_gpu)/tools.o: tests/gpu/tools.cu build/config
	@mkdir -p $(@D)
	$(Q)$(test_gpu_nvcc) -c $< -o $@
$(test_gpu)/parts-portable.o: parts_flags := -DFP4_ARCH_CVT_E2M1=0 -DFP4_ARCH_CVT_E4M3=0 \
	-DFP4_ARCH_CVT_F16X2=0 -DFP4_ARCH_BF16X2=0 -DFP4_ARCH_MAX_NAN=0 -DFP4_ARCH_MAX_ABS_X2=0 \
	-DFP4_ARCH_MAX3_F32=0
$(test_gpu)/parts-fast_math.o: parts_flags := --use_fast_math
$(test_gpu)/parts-native.o: front := -Itests/gpu/native
$(test_gpu)/parts-%.o: tests/gpu/parts.cu build/config
	@mkdir -p $(@D)
	$(Q)$(test_gpu_nvcc) $(parts_flags) -DPARTS=gpu_parts_$* -c $< -o $@
define test_gpu_rule # launch_*.cu
$(test_gpu)/$1-%.o: tests/gpu/launch_$1.cu build/config
	@mkdir -p $$(@D)
	$$(Q)$$(test_gpu_nvcc) $$(call defines,$1) -c $$< -o $$@
endef
$(foreach l,$(launchers),$(eval $(call test_gpu_rule,$l)))
# RPATH, which holds for the libraries of libraries too, not RUNPATH.
$(test_gpu)/fp4-gpu-tests: $(test_gpu_objects)
	$(Q)$(CXX) -fopenmp $^ $(LDFLAGS) $(if $(test_gpu_rpath),-Wl$(comma)--disable-new-dtags) \
	    $(test_gpu_rpath) -L$(CUDA_HOME)/lib64 -lcriterion -lcudart_static -ldl -lrt -lpthread \
	    -lm -o $@

# A few tests at a time: each has its own context on the device, and threads for the host reference.
# Reduced they are small, and draw other cases: both sets run.
build/checks/gpu-reduced.ok: reduced := FP4_GPU_REDUCED=1
build/checks/gpu-tests.ok build/checks/gpu-reduced.ok: $(test_gpu)/fp4-gpu-tests FORCE
	$(check) env $(reduced) OMP_WAIT_POLICY=passive CRITERION_JOBS=$${CRITERION_JOBS:-4} \
	    CRITERION_TEST_PATTERN='!(planted)/*' sh tests/tools/criterion.sh $<
# The first example as its reader compiles and runs it, and as README.md says to change it; and
# those of an epilogue and of an operation of one's own.
build/checks/gpu-first.ok: FORCE
	$(check) sh tests/tools/first.sh $(test_gpu)/first.d $(GPU_ARCH) run
# Where there is no GPU: that what they are made of compiles, the building blocks and all in C.
gpu_compiled := $(patsubst tests/gpu/%.c,build/gpu/sm_90/%.o,$(sort $(wildcard tests/gpu/*.c))) \
	$(addprefix build/gpu/sm_90/,parts-default.o tools.o first-all.o)
build/checks/device/gpu_tests.ok: FORCE
	$(check) $(MAKE) --no-print-directory GPU_ARCH=sm_90 $(gpu_compiled)
build/checks/gpu-%check.ok: $(test_gpu)/fp4-gpu-tests FORCE
	$(check) env OMP_WAIT_POLICY=passive sh tests/gpu/sanitize.sh $*check $<

# -------------------------------------------------------------------------------- kernels on a CPU
#
# The GPU tests once more, their reduced set, without a GPU: kernels compiled by $(CXX) for the
# machine of tests/simt, one program for each class of targets (those without conversion
# instructions, with those of e4m3, with all), under AddressSanitizer and UBSan; the last one also
# as a program that looks at every access to memory instead (tests/simt/track.cpp), its threads in
# a random order. `make test` runs the first, `make test-exhaustive` the one that looks, `make
# test-simt` all: what the middle class compiles is in one of the others, and is what GPUs of these
# days run.
#
# Left out: launch_large (gigabytes; simt_large is what a CPU can do of it), fast_math (a flag of
# nvcc), planted (for compute-sanitizer). simt/planted_* plant faults of their own.

simt_left_out := !(launch_large|fast_math|planted)/*
simt_sm_75 := -D__CUDA_ARCH__=750
simt_sm_90 := -D__CUDA_ARCH__=900
simt_sm_100a := -D__CUDA_ARCH__=1000 -D__CUDA_ARCH_SPECIFIC__=1000
# Kinds of builds: how everything is compiled, how kernels are, what the machine consists of.
# Sections of a name get red zones between their objects where gcc is told so; clang cannot.
simt_san := -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
	$(if $(findstring clang,$(shell $(CXX) --version)),,-fsanitize-sections=shared_*)
simt_san_machine := simt cuda memory
simt_track := -O1 -g1 -DSIMT_TRACKED
simt_track_kernels := -fsanitize=thread --param=tsan-instrument-func-entry-exit=0
simt_track_machine := simt cuda track
# Functions that nobody calls count too.
simt_cov := -O0 --coverage -fkeep-inline-functions -fkeep-static-functions
simt_cov_kernels := -fno-exceptions
simt_cov_machine := simt cuda memory
simt_fuzz := -O1 -g1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
simt_fuzz_machine := simt cuda memory
simt_machine = $(simt_$1_machine:%=build/simt/$1/machine/%.o)
simt_cc = $(CC)
simt_cxx = $(CXX)
build/simt/fuzz/%.o: simt_cc = $(CLANG) -Itests/simt/fuzz
build/simt/fuzz/%.o: simt_cxx = $(CLANG)++
simt_paths := -Itests/simt/include -Ibuild/simt -Iinclude $(CPPFLAGS) -MMD -MP
# What is unused or unrolled in kernels is for nvcc to say.
simt_front = $(simt_cxx) -x c++ -std=c++17 -include cuda_runtime.h -ffp-contract=off -Wall \
	-Wno-unused -Wno-unknown-pragmas $(if $(findstring clang,$(simt_cxx)),-Wno-pass-failed)
simt_cu = $(simt_front) -Werror -DSIMT_UNIT=$(subst -,_,$(basename $(@F)))
simt_tests := $(notdir $(basename $(wildcard tests/gpu/test_*.c tests/simt/test_*.c)))
# Of the fused kernels a Latin square, as tests/gpu/launch.h has it, and of the way back.
simt_formats = $1-nvfp4-$2 $1-mxfp4-$3 $1-mxfp8-$4 $1-nvfp4_32-$3 $1-mxfp4_16-$2
simt_fused := $(addprefix rmsnorm-,$(call simt_formats,f32,rmsnorm,add_rmsnorm,layernorm) \
	$(call simt_formats,f16,add_rmsnorm,layernorm,rmsnorm) \
	$(call simt_formats,bf16,layernorm,rmsnorm,add_rmsnorm)) \
	$(addprefix silu_mul-,$(call simt_formats,f32,silu,gelu_tanh,swiglu_oai) \
	$(call simt_formats,f16,gelu_tanh,swiglu_oai,silu) \
	$(call simt_formats,bf16,swiglu_oai,silu,gelu_tanh)) \
	$(filter per_token-%,$(test_gpu_fused))
# Of 07_fake_quant, for each rule, the outputs of f32, f16 and bf16.
simt_fake = fake-f32-$1-$4 fake-f16-$2-$4 fake-bf16-$3-$4
simt_back := $(filter dequantize-%,$(test_gpu_back)) \
	$(foreach rule,nvfp4 mxfp4_16 modelopt,$(call simt_fake,f32,f16,bf16,$(rule))) \
	$(foreach rule,mxfp4 nvfp4_32,$(call simt_fake,f16,bf16,f32,$(rule))) \
	$(foreach rule,mxfp8 cast,$(call simt_fake,bf16,f32,f16,$(rule)))
# Of 09_gemv, for each format, the outputs of the same.
simt_gemv = gemv-f32-$1-$2 gemv-f16-$1-$3 gemv-bf16-$1-$4
simt_read := $(filter amax-%,$(test_gpu_read)) $(call simt_gemv,nvfp4,f32,f16,bf16) \
	$(call simt_gemv,mxfp4,f16,bf16,f32) $(call simt_gemv,nvfp4_32,bf16,f32,f16) \
	$(call simt_gemv,mxfp4_16,f32,f16,bf16)
# Of 10_experts, for each input, the activations of nvfp4, mxfp4 and mxfp8.
simt_expert = experts-$1-nvfp4-$2 experts-$1-mxfp4-$3 experts-$1-mxfp8-$4
simt_experts := $(call simt_expert,f32,none,silu,gelu_tanh) \
	$(call simt_expert,f16,gelu_tanh,none,swiglu_oai) $(call simt_expert,bf16,silu,swiglu_oai,none)
# Of ModelOpt's tensors each type and format.
simt_modelopt := $(foreach words,f32-nvfp4 bf16-nvfp4 bf16-mxfp4 f16-mxfp8 f16-nvfp4_32 \
	f32-mxfp4_16,modelopt-$(words) \
	modelopt_back-$(lastword $(subst -, ,$(words)))-$(firstword $(subst -, ,$(words))))
simt_units := parts tools machine $(gpu_words:%=rows-%) $(gpu_words:%=columns-%) \
	$(simt_fused) $(simt_back) $(simt_read) \
	$(simt_experts) $(test_gpu_kv) $(test_gpu_bytes) $(simt_modelopt)
folders += simt cpu
.PHONY: cpu test-simt coverage
# How one.sh compiles: as the kernels of simt_san or simt_track are, for CPU_ARCH, but that
# a * b + c is rounded once, as nvcc has it.
cpu_kind = $(if $(TRACK),track,san)
cpu_contracts := -ffp-contract=fast -fexpensive-optimizations -DSIMT_CONTRACTS \
	$(if $(shell grep -m 1 -wo fma /proc/cpuinfo 2>/dev/null),-mfma)
CPU_ARCH ?= 900
cpu_arch_750 := $(simt_sm_75)
cpu_arch_900 := $(simt_sm_90)
cpu_arch_1000 := $(simt_sm_100a)
cpu_run := cpu build/checks/simt/one.ok build/checks/simt/races.ok
$(cpu_run): export SIMT_COMPILE = $(simt_front) $(simt_$(cpu_kind)) $(simt_$(cpu_kind)_kernels) \
	$(cpu_contracts) $(or $(cpu_arch_$(CPU_ARCH)),$(error CPU_ARCH: 750, 900 or 1000)) \
	-Itests/simt/include -Iinclude
$(cpu_run): export SIMT_MACHINE = $(call simt_machine,$(cpu_kind))
$(cpu_run): export SIMT_LINK = $(filter -fsanitize=%,$(simt_$(cpu_kind)))

cpu: ## a .cu file of yours, KERNEL=my.cu, run on the CPU under both sanitizers; TRACK=1: races
	$(if $(KERNEL),,$(error make cpu KERNEL=my.cu [TRACK=1] [CPU_ARCH=750|900|1000] \
	    [WORDS=-DFORMAT=mxfp4]))
	@sh tests/tools/need.sh libc c++
	$(if $(wildcard $(KERNEL)),,$(error there is no $(KERNEL), seen from $(CURDIR)))
	$(Q)$(MAKE) -s --no-print-directory $(call simt_machine,$(cpu_kind))
	$(Q)sh tests/simt/one.sh build/cpu $(KERNEL) $(WORDS)

test-simt: ## every kernel on the CPU: as three classes of GPUs, tracked, planted, fuzzed
	@sh tests/tools/need.sh libc c++ criterion
	$(call run,$(simt) simt/sm_90 simt/sm_100a $(filter simt/%,$(longer)))

define simt_kind # kind
build/simt/$1/machine/%.o: tests/simt/%.cpp build/config
	@mkdir -p $$(@D)
	$$(Q)$$(simt_cxx) -std=c++17 -Wall -Wextra -Werror $$(simt_$1) $$(simt_paths) -c $$< -o $$@
build/simt/$1/tests/%.o: tests/gpu/%.c build/config
	@mkdir -p $$(@D)
	$$(Q)$$(simt_c) $$(simt_$1) $$(simt_paths) -c $$< -o $$@
build/simt/$1/tests/%.o: tests/simt/%.c build/config
	@mkdir -p $$(@D)
	$$(Q)$$(simt_c) $$(simt_$1) $$(simt_paths) -c $$< -o $$@
endef
simt_c = $(simt_cc) -std=c11 $(WARNINGS) -Wno-conversion -Wno-sign-conversion -Wno-unknown-pragmas \
	-Itests -Itests/gpu -Itests/simt -DFP4_SIMT

# The kernels of an example.
build/simt/%.h: examples/%.cu tests/simt/kernels.sh
	@mkdir -p $(@D)
	$(Q)sh tests/simt/kernels.sh $< >$@

# kind, target
simt_objects = $(simt_tests:%=build/simt/$1/tests/%.o) $(call simt_machine,$1) \
	$(simt_units:%=build/simt/$1/$2/%.o)

define simt_launchers # kind, target, launch_*.cu, its kernels
build/simt/$1/$2/$3-%.o: tests/simt/launch_$3.cu build/simt/$4.h build/config
	@mkdir -p $$(@D)
	$$(Q)$$(simt_cu) $$(simt_$1) $$(simt_$1_kernels) $$(simt_$2) $$(simt_paths) \
	    $$(call defines,$3) -c $$< -o $$@
endef
define simt_program # kind, target
$(foreach l,$(launchers),$(newline)$(call simt_launchers,$1,$2,$l,$(example_$l)))
build/simt/$1/$2/%.o: tests/simt/%.cu build/config
	@mkdir -p $$(@D)
	$$(Q)$$(simt_cu) $$(simt_$1) $$(simt_$1_kernels) $$(simt_$2) $$(simt_paths) -c $$< -o $$@
build/simt/$1/$2/fp4-simt-tests: $(call simt_objects,$1,$2)
	$$(Q)$$(CXX) $$(simt_$1) $$^ $$(LDFLAGS) -lcriterion -lm -o $$@
endef
$(foreach k,san track cov fuzz,$(eval $(call simt_kind,$k)))
simt_targets := sm_75 sm_90 sm_100a
$(foreach t,$(simt_targets),$(eval $(call simt_program,san,$t))$(eval $(call simt_program,cov,$t)))
$(eval $(call simt_program,track,sm_100a))

build/checks/simt/sm_100a.ok: order = random
build/checks/simt/%.ok: build/simt/san/%/fp4-simt-tests FORCE
	$(check) env CRITERION_TEST_PATTERN='$(simt_left_out)' sh tests/simt/run.sh $(or $(order),0) $<
build/checks/simt/tracked.ok: build/simt/track/sm_100a/fp4-simt-tests FORCE
	$(check) env CRITERION_TEST_PATTERN='$(subst launch_large,*large,$(simt_left_out))' \
	    sh tests/simt/run.sh random $<

# What a file of one's own is run by: the ways to launch, a byte too far, and the first example as
# it stands and as README.md says to change it.
build/checks/simt/one.ok: $(call simt_machine,san) $(wildcard tests/simt/*.sh) \
		tests/simt/launches.cu tests/simt/halves.cu $(HEADERS) $(first_files) README.md \
		tests/tools/first.sh
	$(check) sh -c 'sh tests/simt/launches.sh build/cpu && sh tests/tools/first.sh build/cpu cpu'
build/checks/simt/races.ok: cpu_kind = track
build/checks/simt/races.ok: $(call simt_machine,track) $(wildcard tests/simt/*.sh) \
		tests/simt/races.cu $(HEADERS) $(first_files)
	$(check) sh tests/simt/races.sh build/cpu/races

# libFuzzer on the launchers: FUZZ_SECONDS, 30 in `make test-exhaustive`.
$(eval $(call simt_program,fuzz,sm_75))
build/simt/fuzz/tests/fuzz_launch.o: tests/simt/fuzz/fuzz_launch.c build/config
	@mkdir -p $(@D)
	$(Q)$(simt_c) $(simt_fuzz) $(simt_paths) -c $< -o $@
build/simt/fuzz/fuzz_launch: build/simt/fuzz/tests/fuzz_launch.o \
		$(call simt_machine,fuzz) \
		$(addprefix build/simt/fuzz/sm_75/,$(filter rows-% columns-%,$(simt_units:%=%.o)) tools.o \
		rmsnorm-f32-nvfp4_32-add_rmsnorm.o silu_mul-bf16-nvfp4-swiglu_oai.o per_token-f16-nvfp4.o)
	$(Q)$(CLANG)++ -fsanitize=fuzzer,address,undefined $^ -lm -o $@
fuzz_launch = sh tests/simt/fuzz.sh build/simt/fuzz/fuzz_launch
build/checks/simt/fuzz.ok: build/simt/fuzz/fuzz_launch FORCE
	$(check) $(fuzz_launch) 30
# The launchers that it names are those of the other tests on the CPU: what renames one must name it
# here too, and hears of it in `make test`.
build/checks/simt/fuzz_compiled.ok: build/simt/fuzz/tests/fuzz_launch.o FORCE
	$(check) test -s $<

# Which lines run, in the host tests and on the CPU. What the programs count is added up.
$(eval $(call host_tests,simt/cov/host,$(CC),$(simt_cov)))
simt_cov_programs := build/simt/cov/host/fp4-tests \
	$(simt_targets:%=build/simt/cov/%/fp4-simt-tests)

coverage: ## which lines and branches of include/fp4 and of the kernels the tests run
	@sh tests/tools/need.sh libc c++ criterion cjson
	@$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS)) $(simt_cov_programs)
	$(Q)find build/simt/cov -name '*.gcda' -delete
	$(Q)for program in $(simt_cov_programs); do \
	    CRITERION_TEST_PATTERN='$(simt_left_out)' sh tests/simt/run.sh 0 $$program \
	        >$$program.log 2>&1 || { cat $$program.log; exit 1; }; done
	$(Q)GCOV="$$($(CC) -print-prog-name=gcov)" python3 tests/simt/coverage.py build/simt/cov

# Kernels with a fault in them: the tests must fail, with a message that says what it is.
build/checks/simt/planted_san.ok: planted_target := sm_75
build/checks/simt/planted_san.ok: build/simt/san/sm_75/fp4-simt-tests
build/checks/simt/planted_track.ok: planted_target := sm_100a
build/checks/simt/planted_track.ok: build/simt/track/sm_100a/fp4-simt-tests
build/checks/simt/planted_%.ok: FORCE
	$(check) env CXX='$(CXX)' LIBS='$(LDFLAGS) -lcriterion -lm' \
	    COMPILE='$(simt_cu) $(simt_$*) $(simt_$*_kernels) $(simt_$(planted_target))' \
	    OBJECTS='$(call simt_objects,$*,$(planted_target))' sh tests/simt/planted.sh $*

# -------------------------------------------------------------------------------- installation

define pc
prefix=$(PREFIX)
includedir=$${prefix}/include

Name: fp4
Description: FP4 quantization (NVFP4, MXFP4, MXFP8) for C, C++, CUDA and NVRTC, headers only
Version: $(VERSION)
Cflags: -I$${includedir}
Libs: -lm
endef
define cmake_config
get_filename_component(fp4_prefix_ "$${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET fp4::fp4)
    add_library(fp4::fp4 INTERFACE IMPORTED)
    set_target_properties(fp4::fp4 PROPERTIES
        INTERFACE_INCLUDE_DIRECTORIES "$${fp4_prefix_}/include")
    if(UNIX)
        set_property(TARGET fp4::fp4 PROPERTY INTERFACE_LINK_LIBRARIES m)
    endif()
endif()
unset(fp4_prefix_)
endef
# Before 1.0 a minor version may change the interface.
define cmake_version
set(PACKAGE_VERSION $(VERSION))
if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
endif()
if(PACKAGE_FIND_VERSION VERSION_LESS_EQUAL PACKAGE_VERSION AND
   "$${PACKAGE_FIND_VERSION_MAJOR}.$${PACKAGE_FIND_VERSION_MINOR}" STREQUAL
       "$(basename $(VERSION))")
    set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
endef
export pc cmake_config cmake_version
root = $(DESTDIR)$(PREFIX)

install: ## copy the headers, fp4.pc and the CMake package to $(DESTDIR)$(PREFIX)
	$(Q)install -d '$(root)/share/pkgconfig' '$(root)/share/cmake/fp4'
	$(Q)for header in $(HEADERS); do install -D -m 644 $$header "$(root)/$$header" || exit 1; done
	$(Q)printf '%s\n' "$$pc" >'$(root)/share/pkgconfig/fp4.pc'
	$(Q)printf '%s\n' "$$cmake_config" >'$(root)/share/cmake/fp4/fp4-config.cmake'
	$(Q)printf '%s\n' "$$cmake_version" >'$(root)/share/cmake/fp4/fp4-config-version.cmake'

uninstall: ## remove what install copied
	$(Q)rm -f $(HEADERS:%='$(root)/%') '$(root)/share/pkgconfig/fp4.pc' \
	    '$(root)/share/cmake/fp4/fp4-config.cmake' '$(root)/share/cmake/fp4/fp4-config-version.cmake'
	-$(Q)rmdir '$(root)/include/fp4/device' '$(root)/include/fp4/host' '$(root)/include/fp4' \
	    '$(root)/share/cmake/fp4' 2>/dev/null || true

# -------------------------------------------------------------------------------- the rest

format: ## clang-format all sources in place
	clang-format -i $(CODE)

clean: ## remove build/
	rm -rf build

-include $(shell find build/checks $(folders:%=build/%) -name '*.d' 2>/dev/null)
