/* Inner loops of the CPU backend over runs of n floats, compiled for several instruction sets, of which one is chosen
 * when the program is loaded. Sums run in a fixed order for a given instruction set. */
#ifndef MICROW_BACKEND_CPU_VECTOR_H
#define MICROW_BACKEND_CPU_VECTOR_H

#include "microw/backend.h"

/* Dot products, all in one order of summation (dot.c): alone, of x with four others, and of `rows` times `columns`
 * runs, out[r, c] = <x_r, y_c>. */
float mw_dot(const float *x, const float *y, int64_t n);
void mw_dot_four(const float *x, const float *const y[4], int64_t n, float out[4]);
void mw_dot_tile(const float *x, int64_t x_stride, int64_t rows, const float *y, int64_t y_stride, int64_t columns,
                 int64_t n, float *out, int64_t out_stride);
void mw_axpy(float a, const float *x, float *y, int64_t n); /* y += a x */
void mw_scale(float a, float *x, int64_t n);
void mw_add_run(float *x, const float *y, int64_t n);
void mw_add_two(float *out, const float *x, const float *y, int64_t n); /* out = x + y; out overlaps neither */
float mw_sum(const float *x, int64_t n);
float mw_sum_squares(const float *x, float center, int64_t n); /* sum of (x - center)^2 */
/* to = (x - mean) scale weight (+ bias); to may be x. */
void mw_normal_run(float *to, const float *x, float mean, float scale, const float *weight, const float *bias,
                   int64_t n);
float mw_max(const float *x, int64_t n);
/* Cuts x into spans of MAX_SPAN floats, each a matrix of MAX_LANES columns, and writes the largest of each column. NaN
 * is ignored. */
enum { MAX_LANES = 16, MAX_SPAN = 256 };
void mw_column_max(const float *x, int64_t spans, float *out);
/* Halves the interval from .. to, which k of x or more reach at its lower end and fewer at its upper, `times` times or
 * until exactly k reach the lower end. Returns the number that reach the lower end. */
int64_t mw_halve(const float *x, int64_t n, int64_t k, int times, float *from, float *to);
float mw_least_at_least(const float *x, int64_t n, float floor); /* the smallest x that reaches `floor` */
/* Writes first + i for all x[i] >= floor, ascending, to `index`; returns their number. */
int64_t mw_at_least(const float *x, int64_t n, float floor, int32_t first, int32_t *index);
/* Lengths of x and of x - x rounded to bf16, as round_errors. */
void mw_lengths_bf16(const float *x, int64_t n, float *length, float *error);
enum { MW_REACH_ROOM = 16 };
/* Writes the entries of a product's run that may reach `floor`, ascending; returns their number. Behind them index, low
 * and high have MW_REACH_ROOM places more, whose contents change. Entry i has the value v = product[i] + bias[i], and
 * is between low = v - s and high = v + s, s = x_part norm[i] + w_part error[i]; norm NULL: s is 0. It may reach the
 * floor unless high < floor. */
int64_t mw_may_reach(const float *product, const float *bias, const float *norm, const float *error, float x_part,
                     float w_part, int64_t n, float floor, int32_t first, int32_t *index, float *low, float *high);
/* x = exp(x - shift); returns the sum. */
float mw_exp_shift(float *x, float shift, int64_t n);
enum { MW_KEY_TILE = 64, MW_QUERY_TILE = 4 };
/* Writes the dot products of `rows` (at most MW_QUERY_TILE) queries with at least the keys from .. to - 1 of a tile to
 * scores [rows, MW_KEY_TILE]; transposed [d, MW_KEY_TILE] has a key in each column. */
void mw_scores_tile(const float *q, int64_t q_stride, int64_t rows, const float *transposed, int64_t d, int64_t from,
                    int64_t to, float *scores);
/* out [rows, d] += the first n columns of scores [rows, MW_KEY_TILE] times values [n, d]. */
void mw_values_tile(const float *scores, int64_t rows, const float *values, int64_t stride, int64_t n, int64_t d,
                    float *out, int64_t out_stride);
void mw_gelu_tanh(float *x, int64_t n);
void mw_gelu_erf(float *x, int64_t n);
void mw_silu(float *x, int64_t n);
void mw_relu(float *x, int64_t n);
void mw_multiply(float *x, const float *y, int64_t n);
void mw_soft_cap_run(float *x, float cap, int64_t n);
/* Turns dot products into scores of attention. */
void mw_score_run(float *x, float scale, float softcap, int64_t n);
/* One Adam step with the gradient g - along * p. */
void mw_adam_run(float *p, const float *g, float along, float *m, float *v, int64_t n, const mw_adam *adam);

#endif
