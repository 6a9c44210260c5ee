/* Continues a prompt twice, the second time with AMOUNT added to one latent of a trained SAE at every token.
 *     steer MODEL SAE LATENT AMOUNT PROMPT */
#include <microw/microw.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct resources {
    mw_backend *backend, *host;
    mw_model *model;
    mw_tokenizer *tokenizer;
    mw_sae *sae;
    mw_ids ids;
} resources;

/* Receives log lines instead of standard error. */
static void print_line(void *self, mw_log_level level, const char *line) {
    fprintf((FILE *)self, "%s%s\n", level == MW_LOG_ERROR ? "steer: " : "", line);
}

static mw_status open_all(resources *p, const char *model, const char *sae, const char *prompt) {
    MW_TRY(mw_backend_open("auto", &p->backend));
    MW_TRY(mw_backend_open("cpu", &p->host));
    MW_TRY(mw_model_open(model, "auto", p->backend, &p->model));
    MW_TRY(mw_tokenizer_open(model, &p->tokenizer));
    MW_TRY(mw_sae_load(sae, p->host, &p->sae));
    return mw_tokenizer_encode(p->tokenizer, prompt, strlen(prompt), &p->ids);
}

static mw_status print_continuation(const resources *p) {
    int32_t *made = NULL;
    int64_t count = 0;
    mw_text text = {0};
    mw_batch batch = {.n_seq = 1, .ids = p->ids.data, .length = &p->ids.count};
    mw_sampling how = {.max_new_tokens = 20, .temperature = 0.8, .top_p = 1};
    mw_model_stop_at(p->model, p->tokenizer, &how);
    mw_status status = mw_generate(p->model, &batch, &how, &made, &count);
    if (status == MW_OK) status = mw_tokenizer_decode(p->tokenizer, made, count, &text);
    if (status == MW_OK) printf("%s\n", text.data ? text.data : "");
    mw_text_free(&text);
    mw_free(made);
    return status;
}

/* Steers at the site that the SAE was trained on and keeps its reconstruction error. */
static mw_status print_both(resources *p, mw_latent_edit *edit) {
    mw_steering steering = {
        .sae = p->sae, .edits = edit, .n_edits = 1, .keep_error = true, .untouched = mw_tokenizer_bos(p->tokenizer)};
    MW_TRY(print_continuation(p));
    MW_TRY(mw_steering_attach(&steering, mw_model_hooks(p->model), NULL));
    mw_status status = print_continuation(p);
    mw_steering_detach(&steering, mw_model_hooks(p->model));
    return status;
}

int main(int argc, char **argv) {
    resources p = {0};
    if (argc != 6) {
        fprintf(stderr, "usage: steer MODEL SAE LATENT AMOUNT PROMPT\n");
        return 2;
    }
    mw_log_to(print_line, stderr);
    mw_latent_edit edit = {.latent = atoll(argv[3]), .scale = 1, .add = atof(argv[4])};
    mw_status status = open_all(&p, argv[1], argv[2], argv[5]);
    if (status == MW_OK) status = print_both(&p, &edit);
    mw_ids_free(&p.ids);
    mw_sae_free(&p.sae);
    mw_tokenizer_free(&p.tokenizer);
    mw_model_free(&p.model);
    mw_backend_close(&p.host);
    mw_backend_close(&p.backend);
    return status == MW_OK ? 0 : 1;
}
