/* microw serve: the report over HTTP on this machine alone, and texts that a steered model generates. */
#include "experiment/run/latent_edits.h"
#include "experiment/run/generation.h"
#include "experiment/interactive/connections.h"

#include <string.h>

#ifndef MICROW_HAVE_HTTP

mw_status mw_experiment_serve(const mw_experiment *experiment, const mw_comm *comm, int64_t port) {
    (void)experiment;
    (void)comm;
    (void)port;
    return mw_error(MW_ERR_UNSUPPORTED, "`microw serve` needs libmicrohttpd, without which this microw was built");
}

void mw_experiment_libraries(mw_library_callback *report, void *self) {
    report(self, "libmicrohttpd", NULL);
}

#else

#include <arpa/inet.h>
#include <math.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

enum { TOKEN = MW_NONCE_TEXT - 1, BODY_MAX = 1 << 16, NEW_TOKENS_MAX = 512, EDITS_MAX = 64 };
/* Connections: without the token, all together. */
enum { UNTRUSTED_MAX = 64, CONNECTIONS_MAX = 512 };
/* Time limits: for the header, then for the body; for the whole answer to a request without the token; between
 * requests, and without a byte. */
enum { HEADER_SECONDS = 5, BODY_SECONDS = 10, REFUSAL_SECONDS = 5, IDLE_SECONDS = 60 };

typedef struct request request;

/* The server's thread reads requests and sends answers. The main thread runs the model, which has one set of
 * buffers, in the order of the requests. */
typedef struct server {
    experiment_run *r;
    char token[TOKEN + 1];
    connections *all;
    pthread_mutex_t lock; /* of the queue */
    pthread_cond_t more;
    request *first, **last;
    bool ending; /* no more requests are queued */
} server;

/* ---- answers --------------------------------------------------------------------------------------------------- */

typedef struct answer {
    unsigned code;
    const char *type;
    mw_text body;
    bool page; /* the HTML page, which has its own policy for scripts */
    bool last; /* closes the connection */
} answer;

static enum MHD_Result send_answer(struct MHD_Connection *connection, answer *a) {
    struct MHD_Response *response = MHD_create_response_from_buffer(
        a->body.length, a->body.data ? a->body.data : (char[]){""}, MHD_RESPMEM_MUST_COPY);
    if (!response) return MHD_NO;
    MHD_add_response_header(response, "Content-Type", a->type);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Frame-Options", "DENY");
    MHD_add_response_header(response, "Content-Security-Policy",
                            a->page ? "frame-ancestors 'none'" : "default-src 'none'; frame-ancestors 'none'");
    if (a->last) MHD_add_response_header(response, "Connection", "close");
    enum MHD_Result result = MHD_queue_response(connection, a->code, response);
    MHD_destroy_response(response);
    mw_text_free(&a->body);
    return result;
}

static void refuse(answer *a, unsigned code, const char *why) {
    a->code = code;
    a->type = "application/json";
    a->page = false;
    a->body.length = 0;
    mw_text_addf(&a->body, "{\"error\": ");
    mw_json_quote(&a->body, why, strlen(why));
    mw_text_addf(&a->body, "}\n");
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

/* Sends the page, or a shard by its number: no other name becomes a path. */
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
    bool found = path && mw_file_exists(path) && mw_file_read(path, &data, &bytes) == MW_OK;
    mw_free(path);
    if (!found) {
        refuse(a, MHD_HTTP_NOT_FOUND, "no such page");
        return;
    }
    a->code = MHD_HTTP_OK;
    a->page = page;
    a->type = page ? "text/html; charset=utf-8" : "text/javascript; charset=utf-8";
    mw_text_add(&a->body, data, bytes);
    mw_free(data);
}

/* ---- generation -------------------------------------------------------------------------------------------------- */

static double number(const json_t *object, const char *key, double initial) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : value ? NAN : initial;
}

static bool whole(double value, double least, double most) {
    return value >= least && value <= most && value == floor(value);
}

/* Returns what is wrong with the request, or NULL. */
static const char *read_sampling(const json_t *request, mw_sampling *how) {
    double temperature = number(request, "temperature", 0), top_p = number(request, "top_p", 1),
           tokens = number(request, "max_new_tokens", 40), top_k = number(request, "top_k", 0),
           seed = number(request, "seed", 0);
    if (!whole(tokens, 1, NEW_TOKENS_MAX)) return "max_new_tokens: expected a whole number from 1 to 512";
    if (!(temperature >= 0 && temperature <= 100)) return "temperature: expected a number from 0 to 100";
    if (!(top_p > 0 && top_p <= 1)) return "top_p: expected a number above 0, at most 1";
    if (!whole(top_k, 0, 1 << 20)) return "top_k: expected a whole number from 0 to 1048576";
    if (!whole(seed, 0, 1e15)) return "seed: expected a whole number from 0 to 10^15";
    how->max_new_tokens = (int64_t)tokens;
    how->temperature = temperature;
    how->top_p = top_p;
    how->top_k = (int64_t)top_k;
    how->seed = (int64_t)seed;
    return NULL;
}

static const char *read_edits(const server *s, const json_t *request, edit_list *list) {
    const json_t *given = json_object_get(request, "edits");
    if (given && !json_is_array(given)) return "edits: expected a list";
    if (json_array_size(given) > EDITS_MAX) return "edits: expected at most 64";
    for (size_t i = 0; i < json_array_size(given); i++) {
        const json_t *one = json_array_get(given, i);
        double latent = number(one, "latent", -1), scale = number(one, "scale", 1), add = number(one, "add", 0);
        if (!whole(latent, 0, (double)(s->r->sae->n - 1)))
            return "edits: expected \"latent\", the number of one of the SAE's latents";
        if (!isfinite(scale) || !isfinite(add) || fabs(scale) > 1e6 || fabs(add) > 1e6)
            return "edits: expected numbers for scale and add";
        if (edit_list_put(list, (int64_t)latent, scale, add) != MW_OK) return "out of memory";
    }
    return NULL;
}

static mw_status write_both(const server *s, const prompt_set *set, const mw_sampling *how, const edit_list *list,
                            mw_text texts[2]) {
    mw_steering steering = {.sae = s->r->sae,
                            .edits = list->items,
                            .n_edits = list->count,
                            .keep_error = true,
                            .untouched = run_untouched_token(s->r)};
    mw_hooks *hooks = mw_model_hooks(s->r->model);
    MW_TRY(prompts_continue(s->r, set, how, &texts[0]));
    if (!list->count) return MW_OK;
    mw_status status = mw_steering_attach(&steering, hooks, NULL);
    if (status == MW_OK) status = prompts_continue(s->r, set, how, &texts[1]);
    mw_steering_detach(&steering, hooks);
    return status;
}

static void put_text(mw_text *body, const char *key, const mw_text *text) {
    mw_text_addf(body, "\"%s\": ", key);
    mw_json_quote(body, text->data, text->length);
}

static void write_answer(const server *s, const prompt_set *set, const mw_sampling *how, const edit_list *list,
                         answer *a) {
    mw_text texts[2] = {{0}, {0}};
    int64_t context = mw_model_about(s->r->model)->context;
    if (write_both(s, set, how, list, texts) != MW_OK) {
        refuse(a, MHD_HTTP_BAD_REQUEST, "the model cannot continue this prompt; the server's log has the reason");
    } else {
        a->code = MHD_HTTP_OK;
        a->type = "application/json";
        mw_text_addf(&a->body, "{");
        put_text(&a->body, "unchanged", &texts[0]);
        if (list->count) mw_text_addf(&a->body, ", ");
        if (list->count) put_text(&a->body, "steered", &texts[1]);
        if (set->length[0] + how->max_new_tokens > context)
            mw_text_addf(&a->body, ", \"note\": \"the model's context of %lld tokens has room for %lld new ones\"",
                         (long long)context, (long long)(context - set->length[0]));
        mw_text_addf(&a->body, "}\n");
    }
    mw_text_free(&texts[0]);
    mw_text_free(&texts[1]);
}

static void refuse_length(const prompt_set *set, int64_t context, answer *a) {
    char why[128];
    snprintf(why, sizeof why, "prompt: expected 1 to %lld tokens, since the model's context is %lld, found %lld",
             (long long)context - 1, (long long)context, (long long)set->length[0]);
    refuse(a, MHD_HTTP_BAD_REQUEST, why);
}

static void answer_prompt(const server *s, const char *prompt, const mw_sampling *how, const edit_list *list,
                          answer *a) {
    const mw_strings prompts = {(char *[]){(char *)(uintptr_t)prompt}, 1};
    int64_t context = mw_model_about(s->r->model)->context;
    prompt_set set = {0};
    if (prompts_encode(s->r, &prompts, 1, &set) != MW_OK)
        refuse(a, MHD_HTTP_BAD_REQUEST, "prompt: it cannot be tokenized; the server's log has the reason");
    else if (set.length[0] < 1 || set.length[0] >= context)
        refuse_length(&set, context, a);
    else
        write_answer(s, &set, how, list, a);
    prompts_free(&set);
}

/* Returns what is wrong with the prompt, or NULL. A NUL would end it early. */
static const char *read_prompt(const json_t *request, const char **prompt) {
    const json_t *value = json_object_get(request, "prompt");
    *prompt = json_string_value(value);
    if (!*prompt || !(*prompt)[0]) return "prompt: expected a text";
    return strlen(*prompt) == json_string_length(value) ? NULL : "prompt: expected a text without NUL";
}

static void answer_request(const server *s, const json_t *request, answer *a) {
    mw_sampling how = {0};
    mw_model_stop_at(s->r->model, s->r->tokenizer, &how);
    edit_list list = {0};
    const char *prompt, *why = read_prompt(request, &prompt);
    if (!why) why = read_sampling(request, &how);
    if (!why) why = read_edits(s, request, &list);
    if (why)
        refuse(a, MHD_HTTP_BAD_REQUEST, why);
    else
        answer_prompt(s, prompt, &how, &list, a);
    edit_list_free(&list);
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

/* ---- requests ---------------------------------------------------------------------------------------------------- */

struct request {
    request *next; /* in the queue */
    struct MHD_Connection *connection;
    mw_text body;
    answer answer;
    bool too_long, answered;
};

static bool same_token(const char *a, const char *b) {
    unsigned different = 0;
    for (int i = 0; i < TOKEN; i++) different |= (unsigned)(a[i] ^ b[i]); /* in constant time */
    return different == 0;
}

/* Returns the part of the address after "/TOKEN/"; NULL for another token, or none. */
static const char *path_after_token(const server *s, const char *url) {
    if (url[0] != '/' || strlen(url) < TOKEN + 2 || url[TOKEN + 1] != '/') return NULL;
    return same_token(url + 1, s->token) ? url + TOKEN + 2 : NULL;
}

static const char *header(struct MHD_Connection *connection, const char *name) {
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

/* Whether Host is this machine: a page of another site whose name resolves here sends its own name. Any port: it may
 * be forwarded. */
static bool is_local(struct MHD_Connection *connection) {
    const char *host = header(connection, "Host");
    size_t name = host ? strcspn(host, ":") : 0;
    bool known = host && ((name == 9 && (memcmp(host, "127.0.0.1", 9) == 0 || memcmp(host, "localhost", 9) == 0)));
    return known && (!host[name] || strspn(host + name + 1, "0123456789") == strlen(host + name + 1));
}

/* Whether Origin, which browsers send and programs need not, is this server. */
static bool is_from_here(struct MHD_Connection *connection) {
    const char *origin = header(connection, "Origin"), *host = header(connection, "Host");
    return !origin || (strncmp(origin, "http://", 7) == 0 && strcmp(origin + 7, host) == 0);
}

static connection *connection_of(struct MHD_Connection *connection) {
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

/* Queues a request for the model's thread and suspends its connection until the answer. False: the server is ending. */
static bool queue(server *s, request *got) {
    pthread_mutex_lock(&s->lock);
    bool open = !s->ending;
    if (open) {
        MHD_suspend_connection(got->connection);
        *s->last = got;
        s->last = &got->next;
        pthread_cond_signal(&s->more);
    }
    pthread_mutex_unlock(&s->lock);
    return open;
}

static void refuse_at_end(answer *a) {
    refuse(a, MHD_HTTP_SERVICE_UNAVAILABLE, "the server is shutting down");
}

/* Returns the next request; NULL: none came within `seconds`. */
static request *next_request(server *s, double seconds) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)(seconds * 1e9);
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&s->lock);
    if (!s->first) pthread_cond_timedwait(&s->more, &s->lock, &until);
    request *got = s->first;
    if (got) s->first = got->next;
    if (!s->first) s->last = &s->first;
    pthread_mutex_unlock(&s->lock);
    return got;
}

static void wake(request *got) {
    got->answered = true;
    MHD_resume_connection(got->connection);
}

/* Answers a request, or returns true if the model must answer it. */
static bool needs_model(server *s, const char *path, const char *method, request *got, answer *a) {
    bool get = strcmp(method, "GET") == 0, post = strcmp(method, "POST") == 0;
    if (got->too_long)
        refuse(a, MHD_HTTP_CONTENT_TOO_LARGE, "expected a request of at most 65536 bytes");
    else if (get)
        send_file(s, path, a);
    else if (post && !is_from_here(got->connection))
        refuse(a, MHD_HTTP_FORBIDDEN, "this request comes from a page of another origin");
    else if (post && strcmp(path, "generate") == 0)
        return true;
    else
        refuse(a, MHD_HTTP_METHOD_NOT_ALLOWED, "expected GET of the page, or POST to generate");
    return false;
}

/* Called when the header is complete: refuses and closes a connection without the token. */
static enum MHD_Result begin_request(server *s, struct MHD_Connection *connection, const char *path, void **state) {
    if (!path) {
        answer a = {.last = true};
        connection_allow(s->all, connection_of(connection), REFUSAL_SECONDS);
        refuse(&a, MHD_HTTP_FORBIDDEN, "expected the token of the address that microw serve printed");
        return send_answer(connection, &a);
    }
    connection_trust(s->all, connection_of(connection));
    connection_allow(s->all, connection_of(connection), BODY_SECONDS);
    request *got = *state = mw_calloc(1, sizeof *got);
    if (got) got->connection = connection;
    return got ? MHD_YES : MHD_NO;
}

/* Called with the header, with each piece of the body, at the end of the body, and again when a suspended connection
 * resumes. */
static enum MHD_Result handle(void *self, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *data, size_t *bytes, void **state) {
    (void)version;
    server *s = self;
    request *got = *state;
    const char *path = is_local(connection) ? path_after_token(s, url) : NULL;
    if (!got) return begin_request(s, connection, path, state);
    if (*bytes) {
        got->too_long = got->too_long || got->body.length + *bytes > BODY_MAX;
        if (!got->too_long) mw_text_add(&got->body, data, *bytes);
        *bytes = 0;
        return MHD_YES;
    }
    connection_allow(s->all, connection_of(connection), INFINITY);
    if (!got->answered && needs_model(s, path, method, got, &got->answer)) {
        if (queue(s, got)) return MHD_YES;
        refuse_at_end(&got->answer);
    }
    return send_answer(connection, &got->answer);
}

static void end_request(void *self, struct MHD_Connection *connection, void **state,
                        enum MHD_RequestTerminationCode how) {
    (void)how;
    server *s = self;
    request *got = *state;
    if (!got) return;
    connection_allow(s->all, connection_of(connection), IDLE_SECONDS);
    mw_text_free(&got->answer.body);
    mw_text_free(&got->body);
    mw_free(got);
    *state = NULL;
}

static void track_connection(void *self, struct MHD_Connection *connection, void **context,
                             enum MHD_ConnectionNotificationCode what) {
    server *s = self;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        *context = connection_enter(s->all, fd, HEADER_SECONDS);
        if (!*context) shutdown(fd, SHUT_RDWR);
    } else if (*context) {
        connection_leave(s->all, *context);
        *context = NULL;
    }
}

/* Leaves addresses as they are: no valid one has an escape, and %00 would end one early. */
static size_t leave_escaped(void *self, struct MHD_Connection *connection, char *text) {
    (void)self;
    (void)connection;
    return strlen(text);
}

/* ---- the server -------------------------------------------------------------------------------------------------- */

static struct MHD_Daemon *start(server *s, int64_t port) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return MHD_start_daemon(MHD_USE_AUTO_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, (uint16_t)port, NULL, NULL, handle,
                            s, MHD_OPTION_SOCK_ADDR, &here, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
                            MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS, MHD_OPTION_NOTIFY_COMPLETED,
                            end_request, s, MHD_OPTION_NOTIFY_CONNECTION, track_connection, s,
                            MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, s, MHD_OPTION_END);
}

/* Answers requests until a signal comes. */
static void answer_all(server *s) {
    while (!mw_signal_seen()) {
        request *got = next_request(s, 0.1);
        if (!got) continue;
        generate(s, &got->body, &got->answer);
        wake(got);
    }
}

static void refuse_rest(server *s) {
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_mutex_unlock(&s->lock);
    for (request *got; (got = next_request(s, 0));) {
        refuse_at_end(&got->answer);
        wake(got);
    }
}

static mw_status listen_and_wait(server *s, int64_t port) {
    struct MHD_Daemon *daemon = start(s, port);
    if (!daemon) return mw_error(MW_ERR_IO, "cannot listen on port %lld of this machine", (long long)port);
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT);
    printf("serve: http://127.0.0.1:%u/%s/ until it is interrupted\n", info ? info->port : (unsigned)port, s->token);
    fflush(stdout);
    answer_all(s);
    refuse_rest(s);
    MHD_stop_daemon(daemon);
    return MW_OK;
}

static mw_status open_all(experiment_run *r) {
    MW_TRY(run_sae(r));
    MW_TRY(run_model(r));
    MW_TRY(run_tokenizer(r));
    return stage_report(r);
}

mw_status mw_experiment_serve(const mw_experiment *experiment, const mw_comm *comm, int64_t port) {
    experiment_run r;
    if (mw_comm_size(comm) > 1)
        return mw_error(MW_ERR_CONFIG, "microw serve runs on one rank, not %d", mw_comm_size(comm));
    if (port < 0 || port > 65535) return mw_error(MW_ERR_CONFIG, "--port: expected 0 to 65535");
    MW_TRY(run_open(experiment, comm, NULL, &r));
    server s = {.r = &r, .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};
    s.last = &s.first;
    mw_status status = open_all(&r);
    if (status == MW_OK) status = mw_nonce(s.token);
    if (status == MW_OK) status = connections_open(UNTRUSTED_MAX, &s.all);
    if (status == MW_OK) status = listen_and_wait(&s, port);
    connections_close(&s.all);
    run_close(&r);
    return status;
}

void mw_experiment_libraries(mw_library_callback *report, void *self) {
    report(self, "libmicrohttpd", MHD_get_version());
}

#endif
