/* Prints the norm of the residual stream after a layer at each token of a text.
 *     watch_site MODEL LAYER TEXT */
#include <microw/microw.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct watcher {
    const mw_tokenizer *tokenizer;
    float *row; /* [width] */
} watcher;

/* A detector: reads the rows [tokens, width] of its site, which may be in GPU memory. */
static mw_status print_norms(void *self, const mw_hook_event *event) {
    watcher *w = (watcher *)self;
    int64_t width = event->x.shape[1];
    for (int64_t r = 0; r < event->x.shape[0]; r++) {
        double squares = 0;
        const float *from = (const float *)event->x.data + r * width;
        mw_text word = {0};
        MW_TRY(event->backend->ops->download(event->backend, w->row, from, (size_t)width * sizeof *from));
        for (int64_t i = 0; i < width; i++) squares += (double)w->row[i] * w->row[i];
        MW_TRY(mw_tokenizer_decode(w->tokenizer, &event->token[r], 1, &word));
        printf("%8.3f  %s\n", sqrt(squares), word.data ? word.data : "");
        mw_text_free(&word);
    }
    return MW_OK;
}

static mw_status run(const char *folder, int layer, const char *text) {
    mw_backend *backend = NULL;
    mw_model *model = NULL;
    mw_tokenizer *tokenizer = NULL;
    mw_ids ids = {0};
    mw_hook_id id;
    watcher w = {0};
    mw_hook hook = {
        .site = {layer, MW_RESID_POST}, .kind = MW_DETECTOR, .call = print_norms, .self = &w, .name = "norms"};
    mw_status status = mw_backend_open("auto", &backend);
    if (status == MW_OK) status = mw_model_open(folder, "auto", backend, &model);
    if (status == MW_OK) status = mw_tokenizer_open(folder, &tokenizer);
    if (status == MW_OK) status = mw_tokenizer_encode(tokenizer, text, strlen(text), &ids);
    if (status == MW_OK) {
        w.tokenizer = tokenizer;
        w.row = (float *)mw_alloc((size_t)mw_model_site_width(model, hook.site) * sizeof *w.row);
        if (!w.row) status = MW_ERR_MEMORY;
    }
    if (status == MW_OK) status = mw_hooks_attach(mw_model_hooks(model), &hook, &id);
    mw_batch batch = {.n_seq = 1, .ids = ids.data, .length = &ids.count};
    if (status == MW_OK) status = mw_model_forward(model, &batch, NULL); /* ends after the last hooked site */
    mw_free(w.row);
    mw_ids_free(&ids);
    mw_tokenizer_free(&tokenizer);
    mw_model_free(&model);
    mw_backend_close(&backend);
    return status;
}

int main(int argc, char **argv) {
    if (argc == 4) return run(argv[1], atoi(argv[2]), argv[3]) == MW_OK ? 0 : 1;
    fprintf(stderr, "usage: watch_site MODEL LAYER TEXT\n");
    return 2;
}
