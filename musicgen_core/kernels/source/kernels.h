/* A decoding step of MusicGen's language model on a CPU: what its files share.
 *
 * `variant.c` computes. It is compiled once for each set of instructions, with other names and flags, and fills in one
 * `struct kernels`. `library.c` has what Python calls, and chooses the variant that the machine can run. `team.c` has
 * the threads.
 *
 * All results are independent of the number of threads and of the other rows of a step: each output is computed by one
 * thread, in one order of operations.
 */
#ifndef KERNELS_H
#define KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Weights are packed in panels of this many outputs, [panels][inputs][PANEL] in float32 and
 * [panels][inputs / GROUP][PANEL][GROUP] in 8 bits; outputs and inputs are padded with zeros. */
enum { PANEL = 16, GROUP = 4 };

struct matrix {
    const struct kernels *kernels;
    int64_t outputs, inputs; /* without padding */
    int64_t panels, groups;  /* groups of inputs; in float32 the inputs themselves */
    int is_int8;
    void *weights;
    float *scales;   /* int8: of each output, [panels * PANEL] */
    size_t bytes;
};

/* Rows as a product reads them, packed in tiles: as they are, or rounded to 8 bits with a scale for each row. */
struct rows {
    float *values;
    int16_t *levels;      /* int8: holds int8_t in variants that multiply bytes */
    float *scales;
    int32_t *offsets;     /* int8: what a variant whose weights have no sign adds to each sum */
};

enum activation { NO_ACTIVATION, GELU, RELU, SILU };
enum number { FLOAT32, FLOAT16 };

struct layer {
    const float *norm[3][2]; /* weight and bias before self-attention, cross-attention, feed-forward */
    const struct matrix *qkv, *attention_out;
    const struct matrix *condition_query, *condition_out; /* NULL in melody models */
    const struct matrix *feed_forward_in, *feed_forward_out;
};

/* What an adapter adds to a product, in float32: strength * b (a x). `a` is NULL where it adds nothing. */
struct low_rank {
    const struct matrix *a; /* [ranks, inputs] */
    const struct matrix *b; /* [outputs, ranks] */
    const int64_t *spans;   /* of each panel of b its first rank that is not zero, and the one after its last */
};

/* The products of a step, in the order of `struct adapter`: PRODUCTS for each layer, then the head. */
enum { QKV, ATTENTION_OUT, CONDITION_QUERY, CONDITION_OUT, FEED_FORWARD_IN, FEED_FORWARD_OUT, PRODUCTS };

struct adapter {
    struct low_rank *products; /* [layers * PRODUCTS + 1] */
    int64_t embedding_rank;
    const float *tables;       /* [codebooks * (vocabulary + 1), embedding_rank] */
    const float *embedding;    /* [codebooks, embedding_rank, dim] */
};

/* The sum over a row's inputs is cut into this many, for the team's members to share. */
enum { PIECES = 8 };

struct decoder {
    const struct kernels *kernels;
    struct team *team;
    int64_t layers, dim, heads, head_dim, ffn_dim, codebooks, vocabulary;
    int activation;
    float epsilon;
    struct layer *layer;
    const float *norm[2];
    const struct matrix *head;
    const float *embedding; /* [codebooks * (vocabulary + 1), dim] */
    const float *positions; /* [positions, dim] */
    /* The caches, [layers, 2, rows, heads, positions, head_dim], with the strides of layers, keys and values, rows and
     * heads in elements; positions lie head_dim apart. */
    char *keys_values, *condition;
    int64_t keys_values_strides[4], condition_strides[4];
    int cache_number;
    int64_t max_rows, max_positions, max_ranks;
    /* Scratch memory, [max_rows, ...]. */
    float *x, *normed, *qkv, *attended, *inner, *scores;
    float *pieces; /* of a x, [max_rows, PIECES, max_ranks] */
    float *low;    /* strength * a x, [members of the team, max_rows, max_ranks] */
    struct rows prepared;
};

/* One row of a step; the layout is known to `engine/native_step.py`. */
struct row {
    const int64_t *tokens;      /* the column that goes in, [codebooks] */
    float *logits;              /* [codebooks * vocabulary] */
    int64_t position;           /* where its keys and values go */
    int64_t cache_row;
    int64_t condition_row;
    int64_t condition_tokens;   /* 0: cross-attention gives zeros */
    const struct adapter *adapter; /* NULL: none */
    double strength;            /* multiplies what the adapter adds */
};

struct kernels {
    const char *name;
    int64_t group_multiple; /* of which the groups of a matrix in 8 bits are to be a multiple */
    void (*pack)(struct matrix *matrix, const float *weights);
    void (*multiply)(struct team *team, const struct matrix *matrix, const float *x, int64_t rows, float *out);
    void (*step)(struct decoder *decoder, const struct row *rows, int64_t count);
};

extern const struct kernels kernels_generic;
#ifdef __x86_64__
extern const struct kernels kernels_avx2, kernels_avx2_vnni, kernels_avx512_vnni, kernels_avx512_amx;
#elif defined(__aarch64__)
extern const struct kernels kernels_neon_dot;
#endif

void *allocate(size_t bytes); /* zeroed; large blocks begin at a page; ends the process where there is no memory */
struct rows new_rows(int64_t count, int64_t width, int is_int8); /* room for rows; not zeroed */
void free_rows(struct rows *rows);

/* A team of threads, the caller's among them. `team_run` has all members carry out a function together; inside it,
 * `team_take` hands out the numbers 0, 1, 2, ... once each, and `team_wait` waits for all members, after which numbers
 * begin at 0 again. */
struct team *team_start(int members);
void team_end(struct team *team);
int team_size(const struct team *team);
void team_run(struct team *team, void (*work)(void *context, int member), void *context);
int64_t team_take(struct team *team);
void team_wait(struct team *team);

#endif
