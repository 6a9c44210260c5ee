/* The report over HTTP on this machine alone, and a model that answers with latents turned. */
#include "experiment/edits.h"
#include "experiment/generation.h"

#include <string.h>

#ifndef MICROW_HAVE_HTTP

mw_status mw_experiment_serve(const mw_experiment *experiment, const mw_comm *comm, int64_t port) {
    (void)experiment;
    (void)comm;
    (void)port;
    return mw_error(MW_ERR_UNSUPPORTED, "this microw was built without libmicrohttpd: `microw serve` is not in it");
}

#else

#include <arpa/inet.h>
#include <math.h>
#include <microhttpd.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

enum { TOKEN_BYTES = 16, BODY_MAX = 1 << 16, NEW_TOKENS_MAX = 512, EDITS_MAX = 64, CONNECTIONS_MAX = 16, TIMEOUT = 60 };

typedef struct server {
    run *r;
    char token[2 * TOKEN_BYTES + 1];
} server;

/* ---- answers --------------------------------------------------------------------------------------------------- */

typedef struct answer {
    unsigned code;
    const char *type;
    mw_text body;
} answer;

static enum MHD_Result send_answer(struct MHD_Connection *connection, answer *a) {
    struct MHD_Response *response = MHD_create_response_from_buffer(
        a->body.length, a->body.data ? a->body.data : (char[]){""}, MHD_RESPMEM_MUST_COPY);
    if (!response) return MHD_NO;
    MHD_add_response_header(response, "Content-Type", a->type);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    enum MHD_Result result = MHD_queue_response(connection, a->code, response);
    MHD_destroy_response(response);
    mw_text_free(&a->body);
    return result;
}

static void refuse(answer *a, unsigned code, const char *why) {
    a->code = code;
    a->type = "application/json";
    a->body.length = 0;
    mw_text_addf(&a->body, "{\"error\": ");
    mw_json_quote(&a->body, why, strlen(why));
    mw_text_addf(&a->body, "}\n");
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

/* The page, and its shards by number: no other name is ever made into a path. */
static void send_file(const server *s, const char *name, answer *a) {
    int64_t shard = -1;
    char *path = NULL, *data = NULL, digits[24] = "";
    size_t length = strlen(name), bytes = 0;
    bool page = name[0] == '\0' || strcmp(name, "report.html") == 0;
    if (strncmp(name, "report_data/", 12) == 0 && mw_ends_with(name, ".js") && length < 12 + 3 + sizeof digits) {
        memcpy(digits, name + 12, length - 15);
        if (strspn(digits, "0123456789") != length - 15 || !mw_parse_int(digits, &shard)) shard = -1;
    }
    if (page)
        path = mw_path_join(s->r->folder, "report.html");
    else if (shard >= 0)
        path = mw_format("%s/report_data/%lld.js", s->r->folder, (long long)shard);
    mw_log_quiet(true);
    bool there = path && mw_file_read(path, &data, &bytes) == MW_OK;
    mw_log_quiet(false);
    mw_free(path);
    if (!there) {
        refuse(a, MHD_HTTP_NOT_FOUND, "there is no such page");
        return;
    }
    a->code = MHD_HTTP_OK;
    a->type = page ? "text/html; charset=utf-8" : "text/javascript; charset=utf-8";
    mw_text_add(&a->body, data, bytes);
    mw_free(data);
}

/* ---- writing ------------------------------------------------------------------------------------------------------- */

static double number(const json_t *object, const char *key, double initial) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : value ? NAN : initial;
}

/* NULL: all is well. */
static const char *read_sampling(const json_t *request, mw_sampling *how) {
    double temperature = number(request, "temperature", 0), top_p = number(request, "top_p", 1),
           tokens = number(request, "max_new_tokens", 40), top_k = number(request, "top_k", 0),
           seed = number(request, "seed", 0);
    if (!(tokens >= 1 && tokens <= NEW_TOKENS_MAX)) return "max_new_tokens: expected 1 to 512";
    if (!(temperature >= 0 && temperature <= 100)) return "temperature: expected 0 to 100";
    if (!(top_p > 0 && top_p <= 1)) return "top_p: expected more than 0, at most 1";
    if (!(top_k >= 0 && top_k <= 1 << 20)) return "top_k: expected 0 to 1048576";
    if (!(seed >= 0 && seed < 1e15)) return "seed: expected a whole number from 0";
    how->max_new_tokens = (int64_t)tokens;
    how->temperature = temperature;
    how->top_p = top_p;
    how->top_k = (int64_t)top_k;
    how->seed = (int64_t)seed;
    return NULL;
}

static const char *read_edits(const server *s, const json_t *request, edits *list) {
    const json_t *given = json_object_get(request, "edits");
    if (given && !json_is_array(given)) return "edits: expected a list";
    if (json_array_size(given) > EDITS_MAX) return "edits: expected at most 64";
    for (size_t i = 0; i < json_array_size(given); i++) {
        const json_t *one = json_array_get(given, i), *latent = json_object_get(one, "latent");
        double scale = number(one, "scale", 1), add = number(one, "add", 0);
        if (!json_is_integer(latent) || json_integer_value(latent) < 0 || json_integer_value(latent) >= s->r->sae->n)
            return "edits: expected \"latent\", one that the SAE has";
        if (!isfinite(scale) || !isfinite(add) || fabs(scale) > 1e6 || fabs(add) > 1e6)
            return "edits: expected numbers for scale and add";
        if (edits_put(list, json_integer_value(latent), scale, add) != MW_OK) return "out of memory";
    }
    return NULL;
}

static mw_status write_both(const server *s, const char *prompt, const mw_sampling *how, const edits *list,
                            mw_text texts[2]) {
    const mw_strings prompts = {(char *[]){(char *)(uintptr_t)prompt}, 1};
    prompt_set set = {0};
    mw_steering steering = {.sae = s->r->sae,
                            .edits = list->items,
                            .n_edits = list->count,
                            .keep_error = true,
                            .untouched = untouched_token(s->r)};
    mw_hooks *hooks = mw_model_hooks(s->r->model);
    mw_status status = prompts_encode(s->r, &prompts, 1, &set);
    if (status == MW_OK) status = prompts_continue(s->r, &set, how, &texts[0]);
    if (status == MW_OK && list->count) {
        status = mw_steering_attach(&steering, hooks, NULL);
        if (status == MW_OK) status = prompts_continue(s->r, &set, how, &texts[1]);
        mw_steering_detach(&steering, hooks);
    }
    prompts_free(&set);
    return status;
}

static void answer_request(const server *s, const json_t *request, answer *a) {
    mw_sampling how = {.stop_id = mw_tokenizer_eos(s->r->tokenizer)};
    edits list = {0};
    mw_text texts[2] = {{0}, {0}};
    const char *prompt = mw_json_text(request, "prompt");
    const char *why = !prompt || !prompt[0] ? "prompt: expected a text" : read_sampling(request, &how);
    if (!why) why = read_edits(s, request, &list);
    if (why)
        refuse(a, MHD_HTTP_BAD_REQUEST, why);
    else if (write_both(s, prompt, &how, &list, texts) != MW_OK)
        refuse(a, MHD_HTTP_BAD_REQUEST, "the model cannot continue this; its reason is in the server's log");
    else {
        a->code = MHD_HTTP_OK;
        a->type = "application/json";
        mw_text_addf(&a->body, "{\"unchanged\": ");
        mw_json_quote(&a->body, texts[0].data, texts[0].length);
        if (list.count) {
            mw_text_addf(&a->body, ", \"turned\": ");
            mw_json_quote(&a->body, texts[1].data, texts[1].length);
        }
        mw_text_addf(&a->body, "}\n");
    }
    mw_text_free(&texts[0]);
    mw_text_free(&texts[1]);
    edits_free(&list);
}

static void generate(const server *s, const mw_text *body, answer *a) {
    json_t *request = NULL;
    mw_log_quiet(true);
    mw_status status =
        body->length && !body->failed ? mw_json_parse("request", body->data, body->length, &request) : MW_ERR_FORMAT;
    mw_log_quiet(false);
    if (status != MW_OK || !json_is_object(request))
        refuse(a, MHD_HTTP_BAD_REQUEST, "expected a JSON object with \"prompt\"");
    else
        answer_request(s, request, a);
    json_decref(request);
}

/* ---- requests -------------------------------------------------------------------------------------------------------- */

typedef struct request {
    mw_text body;
    bool too_long;
} request;

static bool same_token(const char *a, const char *b) {
    unsigned different = 0;
    for (int i = 0; i < 2 * TOKEN_BYTES; i++) different |= (unsigned)(a[i] ^ b[i]); /* in a time that tells nothing */
    return different == 0;
}

/* Behind "/TOKEN/"; NULL: another token, or none. */
static const char *place_in(const server *s, const char *url) {
    if (url[0] != '/' || strlen(url) < 2 * TOKEN_BYTES + 2 || url[2 * TOKEN_BYTES + 1] != '/') return NULL;
    return same_token(url + 1, s->token) ? url + 2 * TOKEN_BYTES + 2 : NULL;
}

/* A page elsewhere whose name leads here has its own name in Host. */
static bool is_local(struct MHD_Connection *connection) {
    const char *host = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host");
    return host && (strncmp(host, "127.0.0.1:", 10) == 0 || strncmp(host, "localhost:", 10) == 0);
}

static void decide(const server *s, struct MHD_Connection *connection, const char *url, const char *method,
                   const request *got, answer *a) {
    const char *place = is_local(connection) ? place_in(s, url) : NULL;
    bool get = strcmp(method, "GET") == 0, post = strcmp(method, "POST") == 0;
    if (!place)
        refuse(a, MHD_HTTP_FORBIDDEN, "the address that microw serve printed has the token that is needed");
    else if (got->too_long)
        refuse(a, MHD_HTTP_CONTENT_TOO_LARGE, "a request has at most 65536 bytes");
    else if (get)
        send_file(s, place, a);
    else if (post && strcmp(place, "generate") == 0)
        generate(s, &got->body, a);
    else
        refuse(a, MHD_HTTP_METHOD_NOT_ALLOWED, "expected GET of the page, or POST to generate");
}

/* Called first with the headers, then with pieces of the body, then with no more. */
static enum MHD_Result handle(void *self, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *data, size_t *bytes, void **state) {
    (void)version;
    request *got = *state;
    if (!got) {
        *state = mw_calloc(1, sizeof *got);
        return *state ? MHD_YES : MHD_NO;
    }
    if (*bytes) {
        got->too_long = got->too_long || got->body.length + *bytes > BODY_MAX;
        if (!got->too_long) mw_text_add(&got->body, data, *bytes);
        *bytes = 0;
        return MHD_YES;
    }
    answer a = {0};
    decide(self, connection, url, method, got, &a);
    return send_answer(connection, &a);
}

static void forget(void *self, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode how) {
    (void)self;
    (void)connection;
    (void)how;
    request *got = *state;
    if (!got) return;
    mw_text_free(&got->body);
    mw_free(got);
    *state = NULL;
}

/* ---- the server --------------------------------------------------------------------------------------------------------- */

static mw_status make_token(server *s) {
    unsigned char bytes[TOKEN_BYTES];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return mw_error(MW_ERR_IO, "the system has no random bytes for a token");
    for (int i = 0; i < TOKEN_BYTES; i++) snprintf(s->token + 2 * i, 3, "%02x", bytes[i]);
    return MW_OK;
}

/* One thread answers, one request at a time: the model has one set of buffers. */
static mw_status listen_and_wait(server *s, int64_t port) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct MHD_Daemon *daemon =
        MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, (uint16_t)port, NULL, NULL, handle, s, MHD_OPTION_SOCK_ADDR,
                         &here, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
                         (unsigned)TIMEOUT, MHD_OPTION_NOTIFY_COMPLETED, forget, NULL, MHD_OPTION_END);
    if (!daemon) return mw_error(MW_ERR_IO, "port %lld of this machine cannot be listened on", (long long)port);
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT);
    printf("serve: http://127.0.0.1:%u/%s/ until it is interrupted\n", info ? info->port : (unsigned)port, s->token);
    fflush(stdout);
    while (!mw_signal_seen()) nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    MHD_stop_daemon(daemon);
    return MW_OK;
}

static mw_status open_all(run *r) {
    MW_TRY(run_sae(r));
    MW_TRY(run_model(r));
    MW_TRY(run_tokenizer(r));
    return stage_report(r);
}

mw_status mw_experiment_serve(const mw_experiment *experiment, const mw_comm *comm, int64_t port) {
    run r;
    if (mw_comm_size(comm) > 1)
        return mw_error(MW_ERR_CONFIG, "microw serve runs on one rank, not %d", mw_comm_size(comm));
    if (port < 0 || port > 65535) return mw_error(MW_ERR_CONFIG, "--port: expected 0 to 65535");
    MW_TRY(run_open(experiment, comm, NULL, &r));
    server s = {.r = &r};
    mw_status status = open_all(&r);
    if (status == MW_OK) status = make_token(&s);
    if (status == MW_OK) status = listen_and_wait(&s, port);
    run_close(&r);
    return status;
}

#endif
