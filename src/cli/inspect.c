/* The verb inspect: shows what a file or folder contains, and verifies checksums. */
#include "base/json.h"
#include "cli/commands.h"
#include "microw/concepts.h"
#include "microw/experiment.h"
#include "microw/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- activations --------------------------------------------------------------------------------------- */

static mw_status print_provenance(const mw_store *store) {
    static const char *const keys[] = {"model",          "model_sha256", "tokenizer_sha256", "dataset_sha256",
                                       "microw_version", "microw_git",   "fingerprint"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char *value;
        MW_TRY(mw_store_provenance(store, keys[i], &value));
        printf("%-18s %s\n", keys[i], value);
        mw_free(value);
    }
    return MW_OK;
}

static bool quick; /* --quick: activations are not read */

static mw_status verify_store(const mw_store *store) {
    if (quick) {
        printf("checksums not verified\n");
        return MW_OK;
    }
    MW_TRY(mw_store_verify(store));
    printf("checksums match\n");
    return MW_OK;
}

static mw_status inspect_store(const char *path) {
    mw_store *store;
    mw_store_tokens tokens = {0};
    MW_TRY(mw_store_open(path, &store));
    mw_status status = print_provenance(store);
    if (status == MW_OK) status = mw_store_read_tokens(store, &tokens);
    if (status == MW_OK)
        printf("%lld rows of %lld sequences from %lld documents\n", (long long)tokens.n_rows,
               (long long)tokens.n_sequences, (long long)tokens.n_documents);
    for (int64_t i = 0; status == MW_OK && i < mw_store_site_count(store); i++) {
        const mw_store_site *s = mw_store_site_at(store, i);
        char name[MW_SITE_TEXT];
        mw_site_format(s->site, name);
        printf("%-18s width %lld, %s, mean norm %.6g\n", name, (long long)s->width, mw_dtype_name(s->dtype),
               s->norm_mean);
    }
    if (status == MW_OK) status = verify_store(store);
    mw_store_tokens_free(&tokens);
    mw_store_close(&store);
    return status;
}

static mw_status inspect_unfinished(const char *path) {
    int64_t done, all;
    MW_TRY(mw_store_progress(path, 0, &done, &all));
    printf("unfinished harvest: %lld of %lld blocks are complete; `microw harvest` resumes it\n", (long long)done,
           (long long)all);
    return MW_OK;
}

/* ---- tensors ------------------------------------------------------------------------------------------- */

static mw_status list_tensors(const char *path) {
    mw_safetensors *file;
    MW_TRY(mw_safetensors_open(path, &file));
    for (int64_t i = 0; i < mw_safetensors_count(file); i++) {
        mw_tensor t;
        const char *name = mw_safetensors_name(file, i);
        if (!mw_safetensors_find(file, name, &t)) continue;
        printf("%-40s %s [", name, mw_dtype_name(t.dtype));
        for (int d = 0; d < t.ndim; d++) printf("%s%lld", d ? ", " : "", (long long)t.shape[d]);
        printf("]\n");
    }
    char hash[MW_SHA256_TEXT];
    mw_status status = mw_safetensors_hash(file, hash);
    if (status == MW_OK) printf("sha256 %s\n", hash);
    mw_safetensors_free(&file);
    return status;
}

static mw_status inspect_checkpoint(const char *path) {
    mw_checkpoint_info c;
    MW_TRY(mw_checkpoint_read(path, &c));
    printf("checkpoint at step %lld: %lld latents, width %lld to %lld; the checksum matches\nfingerprint %s\n",
           (long long)c.step, (long long)c.n, (long long)c.d, (long long)c.d_out, c.fingerprint);
    return MW_OK;
}

static bool is_checkpoint(const char *path) {
    return strncmp(mw_path_basename(path), "checkpoint-", 11) == 0;
}

static mw_status inspect_tensors(const char *path) {
    if (is_checkpoint(path)) MW_TRY(inspect_checkpoint(path));
    return list_tensors(path);
}

/* ---- folders ------------------------------------------------------------------------------------------- */

static void print_training(const char *folder) {
    json_t *history = mw_json_load_optional(folder, "training_history.json");
    if (history)
        printf("trained %.0f steps: FVU %s, L0 %.1f, %.0f dead latents\n", mw_json_last(history, "step"),
               mw_show(mw_json_last(history, "fvu"), 4).text, mw_json_last(history, "l0"),
               mw_json_last(history, "dead"));
    json_decref(history);
}

static mw_status inspect_sae(const char *folder) {
    mw_backend *backend = NULL;
    mw_sae *sae = NULL;
    mw_text what = {0};
    MW_TRY(mw_backend_open("cpu", &backend));
    mw_status status = mw_sae_load(folder, backend, &sae);
    if (status == MW_OK) status = mw_sae_describe(sae, &what);
    if (status == MW_OK)
        printf("SAE: %s; width %lld to %lld, model %s\n", what.data, (long long)sae->d, (long long)sae->d_out,
               sae->model);
    if (status == MW_OK) print_training(folder);
    mw_text_free(&what);
    mw_sae_free(&sae);
    mw_backend_close(&backend);
    return status;
}

static void print_number(const json_t *object, const char *key, const char *label) {
    if (json_object_get(object, key)) printf(", %s %s", label, mw_show(mw_json_number(object, key, NAN), 4).text);
}

static mw_status inspect_run(const char *folder) {
    json_t *manifest = mw_json_load_optional(folder, "manifest.json"), *stages = json_object_get(manifest, "stages"),
           *mark;
    json_t *evaluated = mw_json_load_optional(folder, "evaluate.json");
    const char *stage;
    printf("run %s: finished stages", mw_path_basename(folder));
    json_object_foreach(stages, stage, mark) printf(" %s", stage);
    if (!json_object_size(stages)) printf(" none");
    if (evaluated) {
        printf("\nevaluated");
        print_number(evaluated, "fvu", "FVU");
        print_number(evaluated, "l0", "L0");
        print_number(evaluated, "ce_recovered_zero", "cross-entropy recovered");
    }
    printf("\n");
    json_decref(manifest);
    json_decref(evaluated);
    return MW_OK;
}

static mw_status inspect_model(const char *folder) {
    mw_backend *backend = NULL;
    mw_model *model = NULL;
    MW_TRY(mw_backend_open("cpu", &backend));
    mw_status status = mw_model_open(folder, "auto", backend, &model);
    if (status == MW_OK) {
        const mw_model_info *m = mw_model_about(model);
        printf("model: %s, %lld layers, width %lld, vocabulary %lld, context %lld, %.3g million parameters in %s\n",
               m->family, (long long)m->n_layers, (long long)m->d_model, (long long)m->vocab, (long long)m->context,
               (double)m->parameters / 1e6, mw_dtype_name(m->dtype));
        if (m->ignored_keys[0]) printf("keys of config.json that are ignored: %s\n", m->ignored_keys);
    }
    mw_model_free(&model);
    mw_backend_close(&backend);
    return status;
}

/* Kinds of folders, by a file that they contain; `inner`: that file is inspected, else the folder. */
static const struct folder_kind {
    const char *file;
    bool inner;
    mw_status (*inspect)(const char *);
} folder_kinds[] = {
    {"activations.h5", true, inspect_store}, {"activations.h5.partial", true, inspect_unfinished},
    {"sae.safetensors", false, inspect_sae}, {"manifest.json", false, inspect_run},
    {"config.json", false, inspect_model},
};
enum { FOLDER_KINDS = sizeof folder_kinds / sizeof *folder_kinds };

static mw_status inspect_folder(const char *path) {
    for (int i = 0; i < FOLDER_KINDS; i++) {
        const struct folder_kind *kind = &folder_kinds[i];
        char *inner = mw_path_join(path, kind->file);
        if (!inner) return MW_ERR_MEMORY;
        bool found = mw_file_exists(inner);
        mw_status status = found ? kind->inspect(kind->inner ? inner : path) : MW_OK;
        mw_free(inner);
        if (found) return status;
    }
    return mw_error(MW_ERR_FORMAT, "%s: this folder contains no activations, SAE, run or model", path);
}

/* ---- other files --------------------------------------------------------------------------------------- */

static mw_status inspect_tokenizer(const char *path) {
    mw_tokenizer *tokenizer = NULL;
    MW_TRY(mw_tokenizer_open(path, &tokenizer));
    printf("tokenizer: %lld ids, bos %d, eos %d\nsha256 %s\n", (long long)mw_tokenizer_size(tokenizer),
           mw_tokenizer_bos(tokenizer), mw_tokenizer_eos(tokenizer), mw_tokenizer_hash(tokenizer));
    mw_tokenizer_free(&tokenizer);
    return MW_OK;
}

static mw_status inspect_experiment(const char *path) {
    return verb_config(&(arguments){.positional = {path}, .n_positional = 1});
}

static mw_status inspect_json(const char *path) {
    json_t *value = NULL;
    if (strcmp(mw_path_basename(path), "tokenizer.json") == 0) return inspect_tokenizer(path);
    MW_TRY(mw_json_load(path, &value));
    const char *key;
    json_t *member;
    if (json_is_array(value)) printf("JSON: a list of %zu\n", json_array_size(value));
    json_object_foreach(value, key, member) {
        const char *odd = mw_json_odd(member);
        char *text = odd ? NULL : json_dumps(member, JSON_ENCODE_ANY | JSON_COMPACT);
        if (odd)
            printf("%-24s %s\n", key, odd);
        else if (text && strlen(text) <= 60)
            printf("%-24s %s\n", key, text);
        else
            printf("%-24s %s of %zu\n", key, json_is_array(member) ? "list" : "map",
                   json_is_array(member) ? json_array_size(member) : json_object_size(member));
        free(text);
    }
    json_decref(value);
    return MW_OK;
}

/* Counts lines, and those that are not JSON. */
static mw_status inspect_lines(const char *path) {
    char *text = NULL;
    size_t length = 0, lines = 0, bad = 0;
    MW_TRY(mw_file_read(path, &text, &length));
    for (char *line = text, *next; line && *line; line = next, lines++) {
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        mw_json_report report;
        json_t *value = mw_json_read(line, strlen(line), &report);
        bad += !value;
        json_decref(value);
    }
    mw_free(text);
    printf("%zu lines, %zu bytes; %zu are not JSON\n", lines, length, bad);
    return MW_OK;
}

static mw_status inspect_ids(const char *path) {
    mw_comm *self = NULL;
    mw_dataset *dataset = NULL;
    const mw_dataset_options options = {.paths = &path, .n_paths = 1, .text_field = "text", .context = 1 << 20};
    MW_TRY(mw_comm_self(&self));
    mw_status status = mw_dataset_load(&options, NULL, self, &dataset);
    if (status == MW_OK)
        printf("%lld token ids in %lld rows\n", (long long)dataset->n_ids, (long long)dataset->n_documents);
    mw_dataset_free(&dataset);
    mw_comm_free(&self);
    return status;
}

static mw_status inspect_discovery(const char *path) {
    mw_discovery d;
    char *mark = NULL;
    int64_t active = 0;
    MW_TRY(mw_discovery_load(path, &d, &mark));
    for (int64_t i = 0; i < d.n; i++) active += d.count[i] > 0;
    printf(
        "discovery: %lld of %lld latents active on %lld rows; for each %lld strongest texts and %lld at random, with\n"
        "%lld tokens on each side; %lld neighbours, %lld promoted tokens, %lld data files, %lld categories\n"
        "SAE with fingerprint %s\n",
        (long long)active, (long long)d.n, (long long)d.rows, (long long)d.top_texts, (long long)d.samples,
        (long long)d.around, (long long)d.cosine.m, (long long)d.promoted.m, (long long)d.n_sources,
        (long long)d.n_categories, mark);
    mw_discovery_free(&d);
    mw_free(mark);
    return MW_OK;
}

/* Reads the names of an SAE of any size. */
static mw_status inspect_names(const char *path) {
    enum { LATENTS_MAX = 1 << 21 };
    mw_names names;
    int64_t named = 0, tested = 0;
    MW_TRY(mw_names_new(LATENTS_MAX, &names));
    mw_status status = mw_names_load(path, MW_NAMES_CSV, NULL, &names);
    for (int64_t i = 0; i < names.n; i++) {
        named += names.of[i].name != NULL;
        tested += names.of[i].name && names.of[i].score == names.of[i].score;
    }
    if (status == MW_OK) printf("names of %lld latents, %lld of them tested\n", (long long)named, (long long)tested);
    mw_names_free(&names);
    return status;
}

static const struct file_kind {
    const char *suffix;
    mw_status (*inspect)(const char *);
} file_kinds[] = {
    {".safetensors", inspect_tensors},
    {".bin", list_tensors},
    {".pt", list_tensors},
    {".pth", list_tensors},
    {".h5.partial", inspect_unfinished},
    {"discovery.h5", inspect_discovery},
    {".csv", inspect_names},
    {".json", inspect_json},
    {".jsonl", inspect_lines},
    {".yaml", inspect_experiment},
    {".yml", inspect_experiment},
    {".npy", inspect_ids},
    {".h5", inspect_store},
};
enum { FILE_KINDS = sizeof file_kinds / sizeof *file_kinds };

mw_status verb_inspect(const arguments *a) {
    const char *path = a->positional[0];
    mw_status (*inspect)(const char *) = inspect_store; /* whatever the name */
    uint64_t bytes;
    quick = argument(a, "--quick") != NULL;
    if (mw_is_directory(path)) return inspect_folder(path);
    for (int i = FILE_KINDS - 1; i >= 0; i--)
        if (mw_ends_with(path, file_kinds[i].suffix)) inspect = file_kinds[i].inspect;
    if (inspect != inspect_experiment) MW_TRY(mw_file_size(path, &bytes)); /* the same error for every reader */
    return inspect(path);
}
