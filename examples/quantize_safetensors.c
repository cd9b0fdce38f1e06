/*
 * quantize_safetensors - quantize the linear layers of a .safetensors file to NVFP4 or MXFP4.
 *
 *     cc -O3 -march=native -fopenmp -Iinclude examples/quantize_safetensors.c -lcjson -lm \
 *         -o quantize_safetensors
 *     ./quantize_safetensors model.safetensors quantized/model.safetensors
 *     ./quantize_safetensors --dequantize quantized/model.safetensors back.safetensors
 *
 * What is quantized: every tensor that is F32, F16 or BF16, has two dimensions (out x in features,
 * as torch.nn.Linear keeps it) of which the second is whole blocks of 16 (NVFP4) or 32 (MXFP4), is
 * named <module>.weight, and matches none of the patterns of kept_by_default below: embeddings,
 * norms, output heads, routers, vision towers. --include and --exclude decide otherwise. All other
 * tensors are copied byte for byte, and so is the __metadata__ of the header.
 *
 * What is written for a weight [N, K], by --names:
 *
 *     modelopt             <module>.weight               U8  [N, K/2]   two codes a byte
 *                          <module>.weight_scale         F8_E4M3 [N, K/16]; MXFP4: U8 [N, K/32]
 *                          <module>.weight_scale_2       F32 []         amax/2688; not for MXFP4
 *     compressed-tensors   <module>.weight_packed        U8  [N, K/2]
 *                          <module>.weight_scale         as above
 *                          <module>.weight_global_scale  F32 [1]        2688/amax; not for MXFP4
 *
 * Scales are linear, not swizzled. Layers that engines fuse into one (see `families`) share the
 * second-level scale, made from the largest amax among them; that of a zero weight is 1. The
 * quantization config goes beside the output: hf_quant_config.json (modelopt), and, where a
 * config.json lies beside the input, a copy of it with a "quantization_config" added; without one,
 * quantization_config.json (compressed-tensors). The modelopt names with MXFP4 are what ModelOpt
 * writes; vLLM reads MXFP4 under the names of compressed-tensors only.
 *
 * The input is mapped and worked through tensor by tensor: memory holds one quantized weight at a
 * time. Nothing appears under the output's name before all of it is on disk. Any failure is one
 * line on stderr and exit status 2, and leaves no file behind. One file a run: of a sharded model
 * layers are fused only within a shard, and its index has to be rewritten by other means.
 */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include <fp4/fp4.h>
#include <fp4/host/error.h>
#include <fp4/host/quant.h>

#include "files.h"
#include "safetensors.h"

#include <fnmatch.h>
#include <getopt.h>
#include <math.h>

/* As if each were given with --exclude, before all others: what engines do not take quantized. The
   list is ModelOpt's default, and embeddings and norms. */
static const char *const kept_by_default[] = {
    "*embed*",
    "*wte.weight",
    "*wpe.weight",
    "shared.weight",
    "*norm*",
    "*Norm*",
    "*lm_head*",
    "*output_layer*",
    "output.*",
    "*proj_out.*",
    "*router*",
    "*mlp.gate.*",
    "*block_sparse_moe.gate.*",
    "*shared_expert_gate.*",
    "*linear_attn.in_proj_a*",
    "*linear_attn.in_proj_b*",
    "mtp.*",
    "*vision_tower*",
    "*vision_model*",
    "*visual*",
    "*multi_modal_projector*",
};

/* Sibling modules whose weights engines stack into one matrix, with one second-level scale. */
enum { MOST_SIBLINGS = 3 };
static const char *const families[][MOST_SIBLINGS] = {
    {"q_proj", "k_proj", "v_proj"},           {"query", "key", "value"},
    {"gate_proj", "up_proj", NULL},           {"w1", "w3", NULL},
    {"q_a_proj", "kv_a_proj_with_mqa", NULL},
};

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* -------------------------------------------------------------------------------- options */

typedef enum scale_rule { RULE_UP, RULE_FLOOR, RULE_CEIL, RULE_EVEN } scale_rule;
typedef enum naming { MODELOPT, COMPRESSED_TENSORS } naming;

typedef struct pattern {
    const char *glob;
    bool include;
} pattern;

typedef struct options {
    fp4_format format;
    scale_rule rule;
    naming names;
    bool rule_given, dequantize;
    pattern *patterns; /* in the order given; the last that matches decides */
    size_t pattern_count;
    const char *in, *out;
} options;

static void print_usage(FILE *to)
{
    fputs(
        "usage: quantize_safetensors [options] IN.safetensors OUT.safetensors\n"
        "       quantize_safetensors --dequantize IN.safetensors OUT.safetensors\n"
        "\n"
        "Quantizes the linear layers of IN and copies the rest; prints what became of each\n"
        "tensor, with its signal to quantization noise ratio (SQNR).\n"
        "\n"
        "  --format nvfp4|mxfp4    default nvfp4\n"
        "  --names modelopt|compressed-tensors\n"
        "                          names of the tensors and form of the config; default modelopt\n"
        "  --scale up|floor|ceil|even\n"
        "                          how MXFP4's block scales round; default up, which never clips\n"
        "  --include PATTERN       quantize the tensors whose name matches, where possible\n"
        "  --exclude PATTERN       keep them; of several that match, the last one counts\n"
        "                          (shell patterns: '*.mlp.*'; embeddings, norms, output heads\n"
        "                          and routers are kept unless included)\n"
        "  --dequantize            turn quantized weights, under either naming, back into F32\n"
        "  --help\n"
        "\n"
        "Exit status 0, or 2 after an error; then no output is left behind.\n",
        to);
}

static _Noreturn void die_of_usage(const char *what, const char *argument)
{
    fprintf(stderr, "quantize_safetensors: %s%s%s\n\n", what, argument == NULL ? "" : ": ",
            argument == NULL ? "" : argument);
    print_usage(stderr);
    exit(2);
}

/* Index of the word in a list that ends with null. */
static int find_word(const char *const *words, const char *word, const char *option)
{
    int i;

    for (i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], word) == 0) {
            return i;
        }
    }
    die_of_usage(option, word);
}

static void add_pattern(options *o, const char *glob, bool include)
{
    pattern *grown = (pattern *)realloc(o->patterns, (o->pattern_count + 1) * sizeof *grown);

    if (grown == NULL) {
        die("out of memory");
    }
    o->patterns = grown;
    o->patterns[o->pattern_count].glob = glob;
    o->patterns[o->pattern_count++].include = include;
}

/* One option with its argument. */
static void take_option(options *o, int letter, const char *argument)
{
    static const char *const formats[] = {"nvfp4", "mxfp4", NULL};
    static const char *const rules[] = {"up", "floor", "ceil", "even", NULL};
    static const char *const namings[] = {"modelopt", "compressed-tensors", NULL};

    switch (letter) {
    case 'f':
        o->format = (fp4_format)find_word(formats, argument, "unknown --format");
        break;
    case 'n':
        o->names = (naming)find_word(namings, argument, "unknown --names");
        break;
    case 's':
        o->rule = (scale_rule)find_word(rules, argument, "unknown --scale");
        o->rule_given = true;
        break;
    case 'd':
        o->dequantize = true;
        break;
    case 'h':
        print_usage(stdout);
        exit(0);
    default: /* 'i' or 'x' */
        add_pattern(o, argument, letter == 'i');
    }
}

static options parse_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"format", required_argument, NULL, 'f'},  {"names", required_argument, NULL, 'n'},
        {"scale", required_argument, NULL, 's'},   {"include", required_argument, NULL, 'i'},
        {"exclude", required_argument, NULL, 'x'}, {"dequantize", no_argument, NULL, 'd'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
    };
    options o = {.format = FP4_NVFP4, .rule = RULE_UP, .names = MODELOPT};
    int letter;

    opterr = 0;
    while ((letter = getopt_long(argc, argv, "h", known, NULL)) != -1) {
        if (letter == '?') {
            die_of_usage("unknown option, or one without its value", argv[optind - 1]);
        }
        take_option(&o, letter, optarg);
    }
    if (argc - optind != 2) {
        die_of_usage("an input and an output file are needed", NULL);
    }
    if (o.rule_given && o.format != FP4_MXFP4) {
        die_of_usage("--scale is for --format mxfp4", NULL);
    }
    o.in = argv[optind];
    o.out = argv[optind + 1];
    return o;
}

/* -------------------------------------------------------------------------------- plan */

typedef enum action { COPY, QUANTIZE, DEQUANTIZE, ABSORBED } action;

/* What becomes of a tensor of the input. ABSORBED: a scale that its weight has consumed. */
typedef struct item {
    action action;
    const char *why;         /* it is only copied */
    const st_tensor *codes;  /* or the weight itself */
    const st_tensor *scales; /* DEQUANTIZE: block scales, */
    const st_tensor *second; /* and the second-level scale, null for MXFP4 */
    st_tensor to[3];         /* one, or codes, scales, second-level scale */
    char *names[3];          /* those of `to` that are not the input's */
    size_t to_count;
    size_t module;     /* length of <module> in <module>.weight */
    int family;        /* -1: none */
    struct item *next; /* in the ring of layers that share a second-level scale */
    float amax;        /* of the ring; negative: not known yet */
} item;

typedef struct plan {
    const options *o;
    const st_file *in;
    item *items; /* one for each tensor of the input, in its order */
    size_t acted_on;
    st_tensor **order; /* the tensors of the output, in their order */
    size_t order_count;
    uint8_t *header;
    size_t header_bytes;
} plan;

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), k = strlen(end);

    return n >= k && strcmp(text + n - k, end) == 0;
}

static bool is_float(const st_tensor *t)
{
    return strcmp(t->dtype->name, "F32") == 0 || strcmp(t->dtype->name, "F16") == 0 ||
           strcmp(t->dtype->name, "BF16") == 0;
}

static bool has_shape(const st_tensor *t, uint64_t rows, uint64_t cols)
{
    return t->rank == 2 && t->shape[0] == rows && t->shape[1] == cols;
}

/* The bytes of a tensor of the input. */
static const void *bytes_of(const plan *p, const st_tensor *t)
{
    return p->in->data + t->begin;
}

static fp4_matrix matrix_of(const plan *p, const st_tensor *t)
{
    const void *data = bytes_of(p, t);
    const size_t rows = (size_t)t->shape[0], cols = (size_t)t->shape[1];

    return strcmp(t->dtype->name, "F32") == 0
               ? fp4_matrix_f32((const float *)data, rows, cols, cols)
           : strcmp(t->dtype->name, "F16") == 0
               ? fp4_matrix_f16((const uint16_t *)data, rows, cols, cols)
               : fp4_matrix_bf16((const uint16_t *)data, rows, cols, cols);
}

/* Why the tensor cannot be quantized, or null. */
static const char *why_not(const options *o, const st_tensor *t)
{
    static const char *const ranks[] = {"a scalar", "1-D", NULL, "3-D", "4-D", "5-D"};

    if (!is_float(t)) {
        return t->dtype->name;
    }
    if (t->rank != 2) {
        return t->rank < COUNT_OF(ranks) ? ranks[t->rank] : "more than 5-D";
    }
    if (!ends_with(t->name, ".weight")) {
        return "not a .weight";
    }
    if (t->shape[1] % fp4_format_block(o->format) != 0) {
        return o->format == FP4_NVFP4 ? "columns % 16 != 0" : "columns % 32 != 0";
    }
    return NULL;
}

/* Why the tensor is not to be quantized, or null. */
static const char *why_keep(const options *o, const st_tensor *t)
{
    const char *why = why_not(o, t);
    size_t i;

    if (why != NULL) {
        return why;
    }
    for (i = 0; i < COUNT_OF(kept_by_default) && why == NULL; i++) {
        why = fnmatch(kept_by_default[i], t->name, 0) == 0 ? kept_by_default[i] : NULL;
    }
    for (i = 0; i < o->pattern_count; i++) {
        if (fnmatch(o->patterns[i].glob, t->name, 0) == 0) {
            why = o->patterns[i].include ? NULL : o->patterns[i].glob;
        }
    }
    return why;
}

/* Length of the parent's name in <parent>.<module>, the dot included. */
static size_t parent_length(const item *i)
{
    size_t n = i->module;

    while (n > 0 && i->codes->name[n - 1] != '.') {
        n--;
    }
    return n;
}

static int family_of(const item *i)
{
    const size_t parent = parent_length(i), n = i->module - parent;
    size_t f, m;

    for (f = 0; f < COUNT_OF(families); f++) {
        for (m = 0; m < MOST_SIBLINGS && families[f][m] != NULL; m++) {
            if (strlen(families[f][m]) == n &&
                memcmp(families[f][m], i->codes->name + parent, n) == 0) {
                return (int)f;
            }
        }
    }
    return -1;
}

static bool are_siblings(const item *a, const item *b)
{
    const size_t n = parent_length(a);

    return a->family == b->family && n == parent_length(b) &&
           memcmp(a->codes->name, b->codes->name, n) == 0;
}

/* By family, then by parent. */
static int compare_siblings(const void *left, const void *right)
{
    const item *a = *(item *const *)left, *b = *(item *const *)right;
    const size_t n = parent_length(a), m = parent_length(b);
    const int by_name = memcmp(a->codes->name, b->codes->name, n < m ? n : m);

    return a->family != b->family ? a->family - b->family
           : by_name != 0         ? by_name
                                  : (n > m) - (n < m);
}

/* A family of which some are quantized and some are not here will not be one scale in the end. */
static void check_family(const item *first, size_t found)
{
    const char *const *members = families[first->family];
    const size_t size = members[2] == NULL ? 2 : 3;

    if (found != size) {
        warn(
            "%.*s: of %s, %s%s%s, which engines fuse under one second-level scale, only %zu of %zu "
            "are quantized",
            (int)parent_length(first), first->codes->name, members[0], members[1],
            size == 3 ? ", " : "", size == 3 ? members[2] : "", found, size);
    }
}

/* Ties the weights that share a second-level scale into rings. */
static void link_families(plan *p)
{
    item **sorted = (item **)allocate((p->in->count + 1) * sizeof *sorted, "the plan");
    size_t n = 0, i, first;

    for (i = 0; i < p->in->count; i++) {
        if (p->items[i].family >= 0) {
            sorted[n++] = &p->items[i];
        }
    }
    qsort(sorted, n, sizeof *sorted, compare_siblings);
    for (first = 0; first < n; first = i) {
        for (i = first + 1; i < n && are_siblings(sorted[first], sorted[i]); i++) {
            sorted[i - 1]->next = sorted[i];
        }
        sorted[i - 1]->next = sorted[first];
        check_family(sorted[first], i - first);
    }
    free(sorted);
}

static void add_output(item *i, const char *suffix, const char *dtype, size_t rank, uint64_t rows,
                       uint64_t cols)
{
    st_tensor *t = &i->to[i->to_count];

    i->names[i->to_count++] = join(i->codes->name, i->module, suffix);
    t->name = i->names[i->to_count - 1];
    t->dtype = st_dtype_find(dtype);
    t->rank = rank;
    t->shape[0] = rows;
    t->shape[1] = cols;
}

static void plan_copy(item *i, const char *why)
{
    i->action = COPY;
    i->why = why;
    i->to[0] = *i->codes;
    i->to_count = 1;
}

static void plan_quantize(plan *p, item *i)
{
    const options *o = p->o;
    const bool modelopt = o->names == MODELOPT, nvfp4 = o->format == FP4_NVFP4;
    const uint64_t rows = i->codes->shape[0], cols = i->codes->shape[1];

    i->action = QUANTIZE;
    i->module = strlen(i->codes->name) - strlen(".weight");
    i->family = nvfp4 ? family_of(i) : -1;
    add_output(i, modelopt ? ".weight" : ".weight_packed", "U8", 2, rows, cols / 2);
    add_output(i, ".weight_scale", nvfp4 ? "F8_E4M3" : "U8", 2, rows,
               cols / fp4_format_block(o->format));
    if (nvfp4) {
        add_output(i, modelopt ? ".weight_scale_2" : ".weight_global_scale", "F32",
                   modelopt ? 0 : 1, 1, 1);
    }
    p->acted_on++;
}

/* Decides for each tensor whether it is quantized. */
static void plan_quantization(plan *p)
{
    static const char *const made[] = {".weight_scale", ".weight_scale_2", ".weight_packed",
                                       ".weight_global_scale"};
    size_t i, k;

    for (i = 0; i < p->in->count; i++) {
        item *it = &p->items[i];
        const char *why = why_keep(p->o, it->codes);
        for (k = 0; k < COUNT_OF(made); k++) {
            if (ends_with(it->codes->name, made[k])) {
                die("tensor '%s': the input is quantized already; --dequantize undoes NVFP4 and "
                    "MXFP4",
                    it->codes->name);
            }
        }
        if (why == NULL) {
            plan_quantize(p, it);
        } else {
            plan_copy(it, why);
        }
    }
    link_families(p);
}

/* The tensor <module><suffix>, or null. */
static const st_tensor *find_part(const plan *p, const item *i, const char *suffix)
{
    char *name = join(i->codes->name, i->module, suffix);
    const st_tensor *t = st_find(p->in, name);

    free(name);
    return t;
}

/* Fills in the scales of a tensor that holds codes; false where it does not. */
static bool find_scales(const plan *p, item *i)
{
    const st_tensor *t = i->codes;
    const bool packed = ends_with(t->name, ".weight_packed");
    uint64_t rows, cols;

    if (strcmp(t->dtype->name, "U8") != 0 || t->rank != 2 ||
        !(packed || ends_with(t->name, ".weight"))) {
        return false;
    }
    rows = t->shape[0];
    cols = t->shape[1] * 2;
    i->module = strlen(t->name) - strlen(packed ? ".weight_packed" : ".weight");
    i->scales = find_part(p, i, ".weight_scale");
    if (i->scales == NULL) {
        return false;
    }
    if (strcmp(i->scales->dtype->name, "F8_E4M3") == 0 && has_shape(i->scales, rows, cols / 16) &&
        cols % 16 == 0) {
        i->second = find_part(p, i, packed ? ".weight_global_scale" : ".weight_scale_2");
        if (i->second == NULL || strcmp(i->second->dtype->name, "F32") != 0 ||
            i->second->end - i->second->begin != sizeof(float)) {
            die("tensor '%s': no second-level scale, one F32, is beside it", t->name);
        }
        return true;
    }
    if ((strcmp(i->scales->dtype->name, "U8") == 0 ||
         strcmp(i->scales->dtype->name, "F8_E8M0") == 0) &&
        has_shape(i->scales, rows, cols / 32) && cols % 32 == 0) {
        return true;
    }
    die("tensor '%s': its dtype and shape are those of neither NVFP4 nor MXFP4 scales",
        i->scales->name);
}

static void absorb(plan *p, const st_tensor *t)
{
    if (t != NULL) {
        p->items[t - p->in->tensors].action = ABSORBED;
    }
}

/* Finds the quantized weights. */
static void plan_dequantization(plan *p)
{
    size_t i;

    for (i = 0; i < p->in->count; i++) {
        item *it = &p->items[i];
        if (find_scales(p, it)) {
            it->action = DEQUANTIZE;
            absorb(p, it->scales);
            absorb(p, it->second);
            add_output(it, ".weight", "F32", 2, it->codes->shape[0], it->codes->shape[1] * 2);
            p->acted_on++;
        }
    }
    for (i = 0; i < p->in->count; i++) {
        if (p->items[i].action == COPY) {
            plan_copy(&p->items[i], "not quantized");
        }
    }
}

static void check_output_names(const plan *p)
{
    const char **names = (const char **)allocate((p->order_count + 1) * sizeof *names, "the plan");
    const char *twice;
    size_t i;

    for (i = 0; i < p->order_count; i++) {
        names[i] = p->order[i]->name;
    }
    twice = st_find_duplicate(names, p->order_count);
    free(names);
    if (twice != NULL) {
        die("tensor '%s': the output would have two of that name", twice);
    }
}

/* Places and header of everything that will be written. */
static void lay_out(plan *p)
{
    size_t i, k;

    p->order = (st_tensor **)allocate((3 * p->in->count + 1) * sizeof *p->order, "the plan");
    for (i = 0; i < p->in->count; i++) {
        for (k = 0; k < p->items[i].to_count; k++) {
            p->order[p->order_count++] = &p->items[i].to[k];
        }
    }
    check_output_names(p);
    if (!st_lay_out(p->order, p->order_count)) {
        die("%s: too large, or out of memory", p->o->out);
    }
    p->header = st_make_header(p->order, p->order_count, p->in->metadata, &p->header_bytes);
    if (p->header == NULL) {
        die("%s: its header would be over %u bytes, or there is no memory", p->o->out,
            ST_MAX_HEADER);
    }
}

static plan make_plan(const options *o, const st_file *in)
{
    plan p = {o, in, NULL, 0, NULL, 0, NULL, 0};
    size_t i;

    p.items = (item *)allocate((in->count + 1) * sizeof *p.items, "the plan");
    memset(p.items, 0, (in->count + 1) * sizeof *p.items);
    for (i = 0; i < in->count; i++) {
        p.items[i].codes = &in->tensors[i];
        p.items[i].family = -1;
        p.items[i].next = &p.items[i];
        p.items[i].amax = -1.0f;
    }
    if (o->dequantize) {
        plan_dequantization(&p);
    } else {
        plan_quantization(&p);
    }
    lay_out(&p);
    if (p.acted_on == 0) {
        warn("%s: nothing to %s: every tensor is copied", o->in,
             o->dequantize ? "dequantize" : "quantize");
    }
    return p;
}

static void free_plan(plan *p)
{
    size_t i, k;

    for (i = 0; i < p->in->count; i++) {
        for (k = 0; k < 3; k++) {
            free(p->items[i].names[k]);
        }
    }
    free(p->items);
    free(p->order);
    free(p->header);
}

/* -------------------------------------------------------------------------------- table */

typedef struct totals {
    uint64_t before, after, elements; /* of the tensors acted on */
} totals;

static uint64_t size_of(const st_tensor *t)
{
    return t == NULL ? 0 : t->end - t->begin;
}

static uint64_t bytes_before(const item *i)
{
    return size_of(i->codes) + size_of(i->scales) + size_of(i->second);
}

static uint64_t bytes_after(const item *i)
{
    uint64_t bytes = 0;
    size_t k;

    for (k = 0; k < i->to_count; k++) {
        bytes += size_of(&i->to[k]);
    }
    return bytes;
}

static int name_width(const plan *p)
{
    size_t width = strlen("tensor"), i;

    for (i = 0; i < p->in->count; i++) {
        const size_t n = strlen(p->in->tensors[i].name);
        width = p->items[i].action != ABSORBED && n > width && n <= 100 ? n : width;
    }
    return (int)width;
}

static void print_heading(const plan *p)
{
    printf("%-*s  %-12s %-5s %-5s %11s %11s", name_width(p), "tensor", "shape", "from", "to",
           "bytes", "-> bytes");
    printf(p->o->dequantize ? "\n" : " %8s %9s\n", "SQNR dB", "saturated");
}

/* "[384, 384]", cut short where a shape is absurdly long. */
static void print_shape(const st_tensor *t)
{
    char text[64] = "[";
    size_t n = 1, i;

    for (i = 0; i < t->rank && n + 24 < sizeof text; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%" PRIu64, i == 0 ? "" : ", ",
                              t->shape[i]);
    }
    snprintf(text + n, sizeof text - n, "%s]", i == t->rank ? "" : ", ...");
    printf("%-12s ", text);
}

/* The part of a row that every tensor has. */
static void print_row(const plan *p, const item *i, const st_tensor *shape, const char *from,
                      const char *to)
{
    char *name = join(i->codes->name, strlen(i->codes->name), "");

    clear_progress();
    st_make_printable(name);
    printf("%-*s  ", name_width(p), name);
    print_shape(shape);
    printf("%-5s %-5s %11" PRIu64 " %11" PRIu64, from, to, bytes_before(i), bytes_after(i));
    free(name);
}

/* "  amax 0.5 of query, key, value" for a shared scale. */
static void print_siblings(const item *i)
{
    const item *other;

    printf("  amax %.6g", (double)i->amax);
    for (other = i->next; other != i; other = other->next) {
        const size_t parent = parent_length(other);
        printf("%s%.*s", other == i->next ? ", shared with " : ", ", (int)(other->module - parent),
               other->codes->name + parent);
    }
}

static void print_quantized(const plan *p, const item *i, const fp4_error *e)
{
    const bool nvfp4 = p->o->format == FP4_NVFP4;

    print_row(p, i, i->codes, i->codes->dtype->name, nvfp4 ? "NVFP4" : "MXFP4");
    if (isinf(e->sqnr_db)) {
        printf(" %8s", "exact");
    } else {
        printf(" %8.2f", e->sqnr_db);
    }
    printf(" %7.2f %%", 100.0 * e->saturated);
    if (nvfp4) {
        print_siblings(i);
    }
    printf("\n");
    fflush(stdout);
}

static void print_totals(const plan *p, const totals *sums, uint64_t in_bytes)
{
    const uint64_t out_bytes =
        p->header_bytes + (p->order_count == 0 ? 0 : p->order[p->order_count - 1]->end);

    printf("\n%s %zu of %zu tensors: %" PRIu64 " -> %" PRIu64 " bytes",
           p->o->dequantize ? "dequantized" : "quantized", p->acted_on, p->in->count, sums->before,
           sums->after);
    if (sums->elements != 0) {
        printf(", %.2f -> %.2f bits an element",
               8.0 * (double)sums->before / (double)sums->elements,
               8.0 * (double)sums->after / (double)sums->elements);
    }
    printf("\nfile: %" PRIu64 " -> %" PRIu64 " bytes\n", in_bytes, out_bytes);
}

/* A line that the next one overwrites, on a terminal only. */
static void print_progress(const plan *p, const item *i)
{
    const uint64_t all = p->in->data_bytes;
    char *name;

    if (show_progress) {
        name = join(i->codes->name, strlen(i->codes->name), "");
        st_make_printable(name);
        clear_progress();
        fprintf(stderr, "%3.0f %%  %.60s",
                all == 0 ? 100.0 : 100.0 * (double)i->codes->begin / (double)all, name);
        fflush(stderr);
        free(name);
    }
}

/* -------------------------------------------------------------------------------- work */

static void write_tensor(const plan *p, const st_tensor *t, const void *bytes)
{
    st_error what;

    snprintf(what.text, sizeof what.text, "tensor '%s'", t->name);
    write_at(&outputs[0], bytes, size_of(t), p->header_bytes + t->begin, what.text);
}

static void check(fp4_status status, const st_tensor *t)
{
    if (status != FP4_OK) {
        die("tensor '%s': %s", t->name, fp4_status_text(status));
    }
}

/* The largest amax in the ring, found once for all of its members. */
static float amax_of(const plan *p, item *i)
{
    item *each = i;
    float amax = 0.0f, one = 0.0f;

    if (i->amax >= 0.0f) {
        return i->amax;
    }
    do {
        check(fp4_ref_amax(matrix_of(p, each->codes), &one), each->codes);
        amax = one > amax ? one : amax;
        each = each->next;
    } while (each != i);
    do {
        each->amax = amax;
        each = each->next;
    } while (each != i);
    return amax;
}

/* Fills t from x by the format and rule asked for. */
static fp4_status quantize(const options *o, fp4_matrix x, float global_enc, fp4_tensor *t)
{
    if (o->format == FP4_NVFP4) {
        return fp4_ref_nvfp4_quantize(x, global_enc, t);
    }
    switch (o->rule) {
    case RULE_FLOOR:
        return fp4_ref_mxfp4_quantize_floor(x, t);
    case RULE_CEIL:
        return fp4_ref_mxfp4_quantize_ceil(x, t);
    case RULE_EVEN:
        return fp4_ref_mxfp4_quantize_even(x, t);
    case RULE_UP:
        break;
    }
    return fp4_ref_mxfp4_quantize(x, t);
}

static void quantize_item(const plan *p, item *i)
{
    const bool nvfp4 = p->o->format == FP4_NVFP4;
    const fp4_matrix x = matrix_of(p, i->codes);
    const size_t q_bytes = (size_t)size_of(&i->to[0]), sf_bytes = (size_t)size_of(&i->to[1]);
    const float global_enc = nvfp4 ? fp4_nvfp4_global_enc(amax_of(p, i)) : 1.0f;
    fp4_tensor t = fp4_tensor_view(p->o->format, FP4_LAYOUT_LINEAR, x.rows, x.cols,
                                   (uint8_t *)allocate(q_bytes, i->codes->name), q_bytes,
                                   (uint8_t *)allocate(sf_bytes, i->codes->name), sf_bytes);
    fp4_error e;

    check(quantize(p->o, x, global_enc, &t), i->codes);
    check(fp4_ref_error(x, &t, &e), i->codes);
    if (!isfinite(e.mse)) {
        die("tensor '%s': holds NaN or infinity, or values so near the largest float that they "
            "decode to infinity; --exclude keeps it as it is",
            i->codes->name);
    }
    write_tensor(p, &i->to[0], t.q);
    write_tensor(p, &i->to[1], t.sf);
    if (nvfp4) {
        write_tensor(p, &i->to[2], p->o->names == MODELOPT ? &t.global_dec : &global_enc);
    }
    print_quantized(p, i, &e);
    free(t.q);
    free(t.sf);
}

/* The second-level scale in decode sense, whichever sense the names give it. */
static float read_global_dec(const plan *p, const item *i)
{
    const bool is_enc = ends_with(i->codes->name, ".weight_packed");
    float value;

    memcpy(&value, bytes_of(p, i->second), sizeof value);
    if (!isfinite(value) || value < 0.0f || (is_enc && value == 0.0f)) {
        die("tensor '%s': %g is no scale", i->second->name, (double)value);
    }
    return is_enc ? fp4_nvfp4_global_dec(value) : value;
}

static void dequantize_item(const plan *p, const item *i)
{
    const fp4_format format = i->second != NULL ? FP4_NVFP4 : FP4_MXFP4;
    const size_t rows = (size_t)i->to[0].shape[0], cols = (size_t)i->to[0].shape[1];
    const size_t bytes = (size_t)size_of(&i->to[0]);
    /* A view for reading: nothing writes through its pointers. */
    fp4_tensor t =
        fp4_tensor_view(format, FP4_LAYOUT_LINEAR, rows, cols,
                        (uint8_t *)(uintptr_t)bytes_of(p, i->codes), (size_t)size_of(i->codes),
                        (uint8_t *)(uintptr_t)bytes_of(p, i->scales), (size_t)size_of(i->scales));
    float *y;

    t.global_dec = i->second != NULL ? read_global_dec(p, i) : 1.0f;
    y = (float *)allocate(bytes, i->codes->name);
    check(fp4_ref_dequantize(&t, y, bytes, cols), i->codes);
    write_tensor(p, &i->to[0], y);
    print_row(p, i, &i->to[0], format == FP4_NVFP4 ? "NVFP4" : "MXFP4", "F32");
    printf("\n");
    fflush(stdout);
    free(y);
}

static void copy_item(const plan *p, const item *i)
{
    write_tensor(p, &i->to[0], bytes_of(p, i->codes));
    print_row(p, i, i->codes, i->codes->dtype->name, "-");
    printf("  kept: %s\n", i->why);
}

static totals work_through(const plan *p)
{
    totals sums = {0, 0, 0};
    size_t n;

    print_heading(p);
    write_at(&outputs[0], p->header, p->header_bytes, 0, "the header");
    for (n = 0; n < p->in->count; n++) {
        item *i = &p->items[n];
        print_progress(p, i);
        switch (i->action) {
        case QUANTIZE:
            quantize_item(p, i);
            break;
        case DEQUANTIZE:
            dequantize_item(p, i);
            break;
        case COPY:
            copy_item(p, i);
            break;
        case ABSORBED:
            break;
        }
        if (i->action == QUANTIZE || i->action == DEQUANTIZE) {
            sums.before += bytes_before(i);
            sums.after += bytes_after(i);
            sums.elements += i->action == QUANTIZE ? i->codes->shape[0] * i->codes->shape[1]
                                                   : i->to[0].shape[0] * i->to[0].shape[1];
        }
    }
    clear_progress();
    return sums;
}

/* -------------------------------------------------------------------------------- configs */

/* A quantized weight belongs to the module or to one below it. */
static bool holds_quantized(const plan *p, const char *module, size_t length)
{
    size_t i;

    for (i = 0; i < p->in->count; i++) {
        if (p->items[i].action == QUANTIZE &&
            strncmp(p->items[i].codes->name, module, length) == 0 &&
            p->items[i].codes->name[length] == '.') {
            return true;
        }
    }
    return false;
}

static void add_name(cJSON *array, const char *name, size_t length)
{
    char *text = join(name, length, "");
    const cJSON *last = array->child == NULL ? NULL : array->child->prev;

    if (last == NULL || strcmp(last->valuestring, text) != 0) {
        cJSON_AddItemToArray(array, cJSON_CreateString(text));
    }
    free(text);
}

/* The modules that engines must not take for quantized: those of float tensors with two or more
   dimensions, and the output head even where it is not in the file, since it may be tied to the
   embedding. */
static cJSON *make_kept_modules(const plan *p)
{
    cJSON *array = cJSON_CreateArray();
    bool head = false;
    size_t i;

    for (i = 0; i < p->in->count; i++) {
        const char *name = p->items[i].codes->name, *dot = strrchr(name, '.');
        const size_t length = dot == NULL ? 0 : (size_t)(dot - name);
        head = head || strcmp(name, "lm_head.weight") == 0;
        if (p->items[i].action == COPY && is_float(p->items[i].codes) &&
            p->items[i].codes->rank >= 2 && length != 0 && !holds_quantized(p, name, length)) {
            add_name(array, name, length);
        }
    }
    if (!head) {
        cJSON_AddItemToArray(array, cJSON_CreateString("lm_head"));
    }
    return array;
}

static void add_producer(cJSON *object)
{
    cJSON *producer = cJSON_AddObjectToObject(object, "producer");
    char version[32];

    snprintf(version, sizeof version, "%d.%d.%d", FP4_VERSION_MAJOR, FP4_VERSION_MINOR,
             FP4_VERSION_PATCH);
    cJSON_AddStringToObject(producer, "name", "fp4");
    cJSON_AddStringToObject(producer, "version", version);
}

/* ModelOpt's name for weights of this format and activations as they are. */
static const char *modelopt_algorithm(const options *o)
{
    return o->format == FP4_NVFP4 ? "W4A16_NVFP4" : "mxfp4";
}

static double group_size(const options *o)
{
    return (double)fp4_format_block(o->format);
}

/* hf_quant_config.json, with the keys that ModelOpt writes and vLLM asks for. */
static cJSON *make_modelopt_file(const plan *p)
{
    cJSON *file = cJSON_CreateObject(), *quantization;

    add_producer(file);
    cJSON_AddStringToObject(file, "quant_method", "modelopt");
    quantization = cJSON_AddObjectToObject(file, "quantization");
    cJSON_AddStringToObject(quantization, "quant_algo", modelopt_algorithm(p->o));
    cJSON_AddNullToObject(quantization, "kv_cache_quant_algo");
    cJSON_AddNumberToObject(quantization, "group_size", group_size(p->o));
    cJSON_AddItemToObject(quantization, "exclude_modules", make_kept_modules(p));
    return file;
}

/* The group of layers that config.json describes: all linear ones, weights only. */
static cJSON *add_group(const plan *p, cJSON *config)
{
    cJSON *groups = cJSON_AddObjectToObject(config, "config_groups");
    cJSON *group = cJSON_AddObjectToObject(groups, "group_0");
    cJSON *weights = cJSON_AddObjectToObject(group, "weights");
    cJSON *targets = cJSON_AddArrayToObject(group, "targets");

    cJSON_AddItemToArray(targets, cJSON_CreateString("Linear"));
    cJSON_AddNumberToObject(weights, "num_bits", 4);
    cJSON_AddStringToObject(weights, "type", "float");
    cJSON_AddNumberToObject(weights, "group_size", group_size(p->o));
    cJSON_AddFalseToObject(weights, "dynamic");
    return weights;
}

/* The "quantization_config" of config.json as ModelOpt puts it there. */
static cJSON *make_modelopt_block(const plan *p)
{
    cJSON *config = cJSON_CreateObject();

    add_group(p, config);
    cJSON_AddItemToObject(config, "ignore", make_kept_modules(p));
    cJSON_AddStringToObject(config, "quant_algo", modelopt_algorithm(p->o));
    add_producer(config);
    cJSON_AddStringToObject(config, "quant_method", "modelopt");
    return config;
}

/* The same for compressed-tensors. */
static cJSON *make_compressed_tensors_block(const plan *p)
{
    const bool nvfp4 = p->o->format == FP4_NVFP4;
    cJSON *config = cJSON_CreateObject(), *weights;

    cJSON_AddStringToObject(config, "quant_method", "compressed-tensors");
    cJSON_AddStringToObject(config, "format",
                            nvfp4 ? "nvfp4-pack-quantized" : "mxfp4-pack-quantized");
    cJSON_AddStringToObject(config, "quantization_status", "compressed");
    weights = add_group(p, config);
    cJSON_AddTrueToObject(weights, "symmetric");
    cJSON_AddStringToObject(weights, "strategy", nvfp4 ? "tensor_group" : "group");
    cJSON_AddItemToObject(config, "ignore", make_kept_modules(p));
    return config;
}

/* JSON as text, to be freed; frees the JSON. */
static char *print_json(cJSON *json)
{
    char *text = cJSON_Print(json);

    cJSON_Delete(json);
    return text;
}

/* An output beside the model, with this text and a line end. */
static void write_config(const plan *p, const char *name, const char *text)
{
    create_output(join(p->o->out, folder_length(p->o->out), name));
    write_at(&outputs[output_count - 1], text, strlen(text), 0, "the config");
    write_at(&outputs[output_count - 1], "\n", 1, strlen(text), "the config");
}

/* A copy of the input's config.json with "quantization_config" as its last member. The text is
   spliced: cJSON would rewrite 10000.0 as 10000. */
static void write_merged_config(const plan *p, const char *path, const mapping *config,
                                const char *block)
{
    const char *text = (const char *)config->bytes, *end = text;
    cJSON *json = cJSON_ParseWithLengthOpts(text, (size_t)config->size, &end, 0);
    const bool empty = json != NULL && json->child == NULL;
    char *merged;
    size_t head;

    if (!cJSON_IsObject(json) || cJSON_HasObjectItem(json, "quantization_config")) {
        die("%s: %s", path,
            cJSON_IsObject(json) ? "has a quantization_config already" : "is not a JSON object");
    }
    cJSON_Delete(json);
    do { /* back over the closing brace, and what space is before it */
        end--;
    } while (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r' || end[-1] == '\n');
    head = (size_t)(end - text);
    merged = (char *)allocate(head + strlen(block) + 64, path);
    memcpy(merged, text, head);
    sprintf(merged + head, "%s\n  \"quantization_config\": %s\n}", empty ? "" : ",", block);
    write_config(p, "config.json", merged);
    free(merged);
}

/* What an engine reads beside the weights. */
static void write_configs(const plan *p)
{
    const bool modelopt = p->o->names == MODELOPT;
    char *block, *path = join(p->o->in, folder_length(p->o->in), "config.json");
    mapping config;

    if (modelopt) {
        block = print_json(make_modelopt_file(p));
        write_config(p, "hf_quant_config.json", block);
        cJSON_free(block);
    }
    block = print_json(modelopt ? make_modelopt_block(p) : make_compressed_tensors_block(p));
    if (access(path, F_OK) == 0 && !is_same_folder(p->o->in, p->o->out)) {
        config = map_input(path);
        write_merged_config(p, path, &config, block);
        munmap(config.bytes, (size_t)config.size);
    } else if (!modelopt) {
        write_config(p, "quantization_config.json", block);
        printf("quantization_config.json goes into the model's config.json, under the key "
               "\"quantization_config\"\n");
    }
    cJSON_free(block);
    free(path);
}

/* -------------------------------------------------------------------------------- main */

static void *allocate_json(size_t bytes)
{
    return allocate(bytes, "JSON");
}

/* From the plan to files that are ready to get their names. */
static void write_outputs(const plan *p, uint64_t in_bytes)
{
    totals sums;
    int i;

    create_output(join(p->o->out, strlen(p->o->out), ""));
    sums = work_through(p);
    print_totals(p, &sums, in_bytes);
    if (!p->o->dequantize) {
        write_configs(p);
    }
    for (i = 0; i < output_count; i++) {
        printf("%s%s", i == 0 ? "wrote " : ", ", outputs[i].name);
    }
    printf("\n");
    if (fflush(stdout) != 0 || ferror(stdout)) {
        die("standard output: cannot be written");
    }
}

int main(int argc, char **argv)
{
    cJSON_Hooks hooks = {allocate_json, free};
    options o = parse_options(argc, argv);
    mapping m;
    st_file in;
    st_error error;
    plan p;

    handle_signals();
    cJSON_InitHooks(&hooks);
    show_progress = isatty(STDERR_FILENO) == 1;
    m = map_input(o.in);
    if (is_same_file(&m, o.out)) {
        die("%s: is the input; the output must be another file", o.out);
    }
    if (!st_read(&in, m.bytes, m.size, &error)) {
        die("%s: %s", o.in, error.text);
    }
    p = make_plan(&o, &in);
    write_outputs(&p, m.size);
    commit_outputs();

    free_outputs();
    free_plan(&p);
    st_close(&in);
    munmap(m.bytes, (size_t)m.size);
    free(o.patterns);
    return 0;
}
