/* Scales the residual stream after a layer while the model continues a prompt.
 *     edit_site MODEL LAYER FACTOR PROMPT */
#include <microw/microw.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A controller: changes the rows [tokens, width] in place, in host or device memory. */
static mw_status scale(void *self, const mw_hook_event *event) {
    float *x = (float *)event->x.data;
    return event->backend->ops->combine(event->backend, x, *(const float *)self, x, 0, NULL,
                                        event->x.shape[0] * event->x.shape[1]);
}

static mw_status print_continuation(mw_model *model, mw_tokenizer *tokenizer, const mw_ids *prompt) {
    int32_t *made = NULL;
    int64_t count = 0;
    mw_text text = {0};
    mw_batch batch = {.n_seq = 1, .ids = prompt->data, .length = &prompt->count};
    mw_sampling how = {.max_new_tokens = 20, .top_p = 1};
    mw_model_stop_at(model, tokenizer, &how);
    mw_status status = mw_generate(model, &batch, &how, &made, &count);
    if (status == MW_OK) status = mw_tokenizer_decode(tokenizer, made, count, &text);
    if (status == MW_OK) printf("%s\n", text.data ? text.data : "");
    mw_text_free(&text);
    mw_free(made);
    return status;
}

static mw_status run(const char *folder, int layer, float factor, const char *prompt) {
    mw_backend *backend = NULL;
    mw_model *model = NULL;
    mw_tokenizer *tokenizer = NULL;
    mw_ids ids = {0};
    mw_hook_id id;
    mw_hook hook = {
        .site = {layer, MW_RESID_POST}, .kind = MW_CONTROLLER, .call = scale, .self = &factor, .name = "scale"};
    mw_status status = mw_backend_open("auto", &backend);
    if (status == MW_OK) status = mw_model_open(folder, "auto", backend, &model);
    if (status == MW_OK) status = mw_tokenizer_open(folder, &tokenizer);
    if (status == MW_OK) status = mw_tokenizer_encode(tokenizer, prompt, strlen(prompt), &ids);
    if (status == MW_OK) status = print_continuation(model, tokenizer, &ids);
    if (status == MW_OK) status = mw_hooks_attach(mw_model_hooks(model), &hook, &id);
    if (status == MW_OK) status = print_continuation(model, tokenizer, &ids);
    mw_ids_free(&ids);
    mw_tokenizer_free(&tokenizer);
    mw_model_free(&model);
    mw_backend_close(&backend);
    return status;
}

int main(int argc, char **argv) {
    if (argc == 5) return run(argv[1], atoi(argv[2]), (float)atof(argv[3]), argv[4]) == MW_OK ? 0 : 1;
    fprintf(stderr, "usage: edit_site MODEL LAYER FACTOR PROMPT\n");
    return 2;
}
