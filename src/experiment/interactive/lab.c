/* microw lab: a conversation with a model whose latents can be edited between lines. */
#include "experiment/run/latent_edits.h"
#include "experiment/run/generation.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct lab {
    experiment_run *r;
    latent_index latents;
    edit_list edits;
    mw_sampling how;
    mw_text last; /* the last text, with its prompt */
    bool over;
} lab;

static const char help[] =
    "text                  the model continues it, unchanged and with the edits\n"
    ":scale 42=3 7=0       factor of a latent's activation     :add 42=5     amount added to it, everywhere\n"
    ":clamp 42=4           its new value, everywhere           :ablate 7 9   sets it to 0\n"
    ":concept sea 0.8      adds this share of their largest activation to latents of a name or category\n"
    ":show  :drop 42  :clear                                   the edits: list, remove one, remove all\n"
    ":find words           latents by name, note and category  :texts 42     a latent's strongest texts\n"
    ":top 10               latents most active on the last text\n"
    ":name 42 sea words    names a latent, in names.csv\n"
    ":set temperature=0.8 max_new_tokens=40 top_k=0 top_p=1 seed=1\n"
    ":help  :quit\n";

/* ---- words of a command --------------------------------------------------------------------------------------- */

/* Cuts the next word off the line; NULL: there is none. */
static char *next_word(char **at) {
    char *word = *at + strspn(*at, " \t");
    if (!*word) return NULL;
    size_t n = strcspn(word, " \t");
    *at = word + n + (word[n] != '\0');
    word[n] = '\0';
    return word;
}

static mw_status read_latent(const lab *l, const char *word, int64_t *out) {
    if (word && mw_parse_int(word, out) && *out >= 0 && *out < l->r->sae->n) return MW_OK;
    return mw_error(MW_ERR_ARG, "'%s': expected a latent from 0 to %lld", word ? word : "",
                    (long long)l->r->sae->n - 1);
}

/* 42=3 */
static mw_status read_pair(const lab *l, char *word, int64_t *latent, double *value) {
    char *equals = strchr(word, '=');
    if (!equals) return mw_error(MW_ERR_ARG, "'%s': expected LATENT=NUMBER", word);
    *equals = '\0';
    MW_TRY(read_latent(l, word, latent));
    if (mw_parse_double(equals + 1, value) && isfinite(*value)) return MW_OK;
    return mw_error(MW_ERR_ARG, "'%s': expected a number", equals + 1);
}

static const char *name_of(const lab *l, int64_t latent) {
    const char *name = l->latents.names.of[latent].name;
    return name ? name : "";
}

/* ---- edits ------------------------------------------------------------------------------------------------------- */

static void show_edits(const lab *l) {
    for (int64_t i = 0; i < l->edits.count; i++) {
        const mw_latent_edit *e = &l->edits.items[i];
        printf("  %lld x %.4g + %.4g  %s\n", (long long)e->latent, e->scale, e->add, name_of(l, e->latent));
    }
    if (!l->edits.count) printf("  no latent has an edit\n");
}

static mw_status edit_latents(lab *l, const char *kind, char *rest) {
    for (char *word; (word = next_word(&rest));) {
        int64_t latent;
        double value = 0;
        MW_TRY(strcmp(kind, "ablate") == 0 ? read_latent(l, word, &latent) : read_pair(l, word, &latent, &value));
        if (strcmp(kind, "scale") == 0)
            MW_TRY(edit_list_put_scale(&l->edits, latent, value));
        else if (strcmp(kind, "add") == 0)
            MW_TRY(edit_list_put_add(&l->edits, latent, value));
        else
            MW_TRY(edit_list_put(&l->edits, latent, 0, value));
    }
    show_edits(l);
    return MW_OK;
}

static mw_status go_scale(lab *l, char *rest) {
    return edit_latents(l, "scale", rest);
}
static mw_status go_add(lab *l, char *rest) {
    return edit_latents(l, "add", rest);
}
static mw_status go_clamp(lab *l, char *rest) {
    return edit_latents(l, "clamp", rest);
}
static mw_status go_ablate(lab *l, char *rest) {
    return edit_latents(l, "ablate", rest);
}

static mw_status go_concept(lab *l, char *rest) {
    char *name = next_word(&rest), *strength = next_word(&rest);
    edit_settings s = {
        .concept = name ? name : "", .concept_latents = l->r->e->steer.edits.concept_latents, .strength = 1};
    edit_list made = {0};
    if (!name) return mw_error(MW_ERR_ARG, "expected a name or category");
    if (strength && !mw_parse_double(strength, &s.strength))
        return mw_error(MW_ERR_ARG, "'%s': expected a number", strength);
    if (s.concept_latents < 1) s.concept_latents = 3;
    mw_status status = edit_list_collect(l->r, &l->latents, &s, ":concept", &made);
    for (int64_t i = 0; i < made.count && status == MW_OK; i++)
        status = edit_list_put_add(&l->edits, made.items[i].latent, made.items[i].add);
    edit_list_free(&made);
    if (status == MW_OK) show_edits(l);
    return status;
}

static mw_status go_show(lab *l, char *rest) {
    (void)rest;
    show_edits(l);
    return MW_OK;
}

static mw_status go_drop(lab *l, char *rest) {
    for (char *word; (word = next_word(&rest));) {
        int64_t latent;
        MW_TRY(read_latent(l, word, &latent));
        if (!edit_list_drop(&l->edits, latent)) return mw_error(MW_ERR_ARG, "latent %s has no edit", word);
    }
    show_edits(l);
    return MW_OK;
}

static mw_status go_clear(lab *l, char *rest) {
    edit_list_free(&l->edits);
    return go_show(l, rest);
}

/* ---- latents ----------------------------------------------------------------------------------------------------- */

static void print_latent(const lab *l, int64_t latent, double value) {
    const mw_discovery *f = &l->latents.discovery;
    printf("  %6lld", (long long)latent);
    if (isfinite(value)) printf(" %8.3f", value);
    if (l->latents.discovered) printf("  %6.2f %%", 100 * (double)f->count[latent] / (double)f->rows);
    if (l->latents.discovered && mw_discovery_category(f, latent)) printf("  %s", mw_discovery_category(f, latent));
    printf("  %s\n", name_of(l, latent));
}

static bool has_word(const char *text, const char *word) {
    size_t n = strlen(word);
    for (; text && *text; text++)
        if (strncasecmp(text, word, n) == 0) return true;
    return false;
}

static mw_status go_find(lab *l, char *rest) {
    enum { SHOWN = 20 };
    int64_t found = 0;
    rest += strspn(rest, " \t");
    for (int64_t i = 0; i < l->latents.names.n; i++) {
        const mw_name *name = &l->latents.names.of[i];
        bool category = l->latents.discovered && has_word(mw_discovery_category(&l->latents.discovery, i), rest);
        if (!category && !has_word(name->name, rest) && !has_word(name->note, rest)) continue;
        if (found++ < SHOWN) print_latent(l, i, NAN);
    }
    if (found > SHOWN) printf("  and %lld more\n", (long long)found - SHOWN);
    if (!found) printf("  no latent has such a name, note or category\n");
    return MW_OK;
}

static mw_status go_texts(lab *l, char *rest) {
    int64_t latent;
    MW_TRY(read_latent(l, next_word(&rest), &latent));
    if (!l->latents.discovered) return mw_error(MW_ERR_STATE, "no texts: run `microw discover` first");
    mw_text line = {0};
    mw_status status = MW_OK;
    print_latent(l, latent, NAN);
    for (int64_t t = latent * l->latents.discovery.per, n = 0;
         status == MW_OK && n < 5 && n < l->latents.discovery.top_texts; n++, t++) {
        if (l->latents.discovery.text_row[t] < 0) break;
        status = mw_discovery_line(&l->latents.discovery, t, 12, &line);
        if (status == MW_OK) printf("  %8.3f  %s\n", (double)l->latents.discovery.text_score[t], line.data);
    }
    mw_text_free(&line);
    return status;
}

/* Encodes the last text at the site that the SAE reads. */
static mw_status read_codes(lab *l, mw_code_log *log) {
    const mw_strings text = {(char *[]){l->last.data}, 1};
    prompt_set set = {0};
    mw_site site;
    mw_hook_id id;
    mw_hooks *hooks = mw_model_hooks(l->r->model);
    MW_TRY(mw_site_parse(l->r->sae->site, &site));
    MW_TRY(prompts_encode(l->r, &text, 1, &set));
    mw_status status = mw_hooks_attach(
        hooks, &(mw_hook){.site = site, .kind = MW_DETECTOR, .call = mw_observe, .self = log, .name = "lab"}, &id);
    if (status == MW_OK) {
        mw_batch batch = {.n_seq = 1, .ids = set.ids.data, .length = set.length};
        status = mw_model_forward(l->r->model, &batch, NULL);
        mw_hooks_detach(hooks, id);
    }
    prompts_free(&set);
    return status;
}

typedef struct peak {
    int64_t latent;
    float value;
} peak;

static int strongest_first(const void *a, const void *b) {
    const peak *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? 1 : -1;
    return x->latent < y->latent ? -1 : x->latent > y->latent;
}

static mw_status go_top(lab *l, char *rest) {
    char *word = next_word(&rest);
    int64_t wanted = 10;
    mw_code_log log = {.sae = l->r->sae};
    if (word && (!mw_parse_int(word, &wanted) || wanted < 1))
        return mw_error(MW_ERR_ARG, "'%s': expected a number", word);
    if (!l->last.length) return mw_error(MW_ERR_STATE, "no text yet");
    if (strchr(l->r->sae->site, ','))
        return mw_error(MW_ERR_UNSUPPORTED, ":top does not support SAEs that read several sites");
    peak *list = mw_calloc((size_t)l->r->sae->n, sizeof *list);
    if (!list) return MW_ERR_MEMORY;
    mw_status status = read_codes(l, &log);
    bool bos = l->r->e->dataset.options.bos != MW_BOS_NONE && mw_tokenizer_bos(l->r->tokenizer) >= 0;
    for (int64_t i = 0; i < l->r->sae->n; i++) list[i].latent = i;
    for (int64_t r = bos ? 1 : 0; r < log.rows && status == MW_OK; r++)
        for (int64_t j = log.codes.start[r]; j < log.codes.start[r + 1]; j++)
            if (log.codes.value[j] > list[log.codes.index[j]].value)
                list[log.codes.index[j]].value = log.codes.value[j];
    qsort(list, (size_t)l->r->sae->n, sizeof *list, strongest_first);
    for (int64_t i = 0; i < wanted && i < l->r->sae->n && list[i].value > 0 && status == MW_OK; i++)
        print_latent(l, list[i].latent, (double)list[i].value);
    mw_free(list);
    mw_code_log_free(&log);
    return status;
}

typedef struct new_name {
    int64_t latent;
    const mw_name *name;
} new_name;

static mw_status set_name(void *self, mw_names *names) {
    const new_name *given = self;
    return mw_names_set(names, given->latent, given->name);
}

static mw_status go_name(lab *l, char *rest) {
    int64_t latent;
    MW_TRY(read_latent(l, next_word(&rest), &latent));
    rest += strspn(rest, " \t");
    if (!*rest) return mw_error(MW_ERR_ARG, "expected a latent and its name");
    mw_name name = {.name = rest, .by = (char *)(uintptr_t) "lab", .score = NAN};
    new_name given = {latent, &name};
    MW_TRY(run_names_change(l->r, l->r->sae->n, set_name, &given, &l->latents.names));
    return l->latents.discovered ? run_concepts_save(l->r, &l->latents.discovery, &l->latents.names) : MW_OK;
}

/* ---- generation -------------------------------------------------------------------------------------------------- */

static mw_status set_one(lab *l, const char *key, double value) {
    mw_sampling how = l->how;
    bool whole = strcmp(key, "temperature") != 0 && strcmp(key, "top_p") != 0;
    if (whole && value != floor(value))
        return mw_error(MW_ERR_ARG, "%s: expected a whole number, found %g", key, value);
    if (strcmp(key, "temperature") == 0)
        how.temperature = value;
    else if (strcmp(key, "max_new_tokens") == 0)
        how.max_new_tokens = (int64_t)value;
    else if (strcmp(key, "top_k") == 0)
        how.top_k = (int64_t)value;
    else if (strcmp(key, "top_p") == 0)
        how.top_p = value;
    else if (strcmp(key, "seed") == 0)
        how.seed = (int64_t)value;
    else
        return mw_error(MW_ERR_ARG, "'%s': expected temperature, max_new_tokens, top_k, top_p or seed", key);
    bool good = how.temperature >= 0 && how.temperature <= 100 && how.max_new_tokens >= 1 &&
                how.max_new_tokens <= 1 << 20 && how.top_k >= 0 && how.top_p > 0 && how.top_p <= 1;
    if (!good) return mw_error(MW_ERR_ARG, "%s: %g is out of range", key, value);
    l->how = how;
    return MW_OK;
}

static mw_status go_set(lab *l, char *rest) {
    for (char *word; (word = next_word(&rest));) {
        char *equals = strchr(word, '=');
        double value;
        if (!equals || !mw_parse_double(equals + 1, &value) || !(fabs(value) < 1e15))
            return mw_error(MW_ERR_ARG, "'%s': expected KEY=NUMBER", word);
        *equals = '\0';
        MW_TRY(set_one(l, word, value));
    }
    printf("  temperature %g, max_new_tokens %lld, top_k %lld, top_p %g, seed %lld\n", l->how.temperature,
           (long long)l->how.max_new_tokens, (long long)l->how.top_k, l->how.top_p, (long long)l->how.seed);
    return MW_OK;
}

static mw_status continue_text(lab *l, const char *prompt, const char *label) {
    const mw_strings text = {(char *[]){(char *)(uintptr_t)prompt}, 1};
    prompt_set set = {0};
    mw_text made = {0}, line = {0};
    mw_status status = prompts_encode(l->r, &text, 1, &set);
    if (status == MW_OK) status = prompts_check_and_report(l->r, &set, l->how.max_new_tokens);
    if (status == MW_OK) status = prompts_continue(l->r, &set, &l->how, &made);
    prompts_free(&set);
    if (status == MW_OK) {
        mw_text_addf(&line, "%s", label);
        mw_text_add_visible(&line, made.data, made.length);
        printf("%s\n", line.failed ? "" : line.data);
        l->last.length = 0;
        mw_text_addf(&l->last, "%s", prompt);
        mw_text_add(&l->last, made.data, strlen(made.data));
        if (l->last.failed) status = MW_ERR_MEMORY;
    }
    mw_text_free(&made);
    mw_text_free(&line);
    return status;
}

static mw_status generate(lab *l, const char *prompt) {
    mw_steering steering = {.sae = l->r->sae,
                            .edits = l->edits.items,
                            .n_edits = l->edits.count,
                            .keep_error = l->r->e->steer.keep_error,
                            .untouched = run_untouched_token(l->r)};
    mw_hooks *hooks = mw_model_hooks(l->r->model);
    MW_TRY(continue_text(l, prompt, l->edits.count ? "unchanged: " : ""));
    if (!l->edits.count) return MW_OK;
    MW_TRY(mw_steering_attach(&steering, hooks, NULL));
    mw_status status = continue_text(l, prompt, "steered:   ");
    mw_steering_detach(&steering, hooks);
    return status;
}

/* ---- the conversation -------------------------------------------------------------------------------------------- */

static mw_status go_help(lab *l, char *rest) {
    (void)l;
    (void)rest;
    fputs(help, stdout);
    return MW_OK;
}

static mw_status go_quit(lab *l, char *rest) {
    (void)rest;
    l->over = true;
    return MW_OK;
}

static mw_status run_command(lab *l, char *line) {
    static const struct {
        const char *name;
        mw_status (*go)(lab *, char *);
    } commands[] = {{"scale", go_scale}, {"add", go_add},   {"clamp", go_clamp}, {"ablate", go_ablate},
                    {"show", go_show},   {"drop", go_drop}, {"clear", go_clear}, {"concept", go_concept},
                    {"find", go_find},   {"top", go_top},   {"texts", go_texts}, {"name", go_name},
                    {"set", go_set},     {"help", go_help}, {"quit", go_quit}};
    enum { COUNT = sizeof commands / sizeof *commands };
    char *rest = line, *word = next_word(&rest);
    const char *names[COUNT];
    for (int i = 0; i < COUNT && word; i++)
        if (strcmp(commands[i].name, word) == 0) return commands[i].go(l, rest);
    for (int i = 0; i < COUNT; i++) names[i] = commands[i].name;
    const char *near = word ? mw_nearest_name(word, names, COUNT) : NULL;
    return mw_error(MW_ERR_ARG, "unknown command ':%s'%s%s%s; :help lists them", word ? word : "",
                    near ? "; did you mean ':" : "", near ? near : "", near ? "'?" : "");
}

/* Reads lines to the end. An error of a line is reported, and the next line is read. */
static mw_status converse(lab *l) {
    char *line = NULL;
    size_t capacity = 0;
    bool terminal = isatty(STDIN_FILENO);
    if (terminal)
        printf("%s, %lld latents. The model continues each line; :help lists the commands.\n", l->r->e->top.name,
               (long long)l->r->sae->n);
    while (!l->over && !mw_signal_seen()) {
        if (terminal) printf("> ");
        if (fflush(stdout) != 0) break; /* standard output is closed */
        ssize_t n = getline(&line, &capacity, stdin);
        if (n < 0) break;
        if (memchr(line, '\0', (size_t)n)) {
            mw_error(MW_ERR_ARG, "the line contains a NUL: expected text");
            continue;
        }
        while (n > 0 && isspace((unsigned char)line[n - 1])) line[--n] = '\0';
        mw_status status = n == 0 ? MW_OK : line[0] == ':' ? run_command(l, line + 1) : generate(l, line);
        if (status == MW_ERR_MEMORY || status == MW_ERR_BACKEND) {
            free(line);
            return status;
        }
    }
    if (terminal) printf("\n");
    free(line);
    return MW_OK;
}

static mw_status open_lab(lab *l) {
    MW_TRY(run_sae(l->r));
    MW_TRY(run_model(l->r));
    MW_TRY(run_tokenizer(l->r));
    MW_TRY(latent_index_open(l->r, &l->latents));
    l->how = l->r->e->steer.sampling;
    mw_model_stop_at(l->r->model, l->r->tokenizer, &l->how);
    return MW_OK;
}

mw_status mw_experiment_lab(const mw_experiment *experiment, const mw_comm *comm) {
    experiment_run r;
    if (mw_comm_size(comm) > 1)
        return mw_error(MW_ERR_CONFIG, "microw lab runs on one rank, not %d", mw_comm_size(comm));
    MW_TRY(run_open(experiment, comm, NULL, &r));
    lab l = {.r = &r};
    mw_status status = open_lab(&l);
    if (status == MW_OK) status = converse(&l);
    latent_index_close(&l.latents);
    edit_list_free(&l.edits);
    mw_text_free(&l.last);
    run_close(&r);
    return status;
}
