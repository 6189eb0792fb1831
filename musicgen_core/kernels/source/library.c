/* What Python calls, by ctypes: see `musicgen_core/kernels/library.py`. */
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#ifdef __x86_64__
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#define EXPORT __attribute__((visibility("default")))

enum { PAGE = 4096, HUGE_PAGE = 1 << 21 };

static void *reserve(size_t bytes) {
    size_t unit = bytes >= HUGE_PAGE ? HUGE_PAGE : bytes >= PAGE ? PAGE : 64;
    size_t size = (bytes + unit - 1) / unit * unit;
    void *memory = aligned_alloc(unit, size ? size : unit);
    if (!memory) {
        fprintf(stderr, "musicgen: no memory for %zu bytes\n", bytes);
        abort();
    }
#ifdef __linux__
    /* Weights are read from end to end in every step: fewer, larger pages cost fewer look-ups. */
    if (unit == HUGE_PAGE) madvise(memory, size, MADV_HUGEPAGE);
#endif
    return memory;
}

void *allocate(size_t bytes) { return memset(reserve(bytes), 0, bytes); }

struct rows new_rows(int64_t count, int64_t width, int is_int8) {
    if (!is_int8) return (struct rows){.values = reserve((size_t)(count * width) * sizeof(float))};
    count += 16 - 1;     /* the last tile may have room for more rows */
    width += 16 * GROUP; /* and every row for more groups */
    return (struct rows){
        .levels = reserve((size_t)(count * width) * sizeof(int16_t)),
        .scales = reserve((size_t)count * sizeof(float)),
        .offsets = reserve((size_t)count * sizeof(int32_t)),
    };
}

void free_rows(struct rows *rows) {
    free(rows->values);
    free(rows->levels);
    free(rows->scales);
    free(rows->offsets);
}

/* ---- which variants this machine runs ---- */

#ifdef __x86_64__
struct features {
    int avx2, avx2_vnni, avx512_vnni, avx512_amx;
};

static struct features find_features(void) {
    unsigned a, b, c, d, leaf1_c, leaf7_b, leaf7_c, leaf7_d, leaf7_1_a = 0;
    struct features found = {0, 0, 0, 0};
    if (!__get_cpuid(1, &a, &b, &leaf1_c, &d) || !(leaf1_c & (1u << 27))) return found; /* OSXSAVE */
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    int saves_avx = (low & 0x6) == 0x6, saves_avx512 = (low & 0xE6) == 0xE6;
    if (!saves_avx || !__get_cpuid_count(7, 0, &a, &leaf7_b, &leaf7_c, &leaf7_d)) return found;
    if (a >= 1) __get_cpuid_count(7, 1, &leaf7_1_a, &b, &c, &d);
    int fma_f16c = (leaf1_c & (1u << 12)) && (leaf1_c & (1u << 29));
    found.avx2 = fma_f16c && (leaf7_b & (1u << 5));
    found.avx2_vnni = found.avx2 && (leaf7_1_a & (1u << 4));
    unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    found.avx512_vnni = found.avx2 && saves_avx512 && (leaf7_b & avx512) == avx512 && (leaf7_c & (1u << 11));
#ifdef __linux__
    /* Tile registers are off until a process asks for them. */
    unsigned amx = 1u << 24 | 1u << 25; /* TILE, INT8 */
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    found.avx512_amx = found.avx512_vnni && (leaf7_d & amx) == amx &&
                       syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#endif
    return found;
}
#endif

/* The variants that run here, the fastest first; NULL after the last. */
EXPORT const struct kernels *kernels_variant(int index) {
    const struct kernels *found[8] = {NULL};
    int count = 0;
#ifdef __x86_64__
    struct features features = find_features();
    if (features.avx512_amx) found[count++] = &kernels_avx512_amx;
    if (features.avx512_vnni) found[count++] = &kernels_avx512_vnni;
    if (features.avx2_vnni) found[count++] = &kernels_avx2_vnni;
    if (features.avx2) found[count++] = &kernels_avx2;
#elif defined(__aarch64__) && defined(__linux__)
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) found[count++] = &kernels_neon_dot;
#elif defined(__aarch64__) && defined(__APPLE__)
    found[count++] = &kernels_neon_dot; /* all of Apple's have it */
#endif
    found[count++] = &kernels_generic;
    return index < count ? found[index] : NULL;
}

EXPORT const char *kernels_name(const struct kernels *kernels) { return kernels->name; }

EXPORT struct team *kernels_team_start(int members) { return team_start(members); }
EXPORT void kernels_team_end(struct team *team) { team_end(team); }

/* ---- matrices ---- */

EXPORT struct matrix *kernels_matrix(const struct kernels *kernels, const float *weights, int64_t outputs,
                                     int64_t inputs, int is_int8) {
    struct matrix *matrix = allocate(sizeof *matrix);
    matrix->kernels = kernels;
    matrix->outputs = outputs;
    matrix->inputs = inputs;
    matrix->is_int8 = is_int8;
    matrix->panels = (outputs + PANEL - 1) / PANEL;
    int64_t multiple = GROUP * kernels->group_multiple;
    matrix->groups = is_int8 ? (inputs + multiple - 1) / multiple * kernels->group_multiple : inputs;
    matrix->bytes = (size_t)(matrix->panels * PANEL * matrix->groups) * 4; /* a float, or GROUP bytes */
    matrix->weights = allocate(matrix->bytes);
    if (is_int8) matrix->scales = allocate((size_t)(matrix->panels * PANEL) * sizeof(float));
    kernels->pack(matrix, weights);
    return matrix;
}

EXPORT void kernels_matrix_free(struct matrix *matrix) {
    free(matrix->weights);
    free(matrix->scales);
    free(matrix);
}

EXPORT void kernels_multiply(struct team *team, const struct matrix *matrix, const float *x, int64_t rows, float *out) {
    matrix->kernels->multiply(team, matrix, x, rows, out);
}

/* ---- decoders ---- */

EXPORT struct decoder *kernels_decoder(struct team *team, const struct matrix *head, const int64_t shape[10],
                                       int activation, float epsilon, const float *embedding, const float *positions,
                                       const float *norm_weight, const float *norm_bias) {
    struct decoder *decoder = allocate(sizeof *decoder);
    decoder->kernels = head->kernels;
    decoder->team = team;
    decoder->layers = shape[0];
    decoder->dim = shape[1];
    decoder->heads = shape[2];
    decoder->head_dim = shape[1] / shape[2];
    decoder->ffn_dim = shape[3];
    decoder->codebooks = shape[4];
    decoder->vocabulary = shape[5];
    decoder->max_rows = shape[6];
    decoder->max_positions = shape[7];
    decoder->cache_number = (int)shape[8];
    decoder->max_ranks = (shape[9] + PANEL - 1) / PANEL * PANEL;
    decoder->activation = activation;
    decoder->epsilon = epsilon;
    decoder->head = head;
    decoder->embedding = embedding;
    decoder->positions = positions;
    decoder->norm[0] = norm_weight;
    decoder->norm[1] = norm_bias;
    decoder->layer = allocate((size_t)decoder->layers * sizeof *decoder->layer);
    size_t rows = (size_t)decoder->max_rows, dim = (size_t)decoder->dim, ffn = (size_t)decoder->ffn_dim;
    decoder->x = allocate(rows * dim * sizeof(float));
    decoder->normed = allocate(rows * dim * sizeof(float));
    decoder->qkv = allocate(rows * 3 * dim * sizeof(float));
    decoder->attended = allocate(rows * dim * sizeof(float));
    decoder->inner = allocate(rows * ffn * sizeof(float));
    decoder->scores = allocate((size_t)team_size(team) * (size_t)decoder->max_positions * sizeof(float));
    decoder->pieces = allocate(rows * PIECES * (size_t)decoder->max_ranks * sizeof(float));
    decoder->low = allocate((size_t)team_size(team) * rows * (size_t)decoder->max_ranks * sizeof(float));
    decoder->prepared = new_rows(decoder->max_rows, (int64_t)(dim > ffn ? dim : ffn), head->is_int8);
    return decoder;
}

/* `norms`: weight and bias of each of three; `matrices`: in the order of `struct layer`. */
EXPORT void kernels_decoder_layer(struct decoder *decoder, int64_t index, const float *const norms[6],
                                  const struct matrix *const matrices[6]) {
    struct layer *layer = &decoder->layer[index];
    memcpy(layer->norm, norms, sizeof layer->norm);
    layer->qkv = matrices[0];
    layer->attention_out = matrices[1];
    layer->condition_query = matrices[2];
    layer->condition_out = matrices[3];
    layer->feed_forward_in = matrices[4];
    layer->feed_forward_out = matrices[5];
}

EXPORT void kernels_decoder_cache(struct decoder *decoder, void *keys_values, const int64_t keys_values_strides[4],
                                  void *condition, const int64_t condition_strides[4]) {
    decoder->keys_values = keys_values;
    decoder->condition = condition;
    memcpy(decoder->keys_values_strides, keys_values_strides, sizeof decoder->keys_values_strides);
    memcpy(decoder->condition_strides, condition_strides, sizeof decoder->condition_strides);
}

EXPORT void kernels_step(struct decoder *decoder, const struct row *rows, int64_t count) {
    decoder->kernels->step(decoder, rows, count);
}

EXPORT void kernels_decoder_free(struct decoder *decoder) {
    float *scratch[] = {decoder->x,     decoder->normed, decoder->qkv,    decoder->attended,
                        decoder->inner, decoder->scores, decoder->pieces, decoder->low};
    for (size_t index = 0; index < sizeof scratch / sizeof *scratch; index++) free(scratch[index]);
    free_rows(&decoder->prepared);
    free(decoder->layer);
    free(decoder);
}

/* ---- adapters ---- */

/* `tables`, `embedding`: NULL with an `embedding_rank` of 0. What an adapter is given must outlive it. */
EXPORT struct adapter *kernels_adapter(int64_t layers, int64_t embedding_rank, const float *tables,
                                       const float *embedding) {
    struct adapter *adapter = allocate(sizeof *adapter);
    adapter->products = allocate((size_t)(layers * PRODUCTS + 1) * sizeof *adapter->products);
    adapter->embedding_rank = embedding_rank;
    adapter->tables = tables;
    adapter->embedding = embedding;
    return adapter;
}

EXPORT void kernels_adapter_product(struct adapter *adapter, int64_t index, const struct matrix *a,
                                    const struct matrix *b, const int64_t *spans) {
    adapter->products[index] = (struct low_rank){a, b, spans};
}

EXPORT void kernels_adapter_free(struct adapter *adapter) {
    free(adapter->products);
    free(adapter);
}
