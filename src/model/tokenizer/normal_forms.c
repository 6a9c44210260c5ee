/* Unicode normal forms, by utf8proc, of the characters that the reference library knows.
 *
 * The reference's tables are of Unicode 9: newer characters never change there, and stay apart from their neighbours.
 * unicode_data.c marks the characters that may change; only runs of these are given to utf8proc. */
#include "model/tokenizer/normalizer.h"
#include "model/tokenizer/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

bool normalizer_set_form(normalizer *n, const char *name) {
    static const struct {
        const char *name;
        int options;
        uint32_t fact;
    } forms[] = {{"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE, FACT_NFC},
                 {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, FACT_NFD},
                 {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT, FACT_NFKC},
                 {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, FACT_NFKD}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (strcmp(name, forms[i].name) == 0) {
            n->apply = normalize_form;
            n->form = forms[i].options;
            n->form_fact = forms[i].fact;
            return true;
        }
    return false;
}

/* A run of characters that the form may change, with the one before it if that may compose with the run. */
typedef struct run {
    size_t begin, end;
} run;

static bool next_run(const normalizer *n, const mw_text *text, size_t from, run *out) {
    bool composes = n->form & UTF8PROC_COMPOSE, found = false;
    size_t length, before = from;
    bool before_composes = false;
    for (size_t i = from; i < text->length; i += length) {
        length = 1;
        if (!found && (unsigned char)text->data[i] < 0x80) { /* changes only in front of a mark */
            before = i;
            before_composes = true;
            continue;
        }
        uint32_t facts = unicode_facts(unicode_read(text->data + i, &length));
        if (facts & n->form_fact) {
            if (!found) out->begin = composes && before_composes ? before : i;
            found = true;
            out->end = i + length;
        } else if (found) {
            return true;
        }
        before = i;
        before_composes = facts & (FACT_COMPOSES | FACT_NFD); /* its parts may compose anew */
    }
    return found;
}

static mw_status write_run(const normalizer *n, const text_origin *origin, const mw_text *text, run r, mw_text *out) {
    utf8proc_uint8_t *made = NULL;
    utf8proc_ssize_t length = utf8proc_map((const utf8proc_uint8_t *)text->data + r.begin,
                                           (utf8proc_ssize_t)(r.end - r.begin), &made, (utf8proc_option_t)n->form);
    if (length < 0) {
        char problem[128];
        snprintf(problem, sizeof problem, "Unicode normalization failed: %s", utf8proc_errmsg(length));
        return text_error(origin, problem, text->data + r.begin, r.end - r.begin);
    }
    mw_text_add(out, (const char *)made, (size_t)length);
    free(made);
    return MW_OK;
}

static mw_status write_form(const normalizer *n, const text_origin *origin, const mw_text *text, bool *changed,
                            mw_text *out) {
    run r;
    size_t done = 0;
    for (*changed = false; next_run(n, text, done, &r); *changed = true) {
        mw_text_add(out, text->data + done, r.begin - done);
        MW_TRY(write_run(n, origin, text, r, out));
        done = r.end;
    }
    if (*changed) mw_text_add(out, text->data + done, text->length - done);
    return MW_OK;
}

/* The characters of the form stand, one by one, for those that the lead alone would have. */
static mw_status find_lead(const normalizer *n, const text_origin *origin, const changing_text *t, size_t *out) {
    mw_text lead = {0}, form = {0};
    bool changed = false;
    mw_text_add(&lead, t->text.data, t->lead);
    mw_status status = lead.failed ? MW_ERR_MEMORY : write_form(n, origin, &lead, &changed, &form);
    const mw_text *made = changed ? &form : &lead;
    *out = unicode_count(made->data, made->length);
    mw_text_free(&lead);
    mw_text_free(&form);
    return status;
}

mw_status normalize_form(const normalizer *n, const text_origin *origin, changing_text *t) {
    bool changed;
    size_t characters;
    t->scratch.length = 0;
    MW_TRY(write_form(n, origin, &t->text, &changed, &t->scratch));
    if (!changed) return MW_OK;
    MW_TRY(find_lead(n, origin, t, &characters));
    mw_text_swap(&t->text, &t->scratch);
    t->lead = bytes_of_characters(t->text.data, t->text.length, characters);
    return MW_OK;
}
