/* Reads pickles of protocol 2 as data (codes: pickletools.py of CPython; those that torch.load(weights_only=True)
 * accepts and torch.save writes). */
#include "model/torch/pickle.h"

#include <string.h>

enum { PICKLE_BYTES_MAX = 16 << 20 };

typedef struct int_list {
    int64_t *at;
    int64_t count, capacity;
} int_list;

typedef struct reader {
    const char *what;
    const uint8_t *bytes;
    size_t length, at;
    size_t begin; /* of the code that is read */
    const pickle_global *known;
    pickle *out;
    int_list stack, marks; /* places of values; heights of the stack */
    int_list memo;         /* by key: place of a value, or -1 */
} reader;

static mw_status damaged(const reader *r, const char *why) {
    return mw_error(MW_ERR_FORMAT, "%s: byte %zu of the pickle: %s", r->what, r->begin, why);
}

/* ---- bytes ----------------------------------------------------------------------------------------------- */

static mw_status take(reader *r, size_t count, const uint8_t **out) {
    if (count > r->length - r->at) return damaged(r, "truncated");
    *out = r->bytes + r->at;
    r->at += count;
    return MW_OK;
}

/* Reads a whole number of `count` bytes, little endian; of 4 or 8 bytes with a sign. */
static mw_status take_int(reader *r, size_t count, int64_t *out) {
    const uint8_t *bytes = NULL;
    MW_TRY(take(r, count, &bytes));
    uint64_t value = 0;
    for (size_t i = 0; i < count; i++) value |= (uint64_t)bytes[i] << 8 * i;
    *out = count == 4 ? (int32_t)(uint32_t)value : (int64_t)value;
    return MW_OK;
}

/* A length, or a key of the memo, of 1 or 4 bytes. */
static mw_status take_size(reader *r, size_t count, size_t *out) {
    int64_t value = 0;
    MW_TRY(take_int(r, count, &value));
    *out = count == 4 ? (size_t)(uint32_t)value : (size_t)value;
    return MW_OK;
}

static mw_status take_line(reader *r) {
    const uint8_t *end = memchr(r->bytes + r->at, '\n', r->length - r->at);
    if (!end) return damaged(r, "truncated");
    r->at = (size_t)(end - r->bytes) + 1;
    return MW_OK;
}

/* ---- values ---------------------------------------------------------------------------------------------- */

static mw_status append(int_list *list, int64_t value) {
    if (!MW_GROW(list->at, list->count, list->capacity)) return MW_ERR_MEMORY;
    list->at[list->count++] = value;
    return MW_OK;
}

static mw_status push(reader *r, pickle_value v) {
    pickle *p = r->out;
    if (!MW_GROW(p->values, p->n_values, p->values_capacity)) return MW_ERR_MEMORY;
    v.first = v.last = -1;
    p->values[p->n_values] = v;
    return append(&r->stack, p->n_values++);
}

/* The values above the last mark belong to the code that pops it. */
static int64_t height(const reader *r) {
    return r->stack.count - (r->marks.count ? r->marks.at[r->marks.count - 1] : 0);
}

static mw_status need(const reader *r, int64_t values) {
    return height(r) < values ? damaged(r, "the stack is empty") : MW_OK;
}

static int64_t top(const reader *r, int64_t below) {
    return r->stack.at[r->stack.count - 1 - below];
}

static mw_status add_item(reader *r, int64_t container, int64_t item) {
    pickle *p = r->out;
    if (!MW_GROW(p->links, p->n_links, p->links_capacity)) return MW_ERR_MEMORY;
    pickle_value *v = &p->values[container];
    p->links[p->n_links] = (pickle_link){item, -1};
    if (v->last >= 0)
        p->links[v->last].next = p->n_links;
    else
        v->first = p->n_links;
    v->last = p->n_links++;
    v->count++;
    return MW_OK;
}

/* Moves the `count` values at the top of the stack into `container`. */
static mw_status move_items(reader *r, int64_t container, int64_t count) {
    for (int64_t i = count; i > 0; i--) MW_TRY(add_item(r, container, top(r, i - 1)));
    r->stack.count -= count;
    return MW_OK;
}

/* Replaces the `count` values at the top of the stack by one that holds them. */
static mw_status wrap(reader *r, pickle_kind kind, int64_t count) {
    MW_TRY(need(r, count));
    MW_TRY(push(r, (pickle_value){.kind = kind}));
    int64_t container = top(r, 0);
    r->stack.count--;
    MW_TRY(move_items(r, container, count));
    return append(&r->stack, container);
}

static mw_status pop_mark(reader *r, int64_t *count) {
    if (r->marks.count == 0) return damaged(r, "no mark");
    *count = height(r);
    r->marks.count--;
    return MW_OK;
}

static mw_status wrap_marked(reader *r, pickle_kind kind) {
    int64_t count = 0;
    MW_TRY(pop_mark(r, &count));
    return wrap(r, kind, count);
}

/* Adds the `count` values at the top to the container below them. */
static mw_status extend(reader *r, pickle_kind kind, int64_t count) {
    MW_TRY(need(r, count + 1));
    int64_t container = top(r, count);
    if (r->out->values[container].kind != kind || (kind == PICKLE_DICT && count % 2))
        return damaged(r, kind == PICKLE_DICT ? "pairs for what is no dict" : "items for what is no list");
    return move_items(r, container, count);
}

static mw_status extend_marked(reader *r, pickle_kind kind) {
    int64_t count = 0;
    MW_TRY(pop_mark(r, &count));
    return extend(r, kind, count);
}

static mw_status push_text(reader *r, size_t size_bytes) {
    size_t length = 0;
    const uint8_t *text = NULL;
    MW_TRY(take_size(r, size_bytes, &length));
    MW_TRY(take(r, length, &text));
    return push(r, (pickle_value){.kind = PICKLE_TEXT, .text = (const char *)text, .length = length});
}

static mw_status push_int(reader *r, size_t bytes) {
    pickle_value v = {.kind = PICKLE_INT};
    MW_TRY(take_int(r, bytes, &v.number));
    return push(r, v);
}

/* LONG1: a whole number of up to 255 bytes. Sizes and offsets have 8 at most. */
static mw_status push_long(reader *r) {
    size_t count = 0;
    MW_TRY(take_size(r, 1, &count));
    if (count > 8) return damaged(r, "a number of more than 64 bits");
    int64_t value = 0;
    const uint8_t *bytes = NULL;
    MW_TRY(take(r, count, &bytes));
    if (count && bytes[count - 1] & 0x80) value = -1;
    for (size_t i = count; i-- > 0;) value = (int64_t)((uint64_t)value << 8 | bytes[i]);
    return push(r, (pickle_value){.kind = PICKLE_INT, .number = value});
}

static mw_status push_real(reader *r) {
    const uint8_t *unused = NULL;
    MW_TRY(take(r, 8, &unused));
    return push(r, (pickle_value){.kind = PICKLE_REAL});
}

/* Names a global in a message, at most its first hundred characters. */
static mw_status refuse_global(const reader *r, const char *name, size_t length) {
    mw_text shown = {0};
    size_t module = strcspn(name, "\n");
    mw_text_add_visible(&shown, name, module < 100 ? module : 100);
    mw_text_add_visible(&shown, ".", 1);
    mw_text_add_visible(&shown, name + module + 1, length - module - 2 < 100 ? length - module - 2 : 100);
    mw_status status =
        mw_error(MW_ERR_UNSUPPORTED, "%s: the pickle uses %s: expected tensors of torch and nothing else", r->what,
                 shown.failed ? "an unknown name" : shown.data);
    mw_text_free(&shown);
    return status;
}

static mw_status push_global(reader *r) {
    const char *name = (const char *)r->bytes + r->at;
    size_t begin = r->at;
    MW_TRY(take_line(r));
    MW_TRY(take_line(r));
    for (int64_t i = 0; r->known[i]; i++)
        if (strlen(r->known[i]) == r->at - begin && memcmp(r->known[i], name, r->at - begin) == 0)
            return push(r, (pickle_value){.kind = PICKLE_GLOBAL, .number = i});
    return refuse_global(r, name, r->at - begin);
}

/* A call of OrderedDict without arguments is an empty dict. */
static mw_status reduce(reader *r) {
    MW_TRY(need(r, 2));
    const pickle_value *function = &r->out->values[top(r, 1)], *arguments = &r->out->values[top(r, 0)];
    if (function->kind != PICKLE_GLOBAL || arguments->kind != PICKLE_TUPLE)
        return damaged(r, "a call of what is no function");
    if (function->number != 0) return wrap(r, PICKLE_CALL, 2);
    if (arguments->count) return damaged(r, "an OrderedDict with arguments");
    r->stack.count -= 2;
    return push(r, (pickle_value){.kind = PICKLE_DICT});
}

/* Attributes of an OrderedDict: torch keeps versions of modules there. */
static mw_status build(reader *r) {
    MW_TRY(need(r, 2));
    if (r->out->values[top(r, 1)].kind != PICKLE_DICT) return damaged(r, "attributes of what is no dict");
    r->stack.count--;
    return MW_OK;
}

static mw_status memo_put(reader *r, size_t key_bytes) {
    size_t key = 0;
    MW_TRY(take_size(r, key_bytes, &key));
    MW_TRY(need(r, 1));
    if (key > r->length) return damaged(r, "a key of the memo beyond the pickle's length");
    while (r->memo.count <= (int64_t)key) MW_TRY(append(&r->memo, -1));
    r->memo.at[key] = top(r, 0);
    return MW_OK;
}

static mw_status memo_get(reader *r, size_t key_bytes) {
    size_t key = 0;
    MW_TRY(take_size(r, key_bytes, &key));
    if (key >= (size_t)r->memo.count || r->memo.at[key] < 0) return damaged(r, "a key that is not in the memo");
    return append(&r->stack, r->memo.at[key]);
}

static mw_status check_protocol(reader *r) {
    int64_t protocol = 0;
    MW_TRY(take_int(r, 1, &protocol));
    return protocol == 2 ? MW_OK
                         : mw_error(MW_ERR_UNSUPPORTED, "%s: pickle protocol %lld: expected 2, which torch.save uses",
                                    r->what, (long long)protocol);
}

static mw_status unknown_code(const reader *r) {
    return mw_error(MW_ERR_UNSUPPORTED, "%s: byte %zu of the pickle: code 0x%02x is not one that torch.save writes",
                    r->what, r->begin, r->bytes[r->begin]);
}

static mw_status run(reader *r, uint8_t code) {
    switch (code) {
    case 0x80:
        return check_protocol(r);
    case '(':
        return append(&r->marks, r->stack.count);
    case 'N':
        return push(r, (pickle_value){.kind = PICKLE_NONE});
    case 0x88:
    case 0x89:
        return push(r, (pickle_value){.kind = PICKLE_BOOL, .number = code == 0x88});
    case 'K':
        return push_int(r, 1);
    case 'M':
        return push_int(r, 2);
    case 'J':
        return push_int(r, 4);
    case 0x8a:
        return push_long(r);
    case 'G':
        return push_real(r);
    case 'X':
    case 'T':
        return push_text(r, 4);
    case 'U':
        return push_text(r, 1);
    case ')':
        return push(r, (pickle_value){.kind = PICKLE_TUPLE});
    case ']':
        return push(r, (pickle_value){.kind = PICKLE_LIST});
    case '}':
        return push(r, (pickle_value){.kind = PICKLE_DICT});
    case 't':
        return wrap_marked(r, PICKLE_TUPLE);
    case 0x85:
    case 0x86:
    case 0x87:
        return wrap(r, PICKLE_TUPLE, code - 0x84);
    case 'a':
        return extend(r, PICKLE_LIST, 1);
    case 'e':
        return extend_marked(r, PICKLE_LIST);
    case 's':
        return extend(r, PICKLE_DICT, 2);
    case 'u':
        return extend_marked(r, PICKLE_DICT);
    case 'c':
        return push_global(r);
    case 'R':
        return reduce(r);
    case 'b':
        return build(r);
    case 'Q':
        return wrap(r, PICKLE_PERSISTENT, 1);
    case 'q':
        return memo_put(r, 1);
    case 'r':
        return memo_put(r, 4);
    case 'h':
        return memo_get(r, 1);
    case 'j':
        return memo_get(r, 4);
    default:
        return unknown_code(r);
    }
}

static mw_status run_all(reader *r) {
    for (;;) {
        const uint8_t *code = NULL;
        r->begin = r->at;
        MW_TRY(take(r, 1, &code));
        if (*code == '.') break;
        MW_TRY(run(r, *code));
    }
    if (r->marks.count || r->stack.count != 1) return damaged(r, "the end comes before all values are in use");
    r->out->root = r->stack.at[0];
    return MW_OK;
}

mw_status pickle_read(const char *what, const uint8_t *bytes, size_t length, const pickle_global *known, pickle *out,
                      size_t *used) {
    reader r = {.what = what,
                .bytes = bytes,
                .length = length < PICKLE_BYTES_MAX ? length : PICKLE_BYTES_MAX,
                .known = known,
                .out = out};
    *out = (pickle){0};
    mw_status status = run_all(&r);
    *used = r.at;
    mw_free(r.stack.at);
    mw_free(r.marks.at);
    mw_free(r.memo.at);
    return status;
}

void pickle_free(pickle *p) {
    mw_free(p->values);
    mw_free(p->links);
    *p = (pickle){0};
}

/* ---- use ------------------------------------------------------------------------------------------------- */

const pickle_value *pickle_item(const pickle *p, const pickle_value *v, int64_t i) {
    if (!v || i < 0 || i >= v->count) return NULL;
    int64_t link = v->first;
    for (; i > 0; i--) link = p->links[link].next;
    return &p->values[p->links[link].value];
}

bool pickle_is_text(const pickle_value *v, const char *text) {
    return v && v->kind == PICKLE_TEXT && strlen(text) == v->length && memcmp(text, v->text, v->length) == 0;
}
