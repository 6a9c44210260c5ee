/* SAEs as hooks of a model: steering, and a log of codes. */
#include "microw/concepts.h"

#include <string.h>

static mw_status encode_event(const mw_sae *sae, const mw_hook_event *event, const float *x, mw_codes *out) {
    if (event->x.shape[1] != sae->d)
        return mw_error(MW_ERR_ARG, "the SAE has width %lld, the site has width %lld", (long long)sae->d,
                        (long long)event->x.shape[1]);
    return mw_sae_encode(sae, x, event->x.shape[0], out);
}

/* Adds the effect of all edits to x [width], columns first .. first + width - 1 of x_hat. `codes` of the row; NULL: all
 * silent. */
static void edit_row(const mw_steering *s, const mw_codes *codes, int64_t row, int64_t first, int64_t width, float *x) {
    const mw_sae *sae = s->sae;
    for (int64_t e = 0; e < s->n_edits; e++) {
        const mw_latent_edit *edit = &s->edits[e];
        float z = codes ? mw_codes_find(codes, row, edit->latent) : 0;
        float change = (float)(edit->scale * z + edit->add) - z;
        const float *direction = sae->w_dec + edit->latent * sae->d_out + first;
        if (change != 0)
            for (int64_t i = 0; i < width; i++) x[i] += change * direction[i];
    }
}

/* Edits x [rows, d_out], given the codes of `input` [rows, d], which may be x itself. */
static mw_status steer_rows(const mw_steering *s, const mw_hook_event *event, const mw_codes *codes, const float *input,
                            float *x) {
    int64_t d = s->sae->d_out;
    mw_status status = MW_OK;
    for (int64_t r = 0; status == MW_OK && r < event->x.shape[0]; r++) {
        if (event->token && event->token[r] == s->untouched) continue;
        mw_codes one = *codes;
        one.start += r;
        one.rows = 1;
        if (!s->keep_error) status = mw_sae_decode(s->sae, &one, input + r * s->sae->d, x + r * d);
        edit_row(s, codes, r, 0, d, x + r * d);
    }
    return status;
}

static mw_status check_edits(const mw_steering *s) {
    for (int64_t e = 0; e < s->n_edits; e++)
        if (s->edits[e].latent < 0 || s->edits[e].latent >= s->sae->n)
            return mw_error(MW_ERR_ARG, "latent %lld is not in this SAE of %lld latents", (long long)s->edits[e].latent,
                            (long long)s->sae->n);
    return MW_OK;
}

mw_status mw_steer(void *self, const mw_hook_event *event) {
    const mw_steering *s = self;
    mw_codes codes = {0};
    float *x = NULL;
    MW_TRY(check_edits(s));
    MW_TRY(mw_hook_borrow(event, &x));
    mw_status status = encode_event(s->sae, event, x, &codes);
    if (status == MW_OK) status = steer_rows(s, event, &codes, x, x);
    mw_codes_free(&codes);
    mw_status returned = mw_hook_return(event, x, status == MW_OK);
    return status != MW_OK ? status : returned;
}

/* ---- a transcoder's two hooks ------------------------------------------------------------------------------ */

static mw_status keep_input(mw_steering *s, const float *x, int64_t count) {
    if (count > s->input_capacity) {
        mw_free(s->input);
        s->input_capacity = 0;
        if (!(s->input = mw_alloc((size_t)count * sizeof *s->input))) return MW_ERR_MEMORY;
        s->input_capacity = count;
    }
    memcpy(s->input, x, (size_t)count * sizeof *s->input);
    return MW_OK;
}

static mw_status read_site(void *self, const mw_hook_event *event) {
    mw_steering *s = self;
    float *x = NULL;
    MW_TRY(mw_hook_borrow(event, &x));
    mw_status status = encode_event(s->sae, event, x, &s->input_codes);
    if (status == MW_OK) status = keep_input(s, x, event->x.shape[0] * s->sae->d);
    mw_status returned = mw_hook_return(event, x, false);
    return status != MW_OK ? status : returned;
}

static mw_status write_site(void *self, const mw_hook_event *event) {
    mw_steering *s = self;
    float *x = NULL;
    if (event->x.shape[1] != s->sae->d_out || event->x.shape[0] != s->input_codes.rows)
        return mw_error(MW_ERR_ARG, "the transcoder's target has width %lld, the site has width %lld",
                        (long long)s->sae->d_out, (long long)event->x.shape[1]);
    MW_TRY(mw_hook_borrow(event, &x));
    mw_status status = steer_rows(s, event, &s->input_codes, s->input, x),
              returned = mw_hook_return(event, x, status == MW_OK);
    return status != MW_OK ? status : returned;
}

/* ---- a crosscoder's hooks ------------------------------------------------------------------------------------ */

/* Columns of a decoder row that belong to one site. */
typedef struct site_columns {
    const mw_steering *s;
    int64_t first, width;
} site_columns;

static mw_status add_at_site(void *self, const mw_hook_event *event) {
    const site_columns *columns = self;
    float *x = NULL;
    if (event->x.shape[1] != columns->width)
        return mw_error(MW_ERR_ARG, "the SAE's site has width %lld, the model's has width %lld",
                        (long long)columns->width, (long long)event->x.shape[1]);
    MW_TRY(mw_hook_borrow(event, &x));
    for (int64_t r = 0; r < event->x.shape[0]; r++)
        if (!event->token || event->token[r] != columns->s->untouched)
            edit_row(columns->s, NULL, r, columns->first, columns->width, x + r * columns->width);
    return mw_hook_return(event, x, true);
}

static void free_columns(void *self) {
    mw_free(self);
}

/* ---- attaching ------------------------------------------------------------------------------------------------ */

static mw_status attach(mw_steering *s, mw_hooks *hooks, const char *site, mw_hook hook) {
    hook.name = "steer";
    MW_TRY(mw_site_parse(site, &hook.site));
    MW_TRY(mw_hooks_attach(hooks, &hook, &s->hook[s->n_hooks]));
    s->n_hooks++;
    return MW_OK;
}

static mw_status attach_transcoder(mw_steering *s, mw_hooks *hooks) {
    mw_site from, to;
    MW_TRY(mw_site_parse(s->sae->site, &from));
    MW_TRY(mw_site_parse(s->sae->target, &to));
    if (mw_site_order(from) >= mw_site_order(to))
        return mw_error(MW_ERR_UNSUPPORTED,
                        "the transcoder reads %s, which a pass reaches after its target %s: it cannot steer",
                        s->sae->site, s->sae->target);
    MW_TRY(attach(s, hooks, s->sae->site, (mw_hook){.kind = MW_DETECTOR, .call = read_site, .self = s}));
    return attach(s, hooks, s->sae->target, (mw_hook){.kind = MW_CONTROLLER, .call = write_site, .self = s});
}

static mw_status attach_crosscoder(mw_steering *s, mw_hooks *hooks) {
    const char *p = s->sae->target[0] ? s->sae->target : s->sae->site;
    for (int64_t e = 0; e < s->n_edits; e++)
        if (s->edits[e].scale != 1 || !s->keep_error)
            return mw_error(
                MW_ERR_UNSUPPORTED,
                "latent %lld: an SAE over several sites steers only by adding to latents, with the error kept",
                (long long)s->edits[e].latent);
    for (int64_t i = 0; i < s->sae->n_targets; i++) {
        int64_t first = i ? s->sae->target_end[i - 1] : 0;
        size_t length = strcspn(p, ",");
        char name[MW_SITE_TEXT] = "";
        if (length < sizeof name) memcpy(name, p, length);
        site_columns *columns = mw_alloc(sizeof *columns);
        if (!columns) return MW_ERR_MEMORY;
        *columns = (site_columns){s, first, s->sae->target_end[i] - first};
        mw_hook hook = {.kind = MW_CONTROLLER, .call = add_at_site, .self = columns, .release = free_columns};
        mw_status status = attach(s, hooks, name, hook);
        if (status != MW_OK) mw_free(columns);
        MW_TRY(status);
        p += length + (p[length] == ',');
    }
    return MW_OK;
}

mw_status mw_steering_attach(mw_steering *s, mw_hooks *hooks, const char *site) {
    MW_TRY(check_edits(s));
    mw_status status;
    if (s->sae->n_targets > 1 || strchr(s->sae->site, ','))
        status = attach_crosscoder(s, hooks);
    else if (s->sae->transcoder)
        status = attach_transcoder(s, hooks);
    else
        status =
            attach(s, hooks, site ? site : s->sae->site, (mw_hook){.kind = MW_CONTROLLER, .call = mw_steer, .self = s});
    if (status != MW_OK) mw_steering_detach(s, hooks);
    return status;
}

void mw_steering_detach(mw_steering *s, mw_hooks *hooks) {
    while (s->n_hooks > 0) mw_hooks_detach(hooks, s->hook[--s->n_hooks]);
    mw_codes_free(&s->input_codes);
    mw_free(s->input);
    s->input = NULL;
    s->input_capacity = 0;
}

/* ---- log of codes ----------------------------------------------------------------------------------------------- */

/* Appends the entries of `c`, with their starts shifted by the number of entries before. */
static mw_status append_codes(mw_code_log *log, const mw_codes *c) {
    int64_t kept = log->rows ? log->codes.start[log->rows] : 0, rows = log->rows + c->rows;
    if (rows + 1 > log->codes.rows_capacity) {
        int64_t capacity = 2 * (rows + 1);
        int64_t *start = mw_realloc(log->codes.start, (size_t)(log->rows + 1) * (log->rows ? sizeof *start : 0),
                                    (size_t)capacity * sizeof *start);
        if (!start) return MW_ERR_MEMORY;
        log->codes.start = start;
        log->codes.rows_capacity = capacity;
    }
    int64_t entries = c->start[c->rows];
    MW_TRY(mw_codes_reserve(&log->codes, kept, kept + entries));
    log->codes.start[0] = 0;
    for (int64_t r = 0; r < c->rows; r++) log->codes.start[log->rows + r + 1] = kept + c->start[r + 1];
    if (entries) {
        memcpy(log->codes.index + kept, c->index, (size_t)entries * sizeof *c->index);
        memcpy(log->codes.value + kept, c->value, (size_t)entries * sizeof *c->value);
    }
    log->rows = log->codes.rows = rows;
    return MW_OK;
}

mw_status mw_observe(void *self, const mw_hook_event *event) {
    mw_code_log *log = self;
    mw_codes c = {0};
    float *x = NULL;
    MW_TRY(mw_hook_borrow(event, &x));
    mw_status status = encode_event(log->sae, event, x, &c);
    if (status == MW_OK) status = append_codes(log, &c);
    mw_codes_free(&c);
    mw_status returned = mw_hook_return(event, x, false);
    return status != MW_OK ? status : returned;
}

void mw_code_log_free(mw_code_log *log) {
    mw_codes_free(&log->codes);
    *log = (mw_code_log){.sae = log->sae};
}
