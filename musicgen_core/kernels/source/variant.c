/* The computation, for one set of instructions: compiled once for each, with VARIANT set to its name.
 *
 * Products read weights that are packed in panels of PANEL outputs, and rows that are packed in tiles. One panel times
 * one tile is summed in registers while the panel's weights are read, from memory for the first tile and from the cache
 * for further ones. Each row's sum goes over the inputs in their order: its bits do not depend on the other rows.
 *
 * The phases of a step are separated by waits of the whole team. Within a phase its members take parts (panels, rows,
 * heads) as they get to them, so that a core that is slower, or busy with something else, does not hold up the others.
 */
#include "kernels.h"

#include <math.h>
#include <string.h>

#define CONCAT_(a, b) a##b
#define CONCAT(a, b) CONCAT_(a, b)
#define STRING_(a) #a
#define STRING(a) STRING_(a)
#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#define MAX_TILE 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
#define MAX_TILE 6
#ifndef __AVXVNNI__
#define MAX_INT8_TILE 3 /* needs twice the registers */
#endif
#elif defined(__ARM_FEATURE_DOTPROD)
#define LANES 4
#define MAX_TILE 6
#else
#define LANES 4
#define MAX_TILE 2
#endif
#ifdef __aarch64__
#include <arm_neon.h>
#endif
#ifdef __AMX_INT8__
#define FEWEST_IN_16 5 /* tile registers take 16 rows as quickly as fewer */
#define GROUP_MULTIPLE 16
#else
#define FEWEST_IN_16 16
#define GROUP_MULTIPLE 1
#endif
#ifndef MAX_INT8_TILE
#define MAX_INT8_TILE MAX_TILE
#endif

enum { PARTS = PANEL / LANES, PARTS_A_MEMBER = 8, LEVELS = 127, AHEAD = 4096, BLOCK = 64 };

typedef float floats __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t ints __attribute__((vector_size(LANES * 4), aligned(4)));

INLINE floats load(const float *from) { return *(const floats *)from; }
INLINE void store(float *to, floats x) { *(floats *)to = x; }
INLINE floats all(float x) { return x - (floats){0}; }

INLINE floats multiply_add(floats a, floats b, floats c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
    return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
    return (floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

INLINE floats to_floats(ints x) { return __builtin_convertvector(x, floats); }
INLINE floats as_floats(ints x) { return (floats)x; }
INLINE floats choose(ints where, floats a, floats b) { return (floats)((where & (ints)a) | (~where & (ints)b)); }

INLINE float sum(floats x) {
    float total = 0;
    for (int lane = 0; lane < LANES; lane++) total += x[lane];
    return total;
}

/* ---- elementary functions, within some 2e-7 of the real ones ---- */

/* exp by 2^n * e^r, |r| <= ln(2) / 2; below -87 it is about 1e-38, above 88 about 1e38. */
INLINE floats exponential(floats x) {
    x = choose(x < -87.0f, all(-87.0f), choose(x > 88.0f, all(88.0f), x));
    floats rounding = all(12582912.0f); /* adding 1.5 * 2^23 rounds to whole numbers */
    floats n = multiply_add(x, all(1.44269504f), rounding) - rounding;
    floats r = multiply_add(n, all(-0.693359375f), x);
    r = multiply_add(n, all(2.12194440e-4f), r);
    floats p = all(1.0f / 720);
    p = multiply_add(p, r, all(1.0f / 120));
    p = multiply_add(p, r, all(1.0f / 24));
    p = multiply_add(p, r, all(1.0f / 6));
    p = multiply_add(p, r, all(0.5f));
    p = multiply_add(p, r, all(1.0f));
    p = multiply_add(p, r, all(1.0f));
    ints exponent = (__builtin_convertvector(n, ints) + 127) << 23;
    return p * as_floats(exponent);
}

/* Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 7.1.26; error at most 1.5e-7. */
INLINE floats error_function(floats x) {
    floats size = choose(x < 0.0f, -x, x);
    floats t = 1.0f / multiply_add(all(0.3275911f), size, all(1.0f));
    floats p = multiply_add(all(1.061405429f), t, all(-1.453152027f));
    p = multiply_add(p, t, all(1.421413741f));
    p = multiply_add(p, t, all(-0.284496736f));
    p = multiply_add(p, t, all(0.254829592f));
    floats y = 1.0f - p * t * exponential(-size * size);
    return choose(x < 0.0f, -y, y);
}

INLINE floats activate(floats x, int activation) {
    switch (activation) {
    case GELU: return 0.5f * x * (1.0f + error_function(x * 0.70710678f));
    case RELU: return choose(x > 0.0f, x, all(0.0f));
    case SILU: return x / (1.0f + exponential(-x));
    default: return x;
    }
}

/* ---- products in float32 ---- */

INLINE void float_tile(const float *weights, int64_t inputs, const float *x, int rows, floats sums[][PARTS]) {
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < PARTS; part++) sums[row][part] = all(0.0f);
    for (int64_t input = 0; input < inputs; input++, weights += PANEL, x += rows) {
        __builtin_prefetch((const char *)weights + AHEAD);
        floats w[PARTS];
        for (int part = 0; part < PARTS; part++) w[part] = load(weights + part * LANES);
        for (int row = 0; row < rows; row++) {
            floats value = all(x[row]);
            for (int part = 0; part < PARTS; part++) sums[row][part] = multiply_add(w[part], value, sums[row][part]);
        }
    }
}

/* ---- products in 8 bits: whole numbers, so exactly the same in every variant ---- */

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(__ARM_FEATURE_DOTPROD)
typedef int8_t level;
#ifdef __ARM_FEATURE_DOTPROD
enum { WEIGHT_OFFSET = 0 };
#else
enum { WEIGHT_OFFSET = 128 }; /* the instruction takes weights without a sign; the sums of levels put it right */
#endif

INLINE ints dot(ints sum, const uint8_t *weights, const level *x) {
    int32_t four;
    memcpy(&four, x, sizeof four);
#if defined(__AVX512VNNI__)
    return (ints)_mm512_dpbusd_epi32((__m512i)sum, _mm512_loadu_si512(weights), _mm512_set1_epi32(four));
#elif defined(__ARM_FEATURE_DOTPROD)
    return (ints)vdotq_s32((int32x4_t)sum, vld1q_s8((const int8_t *)weights), vreinterpretq_s8_s32(vdupq_n_s32(four)));
#else
    __m256i w = _mm256_loadu_si256((const __m256i *)weights);
    return (ints)_mm256_dpbusd_avx_epi32((__m256i)sum, w, _mm256_set1_epi32(four));
#endif
}

#ifdef __AMX_INT8__
/* Three tile registers: sums of 16 rows and 16 outputs, 64 levels of 16 rows, 64 weights of 16 outputs. */
static const struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} TILE_SHAPES = {.palette = 1, .row_bytes = {64, 64, 64}, .rows = {16, 16, 16}};

/* Sixteen rows at once, by the tile registers: [groups / 16][16 rows][64 levels] times the panel as it is. */
INLINE void int8_tile_of_16(const uint8_t *weights, int64_t groups, const level *x, ints sums[][PARTS]) {
    _tile_zero(0);
    for (int64_t group = 0; group < groups; group += 16, weights += 16 * PANEL * GROUP, x += 16 * 16 * GROUP) {
        for (int line = 0; line < 16; line++) __builtin_prefetch(weights + AHEAD + line * 64);
        _tile_loadd(1, x, 64);
        _tile_loadd(2, weights, 64);
        _tile_dpbsud(0, 1, 2);
    }
    _tile_stored(0, sums, 64);
}
#endif

INLINE void int8_tile(const uint8_t *weights, int64_t groups, const level *x, int rows, ints sums[][PARTS]) {
#ifdef __AMX_INT8__
    if (rows == 16) {
        int8_tile_of_16(weights, groups, x, sums);
        return;
    }
#endif
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < PARTS; part++) sums[row][part] = (ints){0};
    for (int64_t group = 0; group < groups; group++, weights += PANEL * GROUP, x += rows * GROUP) {
        __builtin_prefetch(weights + AHEAD);
        for (int part = 0; part < PARTS; part++)
            for (int row = 0; row < rows; row++)
                sums[row][part] = dot(sums[row][part], weights + part * LANES * GROUP, x + row * GROUP);
    }
}
#elif defined(__AVX2__)
typedef int16_t level;
enum { WEIGHT_OFFSET = 0 };

/* Weights are widened to 16 bits; adding pairs of products leaves two sums for each output, which the end adds up. */
INLINE void int8_tile(const uint8_t *weights, int64_t groups, const level *x, int rows, ints sums[][PARTS]) {
    __m256i pairs[MAX_TILE][4];
    for (int row = 0; row < rows; row++)
        for (int quarter = 0; quarter < 4; quarter++) pairs[row][quarter] = _mm256_setzero_si256();
    for (int64_t group = 0; group < groups; group++, weights += PANEL * GROUP, x += rows * GROUP) {
        __builtin_prefetch(weights + AHEAD);
        __m256i four[MAX_TILE];
        for (int row = 0; row < rows; row++)
            four[row] = _mm256_castpd_si256(_mm256_broadcast_sd((const double *)(x + row * GROUP)));
        for (int quarter = 0; quarter < 4; quarter++) {
            __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(weights + quarter * 16)));
            for (int row = 0; row < rows; row++)
                pairs[row][quarter] = _mm256_add_epi32(pairs[row][quarter], _mm256_madd_epi16(w, four[row]));
        }
    }
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < PARTS; part++) {
            __m256i mixed = _mm256_hadd_epi32(pairs[row][part * 2], pairs[row][part * 2 + 1]);
            sums[row][part] = (ints)_mm256_permute4x64_epi64(mixed, 0xD8);
        }
}
#else
typedef int16_t level;
enum { WEIGHT_OFFSET = 0 };

INLINE void int8_tile(const uint8_t *weights, int64_t groups, const level *x, int rows, ints sums[][PARTS]) {
    for (int row = 0; row < rows; row++) {
        int32_t total[PANEL] = {0};
        for (int64_t group = 0; group < groups; group++)
            for (int output = 0; output < PANEL; output++)
                for (int input = 0; input < GROUP; input++)
                    total[output] += (int8_t)weights[(group * PANEL + output) * GROUP + input] *
                                     x[(group * rows + row) * GROUP + input];
        memcpy(sums[row], total, sizeof total);
    }
}
#endif

/* ---- packing ---- */

static void pack(struct matrix *matrix, const float *weights) {
    int64_t inputs = matrix->inputs;
    float *floats_out = matrix->weights;
    uint8_t *bytes_out = matrix->weights;
    for (int64_t output = 0; output < matrix->panels * PANEL; output++) {
        const float *from = weights + output * inputs;
        int64_t panel = output / PANEL, lane = output % PANEL, width = matrix->groups;
        int real = output < matrix->outputs;
        if (!matrix->is_int8) {
            for (int64_t input = 0; real && input < inputs; input++)
                floats_out[(panel * width + input) * PANEL + lane] = from[input];
            continue;
        }
        float largest = 0;
        for (int64_t input = 0; real && input < inputs; input++) largest = fmaxf(largest, fabsf(from[input]));
        float scale = fmaxf(largest, 1e-30f) / LEVELS;
        for (int64_t input = 0; input < width * GROUP; input++) {
            int32_t whole = real && input < inputs ? (int32_t)rintf(from[input] / scale) : 0;
            bytes_out[((panel * width + input / GROUP) * PANEL + lane) * GROUP + input % GROUP] =
                (uint8_t)(whole + WEIGHT_OFFSET);
        }
        matrix->scales[output] = scale;
    }
}

/* ---- rows, packed in tiles: [groups][rows][GROUP] in 8 bits, [inputs][rows] in float32 ---- */

struct tile {
    int64_t first;
    int rows; /* that it has room for */
    int used;
};

static const int TILES[] = {16, 8, 6, 4, 3, 2, 1};

/* The tile, among those of `count` rows, that holds a row. */
static struct tile tile_of(int64_t row, int64_t count, int is_int8) {
    int64_t first = 0;
    for (const int *rows = TILES;; rows++) {
        if (*rows > (is_int8 ? MAX_INT8_TILE : MAX_TILE)) continue;
        int fewest = is_int8 && *rows == 16 ? FEWEST_IN_16 : *rows;
        for (; count - first >= fewest; first += *rows)
            if (row < first + *rows) {
                int used = count - first < *rows ? (int)(count - first) : *rows;
                return (struct tile){first, *rows, used};
            }
    }
}

/* Where four levels of a row go in its tile. */
INLINE int64_t place_in_tile(struct tile tile, int64_t row, int64_t group) {
#ifdef __AMX_INT8__
    if (tile.rows == 16) return (group / 16 * 16 + (row - tile.first)) * 16 * GROUP + group % 16 * GROUP;
#endif
    return (group * tile.rows + (row - tile.first)) * GROUP;
}

static void copy_row(const struct rows *rows, int64_t row, int64_t count, const float *x, int64_t inputs) {
    struct tile tile = tile_of(row, count, 0);
    float *to = rows->values + tile.first * inputs + (row - tile.first);
    for (int64_t input = 0; input < inputs; input++) to[input * tile.rows] = x[input];
}

static void quantize_row(const struct rows *rows, int64_t row, int64_t count, const float *x, int64_t inputs,
                         int64_t groups) {
    struct tile tile = tile_of(row, count, 1);
    level *levels = (level *)rows->levels + tile.first * groups * GROUP;
    int64_t whole = inputs / LANES * LANES;
    floats sizes = all(1e-30f); /* for rows of zeros */
    for (int64_t input = 0; input < whole; input += LANES) {
        floats size = (floats)((ints)load(x + input) & 0x7FFFFFFF);
        sizes = choose(size > sizes, size, sizes);
    }
    float largest = 0;
    for (int lane = 0; lane < LANES; lane++) largest = sizes[lane] > largest ? sizes[lane] : largest;
    for (int64_t input = whole; input < inputs; input++)
        largest = fabsf(x[input]) > largest ? fabsf(x[input]) : largest;
    float inverse = LEVELS / largest;
    int32_t total = 0;
    for (int64_t first = 0; first < groups * GROUP; first += BLOCK) {
        level block[BLOCK] = {0};
        int64_t count_here = inputs - first < BLOCK ? inputs - first : BLOCK;
        for (int64_t input = 0; input < count_here; input++) {
            /* Adding 1.5 * 2^23 rounds to the nearest whole number, which then stands in the low bits. */
            union { float value; int32_t bits; } rounded = {.value = x[first + input] * inverse + 12582912.0f};
            int32_t whole = rounded.bits - 0x4B400000;
            block[input] = (level)whole;
            total += whole;
        }
        for (int64_t group = first / GROUP; group < groups && group < (first + BLOCK) / GROUP; group++)
            memcpy(levels + place_in_tile(tile, row, group), block + (group * GROUP - first), GROUP * sizeof *block);
    }
    rows->scales[row] = largest / LEVELS;
    rows->offsets[row] = total * WEIGHT_OFFSET;
}

/* Packs one of `count` rows for a product with a matrix. */
static void pack_row(const struct rows *rows, int64_t row, int64_t count, const float *x,
                     const struct matrix *matrix) {
    if (matrix->is_int8) quantize_row(rows, row, count, x, matrix->inputs, matrix->groups);
    else copy_row(rows, row, count, x, matrix->inputs);
}

/* ---- a panel times all rows ---- */

struct output {
    float *to;
    int64_t stride;
    float *const *rows;   /* instead of `to`: where each row goes */
    int activation;
    int adds;             /* to what is there */
    /* With adapters: whose row each is, which product of theirs this is, and strength * a x, [rows, max_ranks]. */
    const struct row *adapted;
    int64_t product;
    const float *low;
    int64_t max_ranks;
};

/* The part of an adapter's b that is not zero in a panel: ranks `first` to `last`, NULL where it adds nothing. */
INLINE const float *panel_of_b(const struct output *output, int64_t row, int64_t panel, int64_t *first, int64_t *last) {
    const struct adapter *adapter = output->adapted[row].adapter;
    const struct low_rank *change = adapter ? &adapter->products[output->product] : NULL;
    if (!change || !change->a) return NULL;
    *first = change->spans[2 * panel];
    *last = change->spans[2 * panel + 1];
    return (const float *)change->b->weights + panel * change->b->inputs * PANEL;
}

/* Asks for what `multiply_b` will read, before the panel's own weights are. */
INLINE void prefetch_b(const struct output *output, int64_t row, int used, int64_t panel) {
    const float *before = NULL;
    for (int64_t first, last, end = row + used; row < end; row++) {
        const float *b = panel_of_b(output, row, panel, &first, &last);
        for (int64_t rank = first; b && b != before && rank < last; rank++) __builtin_prefetch(b + rank * PANEL);
        before = b;
    }
}

/* What a row's adapter adds to a panel. */
static void multiply_b(const struct output *output, int64_t row, int64_t panel, floats sums[PARTS]) {
    int64_t rank, last;
    const float *b = panel_of_b(output, row, panel, &rank, &last), *low = output->low + row * output->max_ranks;
    floats even[PARTS], odd[PARTS];
    for (int part = 0; part < PARTS; part++) even[part] = odd[part] = all(0.0f);
    for (; b && rank < last; rank += 2)
        for (int part = 0; part < PARTS; part++) {
            const float *from = b + rank * PANEL + part * LANES;
            even[part] = multiply_add(load(from), all(low[rank]), even[part]);
            if (rank + 1 < last) odd[part] = multiply_add(load(from + PANEL), all(low[rank + 1]), odd[part]);
        }
    for (int part = 0; part < PARTS; part++) sums[part] = even[part] + odd[part];
}

INLINE void finish(const struct output *output, int64_t row, int64_t first, int64_t outputs, floats values[PARTS]) {
    float *to = (output->rows ? output->rows[row] : output->to + row * output->stride) + first;
    int64_t left = outputs - first;
    for (int part = 0; part < PARTS; part++, to += LANES, left -= LANES) {
        floats value = activate(values[part], output->activation);
        if (left >= LANES) {
            store(to, output->adds ? load(to) + value : value);
        } else {
            for (int lane = 0; lane < left; lane++) to[lane] = output->adds ? to[lane] + value[lane] : value[lane];
        }
    }
}

INLINE void multiply_tile(const struct matrix *matrix, int64_t panel, const struct rows *x, int64_t first, int rows,
                          int used, const struct output *output) {
    if (output->adapted) prefetch_b(output, first, used, panel);
    floats values[MAX_TILE][PARTS];
    int64_t padded = matrix->groups * (matrix->is_int8 ? GROUP : 1);
    if (matrix->is_int8) {
        ints sums[MAX_TILE][PARTS];
        const uint8_t *weights = (const uint8_t *)matrix->weights + panel * matrix->groups * PANEL * GROUP;
        int8_tile(weights, matrix->groups, (const level *)x->levels + first * padded, rows, sums);
        for (int row = 0; row < used; row++) {
            for (int part = 0; part < PARTS; part++) {
                floats scales = load(matrix->scales + panel * PANEL + part * LANES) * x->scales[first + row];
                values[row][part] = to_floats(sums[row][part] - x->offsets[first + row]) * scales;
            }
        }
    } else {
        const float *weights = (const float *)matrix->weights + panel * matrix->groups * PANEL;
        float_tile(weights, matrix->groups, x->values + first * padded, rows, values);
    }
    for (int row = 0; output->adapted && row < used; row++) {
        if (!output->adapted[first + row].adapter) continue;
        floats added[PARTS];
        multiply_b(output, first + row, panel, added);
        for (int part = 0; part < PARTS; part++) values[row][part] += added[part];
    }
    for (int row = 0; row < used; row++) finish(output, first + row, panel * PANEL, matrix->outputs, values[row]);
}

static void multiply_panel(const struct matrix *matrix, int64_t panel, const struct rows *x, int64_t count,
                           const struct output *output) {
    for (int64_t row = 0; row < count;) {
        struct tile tile = tile_of(row, count, matrix->is_int8);
        switch (tile.rows) { /* constants, so that the compiler keeps the sums in registers */
#define TILE(ROWS)                                                                              \
    case ROWS:                                                                                  \
        multiply_tile(matrix, panel, x, row, ROWS <= MAX_TILE ? ROWS : 1, tile.used, output); \
        break;
            TILE(16) TILE(8) TILE(6) TILE(4) TILE(3) TILE(2) TILE(1)
#undef TILE
        }
        row += tile.rows;
    }
}

/* The team's members take some panels at a time. */
static void multiply_together(struct team *team, const struct matrix *matrix, const struct rows *x, int64_t count,
                              const struct output *output) {
#ifdef __AMX_INT8__
    if (matrix->is_int8) _tile_loadconfig(&TILE_SHAPES);
#endif
    int64_t pieces = (int64_t)team_size(team) * PARTS_A_MEMBER, size = (matrix->panels + pieces - 1) / pieces;
    for (int64_t first; (first = team_take(team) * size) < matrix->panels;)
        for (int64_t panel = first; panel < first + size && panel < matrix->panels; panel++)
            multiply_panel(matrix, panel, x, count, output);
#ifdef __AMX_INT8__
    if (matrix->is_int8) _tile_release();
#endif
    team_wait(team);
}

struct product {
    struct team *team;
    const struct matrix *matrix;
    const float *from; /* [count, inputs] */
    struct rows x;
    int64_t count;
    struct output output;
};

static void multiply_member(void *context, int member) {
    (void)member;
    const struct product *product = context;
    const struct matrix *matrix = product->matrix;
    for (int64_t row; (row = team_take(product->team)) < product->count;)
        pack_row(&product->x, row, product->count, product->from + row * matrix->inputs, matrix);
    team_wait(product->team);
    multiply_together(product->team, matrix, &product->x, product->count, &product->output);
}

static void multiply(struct team *team, const struct matrix *matrix, const float *x, int64_t count, float *out) {
    struct product product = {team, matrix, x, new_rows(count, matrix->inputs, matrix->is_int8), count,
                              {.to = out, .stride = matrix->outputs}};
    team_run(team, multiply_member, &product);
    free_rows(&product.x);
}

/* ---- a decoding step ---- */

static void normalize(const float *x, int64_t dim, float epsilon, const float *const norm[2], float *out) {
    int64_t whole = dim / LANES * LANES;
    floats sums = all(0.0f), squares = all(0.0f);
    for (int64_t i = 0; i < whole; i += LANES) sums += load(x + i);
    float mean = sum(sums);
    for (int64_t i = whole; i < dim; i++) mean += x[i];
    mean /= (float)dim;
    for (int64_t i = 0; i < whole; i += LANES) {
        floats distance = load(x + i) - mean;
        squares = multiply_add(distance, distance, squares);
    }
    float variance = sum(squares);
    for (int64_t i = whole; i < dim; i++) variance += (x[i] - mean) * (x[i] - mean);
    float scale = 1.0f / sqrtf(variance / (float)dim + epsilon);
    for (int64_t i = 0; i < dim; i++) out[i] = (x[i] - mean) * scale * norm[0][i] + norm[1][i];
}

/* Makes rows ready for a product: normalised where there is a norm, and packed. */
static void prepare(struct decoder *decoder, const struct matrix *matrix, const float *x, const float *const *norm,
                    int64_t count) {
    int64_t width = matrix->inputs;
    for (int64_t row; (row = team_take(decoder->team)) < count;) {
        const float *from = x + row * width;
        if (norm) {
            normalize(from, width, decoder->epsilon, norm, decoder->normed + row * width);
            from = decoder->normed + row * width;
        }
        pack_row(&decoder->prepared, row, count, from, matrix);
    }
    team_wait(decoder->team);
}

static void embed_change(const struct decoder *decoder, const struct row *row, float *x) {
    const struct adapter *adapter = row->adapter;
    int64_t dim = decoder->dim, ranks = adapter->embedding_rank;
    for (int64_t k = 0; k < decoder->codebooks; k++) {
        const float *low = adapter->tables + (k * (decoder->vocabulary + 1) + row->tokens[k]) * ranks;
        for (int64_t rank = 0; rank < ranks; rank++) {
            const float *b = adapter->embedding + (k * ranks + rank) * dim;
            float value = low[rank] * (float)row->strength;
            for (int64_t i = 0; i < dim; i++) x[i] += value * b[i];
        }
    }
}

static void embed(struct decoder *decoder, const struct row *rows, int64_t count) {
    int64_t dim = decoder->dim;
    for (int64_t row; (row = team_take(decoder->team)) < count;) {
        float *x = decoder->x + row * dim;
        for (int64_t i = 0; i < dim; i++) x[i] = 0;
        for (int64_t k = 0; k < decoder->codebooks; k++) {
            const float *embedding = decoder->embedding + (k * (decoder->vocabulary + 1) + rows[row].tokens[k]) * dim;
            for (int64_t i = 0; i < dim; i++) x[i] += embedding[i];
        }
        if (rows[row].adapter) embed_change(decoder, &rows[row], x);
        const float *position = decoder->positions + rows[row].position * dim;
        for (int64_t i = 0; i < dim; i++) x[i] += position[i];
    }
    team_wait(decoder->team);
}

/* Numbers of the cache: float32, or float16 where the products are in 8 bits. */
INLINE floats load_cached(const char *cache, int64_t index, int number) {
    if (number == FLOAT32) return load((const float *)cache + index);
#if defined(__AVX512F__)
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)((const uint16_t *)cache + index)));
#elif defined(__AVX2__)
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)cache + index)));
#else
    floats values;
    for (int lane = 0; lane < LANES; lane++) values[lane] = (float)((const _Float16 *)cache)[index + lane];
    return values;
#endif
}

INLINE float one_cached(const char *cache, int64_t index, int number) {
    if (number == FLOAT32) return ((const float *)cache)[index];
#if defined(__AVX2__)
    return _cvtsh_ss(((const uint16_t *)cache)[index]);
#else
    return (float)((const _Float16 *)cache)[index];
#endif
}

INLINE void keep(char *cache, int64_t index, const float *values, int64_t count, int number) {
    for (int64_t i = 0; i < count; i++) {
        if (number == FLOAT32) ((float *)cache)[index + i] = values[i];
#if defined(__AVX2__)
        else ((uint16_t *)cache)[index + i] = _cvtss_sh(values[i], 0);
#else
        else ((_Float16 *)cache)[index + i] = (_Float16)values[i];
#endif
    }
}

/* One head's attention to `length` positions; `scores` is scratch of that length. */
INLINE void attend(const float *query, const char *keys, int64_t first_key, int64_t first_value, int64_t length,
                   int64_t width, int number, float *scores, float *out) {
    float scale = 1.0f / sqrtf((float)width), largest = -INFINITY, total = 0;
    int64_t whole = width / LANES * LANES;
    for (int64_t position = 0; position < length; position++) {
        int64_t key = first_key + position * width;
        floats sums = all(0.0f);
        for (int64_t i = 0; i < whole; i += LANES)
            sums = multiply_add(load(query + i), load_cached(keys, key + i, number), sums);
        float score = sum(sums);
        for (int64_t i = whole; i < width; i++) score += query[i] * one_cached(keys, key + i, number);
        scores[position] = score * scale;
        largest = scores[position] > largest ? scores[position] : largest;
    }
    int64_t position = 0;
    floats totals = all(0.0f);
    for (; position + LANES <= length; position += LANES) {
        floats weights = exponential(load(scores + position) - largest);
        store(scores + position, weights);
        totals += weights;
    }
    total = sum(totals);
    for (; position < length; position++) {
        scores[position] = exponential(all(scores[position] - largest))[0];
        total += scores[position];
    }
    for (int64_t i = 0; i < whole; i += LANES) {
        floats mixed = all(0.0f);
        for (position = 0; position < length; position++) {
            floats value = load_cached(keys, first_value + position * width + i, number);
            mixed = multiply_add(all(scores[position]), value, mixed);
        }
        store(out + i, mixed / total);
    }
    for (int64_t i = whole; i < width; i++) {
        float mixed = 0;
        for (position = 0; position < length; position++)
            mixed += scores[position] * one_cached(keys, first_value + position * width + i, number);
        out[i] = mixed / total;
    }
}

static void attend_cached(const float *query, const char *cache, int64_t first, const int64_t strides[4],
                          int64_t length, int64_t width, int number, float *scores, float *out) {
    int64_t values = first + strides[1];
    /* Constants that the compiler can see: heads of 64, as all official models have, are four or eight registers. */
    if (width == 64 && number == FLOAT16) attend(query, cache, first, values, length, 64, FLOAT16, scores, out);
    else if (width == 64) attend(query, cache, first, values, length, 64, FLOAT32, scores, out);
    else attend(query, cache, first, values, length, width, number, scores, out);
}

static void attend_self(struct decoder *decoder, const struct row *rows, int64_t count, int64_t layer, int member) {
    int64_t width = decoder->head_dim, dim = decoder->dim;
    const int64_t *strides = decoder->keys_values_strides;
    for (int64_t part; (part = team_take(decoder->team)) < count * decoder->heads;) {
        const struct row *row = &rows[part / decoder->heads];
        int64_t head = part % decoder->heads, index = part / decoder->heads;
        const float *qkv = decoder->qkv + index * 3 * dim + head * width;
        int64_t first = layer * strides[0] + row->cache_row * strides[2] + head * strides[3];
        int64_t last = first + row->position * width;
        keep(decoder->keys_values, last, qkv + dim, width, decoder->cache_number);
        keep(decoder->keys_values, last + strides[1], qkv + 2 * dim, width, decoder->cache_number);
        attend_cached(qkv, decoder->keys_values, first, strides, row->position + 1, width, decoder->cache_number,
                      decoder->scores + member * decoder->max_positions,
                      decoder->attended + index * dim + head * width);
    }
    team_wait(decoder->team);
}

static void attend_condition(struct decoder *decoder, const struct row *rows, int64_t count, int64_t layer,
                             int member) {
    int64_t width = decoder->head_dim, dim = decoder->dim;
    const int64_t *strides = decoder->condition_strides;
    for (int64_t part; (part = team_take(decoder->team)) < count * decoder->heads;) {
        const struct row *row = &rows[part / decoder->heads];
        int64_t head = part % decoder->heads, index = part / decoder->heads;
        float *out = decoder->attended + index * dim + head * width;
        if (row->condition_tokens == 0) {
            memset(out, 0, (size_t)width * sizeof *out);
            continue;
        }
        int64_t first = layer * strides[0] + row->condition_row * strides[2] + head * strides[3];
        attend_cached(decoder->qkv + index * dim + head * width, decoder->condition, first, strides,
                      row->condition_tokens, width, decoder->cache_number,
                      decoder->scores + member * decoder->max_positions, out);
    }
    team_wait(decoder->team);
}

/* Sums over the inputs in four chains, as the processor can add them at the same time. */
INLINE void multiply_piece(const float *weights, const float *x, int64_t inputs, float *out) {
    floats sums[4][PARTS];
    for (int chain = 0; chain < 4; chain++)
        for (int part = 0; part < PARTS; part++) sums[chain][part] = all(0.0f);
    int64_t input = 0;
    for (; input + 4 <= inputs; input += 4)
        for (int chain = 0; chain < 4; chain++) {
            __builtin_prefetch((const char *)(weights + (input + chain) * PANEL) + AHEAD);
            for (int part = 0; part < PARTS; part++)
                sums[chain][part] = multiply_add(load(weights + (input + chain) * PANEL + part * LANES),
                                                 all(x[input + chain]), sums[chain][part]);
        }
    for (; input < inputs; input++)
        for (int part = 0; part < PARTS; part++)
            sums[0][part] =
                multiply_add(load(weights + input * PANEL + part * LANES), all(x[input]), sums[0][part]);
    for (int part = 0; part < PARTS; part++)
        store(out + part * LANES, (sums[0][part] + sums[1][part]) + (sums[2][part] + sums[3][part]));
}

/* a x of all rows with an adapter. One member reads a piece of an adapter's `a` for all rows that use it; afterwards
 * each member adds the pieces up for itself. */
static void multiply_a(struct decoder *decoder, struct output *output, const float *x, int64_t count, int member) {
    const struct row *rows = output->adapted;
    int64_t max_ranks = decoder->max_ranks;
    for (int64_t part; (part = team_take(decoder->team)) < count * PIECES;) {
        int64_t first = part / PIECES, piece = part % PIECES, before = 0;
        const struct adapter *adapter = rows[first].adapter;
        while (rows[before].adapter != adapter) before++;
        const struct matrix *a = adapter ? adapter->products[output->product].a : NULL;
        if (!a || before < first) continue;
        int64_t begin = a->inputs * piece / PIECES, end = a->inputs * (piece + 1) / PIECES;
        for (int64_t panel = 0; panel < a->panels; panel++)
            for (int64_t row = first; row < count; row++)
                if (rows[row].adapter == adapter)
                    multiply_piece((const float *)a->weights + (panel * a->inputs + begin) * PANEL,
                                   x + row * a->inputs + begin, end - begin,
                                   decoder->pieces + (row * PIECES + piece) * max_ranks + panel * PANEL);
    }
    team_wait(decoder->team);
    float *low = decoder->low + member * decoder->max_rows * max_ranks;
    for (int64_t row = 0; row < count; row++) {
        const struct matrix *a = rows[row].adapter ? rows[row].adapter->products[output->product].a : NULL;
        const float *pieces = decoder->pieces + row * PIECES * max_ranks;
        for (int64_t rank = 0; a && rank < a->outputs; rank += LANES) {
            floats whole = load(pieces + rank);
            for (int piece = 1; piece < PIECES; piece++) whole += load(pieces + piece * max_ranks + rank);
            store(low + row * max_ranks + rank, whole * (float)rows[row].strength);
        }
    }
    output->low = low;
    output->max_ranks = max_ranks;
}

/* A product within the step: of `x`, normalised first where there is a norm. */
static void apply(struct decoder *decoder, const struct matrix *matrix, const float *x, const float *const *norm,
                  int64_t count, int member, struct output output) {
    prepare(decoder, matrix, x, norm, count);
    if (output.adapted) multiply_a(decoder, &output, norm ? decoder->normed : x, count, member);
    multiply_together(decoder->team, matrix, &decoder->prepared, count, &output);
}

struct step {
    struct decoder *decoder;
    const struct row *rows;
    const struct row *adapted; /* the rows, if any has an adapter */
    float **logits;
    int64_t count;
};

static void step_member(void *context, int member) {
    const struct step *step = context;
    struct decoder *decoder = step->decoder;
    const struct row *rows = step->rows, *adapted = step->adapted;
    int64_t count = step->count, dim = decoder->dim, ffn = decoder->ffn_dim;
    embed(decoder, rows, count);
    for (int64_t index = 0; index < decoder->layers; index++) {
        const struct layer *layer = &decoder->layer[index];
        int64_t product = index * PRODUCTS;
        struct output residual = {.to = decoder->x, .stride = dim, .adds = 1, .adapted = adapted};
        apply(decoder, layer->qkv, decoder->x, layer->norm[0], count, member,
              (struct output){.to = decoder->qkv, .stride = 3 * dim, .adapted = adapted, .product = product + QKV});
        attend_self(decoder, rows, count, index, member);
        residual.product = product + ATTENTION_OUT;
        apply(decoder, layer->attention_out, decoder->attended, NULL, count, member, residual);
        if (layer->condition_query) {
            apply(decoder, layer->condition_query, decoder->x, layer->norm[1], count, member,
                  (struct output){.to = decoder->qkv, .stride = dim, .adapted = adapted,
                                  .product = product + CONDITION_QUERY});
            attend_condition(decoder, rows, count, index, member);
            residual.product = product + CONDITION_OUT;
            apply(decoder, layer->condition_out, decoder->attended, NULL, count, member, residual);
        }
        apply(decoder, layer->feed_forward_in, decoder->x, layer->norm[2], count, member,
              (struct output){.to = decoder->inner, .stride = ffn, .activation = decoder->activation,
                              .adapted = adapted, .product = product + FEED_FORWARD_IN});
        residual.product = product + FEED_FORWARD_OUT;
        apply(decoder, layer->feed_forward_out, decoder->inner, NULL, count, member, residual);
    }
    apply(decoder, decoder->head, decoder->x, decoder->norm, count, member,
          (struct output){.rows = step->logits, .adapted = adapted, .product = decoder->layers * PRODUCTS});
}

static void step(struct decoder *decoder, const struct row *rows, int64_t count) {
    float *logits[count];
    int adapts = 0;
    for (int64_t row = 0; row < count; row++) {
        logits[row] = rows[row].logits;
        adapts |= rows[row].adapter != NULL;
    }
    struct step context = {decoder, rows, adapts ? rows : NULL, logits, count};
    team_run(decoder->team, step_member, &context);
}

const struct kernels CONCAT(kernels_, VARIANT) = {STRING(VARIANT), GROUP_MULTIPLE, pack, multiply, step};
