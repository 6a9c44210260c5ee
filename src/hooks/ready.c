/* Ready-made detectors and controllers, and host access to the rows of an event. */
#include "microw/hooks.h"

#include <math.h>
#include <string.h>

mw_status mw_collect(void *self, const mw_hook_event *event) {
    mw_collector *c = self;
    int64_t rows = event->x.shape[0], width = event->x.shape[1];
    if (c->width && c->width != width)
        return mw_error(MW_ERR_STATE, "a collector of width %lld met width %lld", (long long)c->width,
                        (long long)width);
    c->width = width;
    if (c->rows + rows > c->capacity) {
        int64_t capacity = (c->rows + rows) * 2;
        float *moved =
            mw_realloc(c->data, (size_t)(c->rows * width) * sizeof *moved, (size_t)(capacity * width) * sizeof *moved);
        if (!moved) return MW_ERR_MEMORY;
        c->data = moved;
        c->capacity = capacity;
    }
    MW_TRY(event->backend->ops->download(event->backend, c->data + c->rows * width, event->x.data,
                                         (size_t)(rows * width) * sizeof(float)));
    c->rows += rows;
    return MW_OK;
}

void mw_collector_free(mw_collector *collector) {
    mw_free(collector->data);
    *collector = (mw_collector){0};
}

mw_status mw_hook_borrow(const mw_hook_event *event, float **rows) {
    if (event->backend->ops->host_memory) {
        *rows = event->x.data;
        return MW_OK;
    }
    size_t bytes = (size_t)mw_tensor_count(&event->x) * sizeof(float);
    float *copy = mw_alloc(bytes);
    if (!copy) return MW_ERR_MEMORY;
    mw_status status = event->backend->ops->download(event->backend, copy, event->x.data, bytes);
    if (status != MW_OK)
        mw_free(copy);
    else
        *rows = copy;
    return status;
}

mw_status mw_hook_return(const mw_hook_event *event, float *rows, bool changed) {
    if (event->backend->ops->host_memory) return MW_OK;
    size_t bytes = (size_t)mw_tensor_count(&event->x) * sizeof(float);
    mw_status status = changed ? event->backend->ops->upload(event->backend, event->x.data, rows, bytes) : MW_OK;
    mw_free(rows);
    return status;
}

static mw_status begin_statistics(mw_statistics *s, int64_t width) {
    if (s->width == width) return MW_OK;
    if (s->width)
        return mw_error(MW_ERR_STATE, "statistics of width %lld met width %lld", (long long)s->width, (long long)width);
    s->mean = mw_calloc((size_t)width, sizeof *s->mean);
    s->m2 = mw_calloc((size_t)width, sizeof *s->m2);
    if (!s->mean || !s->m2) return MW_ERR_MEMORY;
    s->width = width;
    return MW_OK;
}

mw_status mw_measure(void *self, const mw_hook_event *event) {
    mw_statistics *s = self;
    int64_t rows = event->x.shape[0], width = event->x.shape[1];
    MW_TRY(begin_statistics(s, width));
    float *x = NULL;
    MW_TRY(mw_hook_borrow(event, &x));
    for (int64_t r = 0; r < rows; r++) {
        const float *row = x + r * width;
        double squares = 0;
        s->rows++;
        for (int64_t i = 0; i < width; i++) {
            double delta = row[i] - s->mean[i];
            s->mean[i] += delta / (double)s->rows;
            s->m2[i] += delta * (row[i] - s->mean[i]);
            squares += (double)row[i] * row[i];
        }
        s->norm_sum += sqrt(squares);
    }
    return mw_hook_return(event, x, false);
}

void mw_statistics_free(mw_statistics *statistics) {
    mw_free(statistics->mean);
    mw_free(statistics->m2);
    *statistics = (mw_statistics){0};
}

static void edit_row(const mw_affine_rule *rule, float *row, int64_t width) {
    int64_t n = rule->n_columns ? rule->n_columns : width;
    for (int64_t j = 0; j < n; j++) {
        int64_t i = rule->n_columns ? rule->columns[j] : j;
        row[i] = row[i] * rule->factor + (rule->vector ? rule->vector[i] : 0.0f);
    }
}

mw_status mw_apply_affine(void *self, const mw_hook_event *event) {
    const mw_affine_rule *rule = self;
    int64_t rows = event->x.shape[0], width = event->x.shape[1];
    for (int64_t j = 0; j < rule->n_columns; j++)
        if (rule->columns[j] < 0 || rule->columns[j] >= width)
            return mw_error(MW_ERR_ARG, "column %lld is not in 0..%lld", (long long)rule->columns[j],
                            (long long)width - 1);
    float *x = NULL;
    MW_TRY(mw_hook_borrow(event, &x));
    for (int64_t r = 0; r < rows; r++) edit_row(rule, x + r * width, width);
    return mw_hook_return(event, x, true);
}
