/* The verb generate: continues a prompt, optionally with steered latents. */
#include "cli/commands.h"
#include "microw/concepts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EDITS_MAX = 64 };

typedef struct session {
    mw_backend *backend, *host; /* the model's, the SAE's */
    mw_model *model;
    mw_tokenizer *tokenizer;
    mw_sae *sae;
    mw_latent_edit edits[EDITS_MAX];
    mw_steering steering;
    mw_ids ids;
    bool begins_with_bos; /* not part of the prompt's text */
    int64_t context;
} session;

/* Parses "42=1.5,7=0" into edits of the session. */
static mw_status read_edits(const char *text, bool adds, session *s) {
    for (const char *p = text; p && *p;) {
        char *end, *after;
        long long latent = strtoll(p, &end, 10);
        double value = *end == '=' ? strtod(end + 1, &after) : 0;
        if (end == p || *end != '=' || after == end + 1 || (*after && *after != ','))
            return mw_error(MW_ERR_CONFIG, "--%s %s: expected LATENT=NUMBER,...", adds ? "add" : "scale", text);
        if (s->steering.n_edits == EDITS_MAX) return mw_error(MW_ERR_CONFIG, "more than %d latents", EDITS_MAX);
        if (latent < 0 || latent >= s->sae->n)
            return mw_error(MW_ERR_CONFIG, "latent %lld: the SAE has %lld latents", latent, (long long)s->sae->n);
        s->edits[s->steering.n_edits++] = (mw_latent_edit){latent, adds ? 1 : value, adds ? value : 0};
        p = *after ? after + 1 : after;
    }
    return MW_OK;
}

static mw_status attach_sae(const arguments *a, session *s) {
    const char *folder = argument(a, "--sae");
    if (!folder) {
        if (argument(a, "--scale") || argument(a, "--add"))
            return mw_error(MW_ERR_CONFIG, "--scale and --add need --sae FOLDER");
        return MW_OK;
    }
    MW_TRY(mw_backend_open("cpu", &s->host));
    MW_TRY(mw_sae_load(folder, s->host, &s->sae));
    s->steering = (mw_steering){.sae = s->sae,
                                .edits = s->edits,
                                .keep_error = !argument(a, "--drop-error"),
                                .untouched = mw_tokenizer_bos(s->tokenizer)};
    MW_TRY(read_edits(argument(a, "--scale"), false, s));
    MW_TRY(read_edits(argument(a, "--add"), true, s));
    return mw_steering_attach(&s->steering, mw_model_hooks(s->model), argument(a, "--site"));
}

static mw_status read_sampling(const arguments *a, mw_sampling *how) {
    MW_TRY(argument_int(a, "--max-new-tokens", 40, &how->max_new_tokens));
    MW_TRY(argument_int(a, "--top-k", 0, &how->top_k));
    MW_TRY(argument_int(a, "--seed", 0, &how->seed));
    MW_TRY(argument_real(a, "--temperature", 0, &how->temperature));
    MW_TRY(argument_real(a, "--top-p", 1, &how->top_p));
    if (how->max_new_tokens < 1 || how->top_k < 0 || how->temperature < 0 || !(how->top_p > 0 && how->top_p <= 1))
        return mw_error(MW_ERR_CONFIG,
                        "expected --max-new-tokens >= 1, --top-k >= 0, --temperature >= 0, 0 < --top-p <= 1");
    return MW_OK;
}

/* Encodes the prompt. `rule`, --bos: auto puts bos before it if the tokenizer has one and the prompt does not begin
 * with it; always, never. */
static mw_status encode_prompt(const char *rule, const char *prompt, session *s) {
    int32_t bos = mw_tokenizer_bos(s->tokenizer);
    bool always = rule && strcmp(rule, "always") == 0, never = rule && strcmp(rule, "never") == 0;
    if (rule && !always && !never && strcmp(rule, "auto") != 0)
        return mw_error(MW_ERR_CONFIG, "--bos %s: expected auto, always or never", rule);
    if (always && bos < 0) return mw_error(MW_ERR_CONFIG, "--bos always: the tokenizer has no bos token");
    MW_TRY(mw_ids_add(&s->ids, bos));
    MW_TRY(mw_tokenizer_encode(s->tokenizer, prompt, strlen(prompt), &s->ids));
    s->begins_with_bos = always || (!never && bos >= 0 && !(s->ids.count > 1 && s->ids.data[1] == bos));
    if (s->begins_with_bos) return MW_OK;
    s->ids.count--;
    memmove(s->ids.data, s->ids.data + 1, (size_t)s->ids.count * sizeof *s->ids.data);
    return MW_OK;
}

/* Checks before weights are read that the model's context has room for a new token. */
static mw_status check_prompt(const char *model, session *s) {
    mw_model *outline = NULL;
    MW_TRY(mw_model_outline(model, &outline));
    s->context = mw_model_about(outline)->context;
    mw_model_free(&outline);
    if (s->ids.count < 1) return mw_error(MW_ERR_CONFIG, "--prompt has no tokens, and no bos token is put before it");
    if (s->ids.count < s->context) return MW_OK;
    return mw_error(
        MW_ERR_CONFIG,
        "--prompt has %lld tokens: the model's context is %lld, and a new token must fit: expected at most %lld",
        (long long)s->ids.count, (long long)s->context, (long long)s->context - 1);
}

static mw_status print_continuation(session *s, const mw_sampling *how) {
    int32_t *made = NULL;
    int64_t n = 0, given = s->ids.count;
    mw_batch batch = {.n_seq = 1, .ids = s->ids.data, .length = &given};
    MW_TRY(mw_generate(s->model, &batch, how, &made, &n));
    mw_text text = {0};
    mw_status status = MW_OK;
    for (int64_t i = 0; i < n && status == MW_OK; i++) status = mw_ids_add(&s->ids, made[i]);
    int64_t skip = s->begins_with_bos;
    if (status == MW_OK) status = mw_tokenizer_decode(s->tokenizer, s->ids.data + skip, s->ids.count - skip, &text);
    if (status == MW_OK) printf("%s\n", text.data ? text.data : "");
    if (status == MW_OK && n < how->max_new_tokens && given + n == s->context)
        mw_log(MW_LOG_INFO, "the text ends after %lld of %lld new tokens: the model's context of %lld is full",
               (long long)n, (long long)how->max_new_tokens, (long long)s->context);
    mw_text_free(&text);
    mw_free(made);
    return status;
}

static mw_status run(const arguments *a, session *s) {
    const char *model = argument(a, "--model"), *prompt = argument(a, "--prompt");
    const char *dtype = argument(a, "--dtype"), *device = argument(a, "--device");
    mw_sampling how = {0};
    if (!model || !prompt) return mw_error(MW_ERR_CONFIG, "microw generate needs --model and --prompt");
    MW_TRY(read_sampling(a, &how));
    MW_TRY(mw_tokenizer_open(model, &s->tokenizer));
    MW_TRY(encode_prompt(argument(a, "--bos"), prompt, s));
    MW_TRY(check_prompt(model, s));
    MW_TRY(mw_backend_open(device ? device : "auto", &s->backend));
    MW_TRY(mw_model_open(model, dtype ? dtype : "auto", s->backend, &s->model));
    mw_model_stop_at(s->model, s->tokenizer, &how);
    mw_model_disable_packing(s->model); /* one token at a time, products are bound by memory bandwidth in any layout */
    MW_TRY(attach_sae(a, s));
    return print_continuation(s, &how);
}

mw_status verb_generate(const arguments *a) {
    session s = {0};
    mw_status status = run(a, &s);
    mw_ids_free(&s.ids);
    if (s.model) mw_steering_detach(&s.steering, mw_model_hooks(s.model));
    mw_model_free(&s.model);
    mw_sae_free(&s.sae);
    mw_tokenizer_free(&s.tokenizer);
    mw_backend_close(&s.backend);
    mw_backend_close(&s.host);
    return status;
}
