/* Writes out the classes of a pattern as ranges of code points.
 *
 * Oniguruma's own classes depend on the Unicode version of the library; the reference library was built with
 * version 16. \p{L}, \w, \d, \b and [:alpha:] therefore become explicit sets; everything else is copied. */
#include "model/tokenizer/pattern.h"
#include "model/tokenizer/unicode.h"

#include <string.h>
#include <strings.h>

/* A set of code points: those with one of the categories, one of the facts, or another property. */
typedef struct code_set {
    uint32_t categories, facts;
    int script; /* index + 1; 0: none */
    bool spaces, tab, latin1_word, ascii, hex, visible, everything;
} code_set;

static bool is_in(const code_set *s, uint32_t c) {
    uint32_t facts = unicode_facts(c), category = 1u << unicode_category_of(facts);
    uint32_t unseen = 1u << UNICODE_CC | 1u << UNICODE_CN | 1u << UNICODE_CS;
    return s->everything || (category & s->categories) || (facts & s->facts) || (s->ascii && c < 0x80) ||
           (s->tab && c == '\t') || (s->spaces && unicode_is_space(c)) ||
           (s->visible && !unicode_is_space(c) && !(category & unseen)) ||
           (s->hex && ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))) ||
           (s->latin1_word && (c == 0xb2 || c == 0xb3 || c == 0xb9 || (c >= 0xbc && c <= 0xbe))) ||
           (s->script && unicode_script(c) == s->script - 1);
}

static const struct {
    const char *name, *alias;
    uint32_t categories;
} groups[] = {
    {"l", "letter", UNICODE_LETTERS},
    {"m", "mark", UNICODE_MARKS},
    {"n", "number", UNICODE_NUMBERS},
    {"p", "punctuation", UNICODE_PUNCTUATION},
    {"s", "symbol", UNICODE_SYMBOLS},
    {"z", "separator", UNICODE_SEPARATORS},
    {"c", "other", UNICODE_OTHERS},
    {"lc", "casedletter", UNICODE_IN(UNICODE_LU, UNICODE_LT)},
    {"lu", "uppercaseletter", 1u << UNICODE_LU},
    {"ll", "lowercaseletter", 1u << UNICODE_LL},
    {"lt", "titlecaseletter", 1u << UNICODE_LT},
    {"lm", "modifierletter", 1u << UNICODE_LM},
    {"lo", "otherletter", 1u << UNICODE_LO},
    {"mn", "nonspacingmark", 1u << UNICODE_MN},
    {"mc", "spacingmark", 1u << UNICODE_MC},
    {"me", "enclosingmark", 1u << UNICODE_ME},
    {"nd", "decimalnumber", 1u << UNICODE_ND},
    {"nl", "letternumber", 1u << UNICODE_NL},
    {"no", "othernumber", 1u << UNICODE_NO},
    {"pc", "connectorpunctuation", 1u << UNICODE_PC},
    {"pd", "dashpunctuation", 1u << UNICODE_PD},
    {"ps", "openpunctuation", 1u << UNICODE_PS},
    {"pe", "closepunctuation", 1u << UNICODE_PE},
    {"pi", "initialpunctuation", 1u << UNICODE_PI},
    {"pf", "finalpunctuation", 1u << UNICODE_PF},
    {"po", "otherpunctuation", 1u << UNICODE_PO},
    {"sm", "mathsymbol", 1u << UNICODE_SM},
    {"sc", "currencysymbol", 1u << UNICODE_SC},
    {"sk", "modifiersymbol", 1u << UNICODE_SK},
    {"so", "othersymbol", 1u << UNICODE_SO},
    {"zs", "spaceseparator", 1u << UNICODE_ZS},
    {"zl", "lineseparator", 1u << UNICODE_ZL},
    {"zp", "paragraphseparator", 1u << UNICODE_ZP},
    {"cc", "control", 1u << UNICODE_CC},
    {"cf", "format", 1u << UNICODE_CF},
    {"cn", "unassigned", 1u << UNICODE_CN},
    {"co", "privateuse", 1u << UNICODE_CO},
};

static const struct {
    const char *name;
    code_set set;
} posix_sets[] = {
    {"alpha", {.facts = FACT_ALPHA}},
    {"alphabetic", {.facts = FACT_ALPHA}},
    {"lower", {.facts = FACT_LOWER}},
    {"lowercase", {.facts = FACT_LOWER}},
    {"upper", {.facts = FACT_UPPER}},
    {"uppercase", {.facts = FACT_UPPER}},
    {"alnum", {.facts = FACT_ALPHA, .categories = 1u << UNICODE_ND}},
    {"word", {.facts = FACT_WORD}},
    {"digit", {.categories = 1u << UNICODE_ND}},
    {"punct", {.categories = UNICODE_PUNCTUATION | UNICODE_SYMBOLS}},
    {"cntrl", {.categories = 1u << UNICODE_CC}},
    {"space", {.spaces = true}},
    {"whitespace", {.spaces = true}},
    {"blank", {.categories = 1u << UNICODE_ZS, .tab = true}},
    {"graph", {.visible = true}},
    {"print", {.visible = true, .categories = 1u << UNICODE_ZS}},
    {"xdigit", {.hex = true}},
    {"ascii", {.ascii = true}},
    {"any", {.everything = true}},
};

static bool posix_set(const char *name, code_set *out) {
    for (size_t i = 0; i < sizeof posix_sets / sizeof *posix_sets; i++)
        if (strcmp(name, posix_sets[i].name) == 0) return *out = posix_sets[i].set, true;
    return false;
}

enum { NAME_MAX_LENGTH = 40 };

/* Copies a name without spaces, '-' and '_', in lower case; false: too long, or with other characters. */
static bool plain_name(const char *from, size_t length, char out[NAME_MAX_LENGTH]) {
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        if (strchr(" -_", from[i])) continue;
        if (n + 1 >= NAME_MAX_LENGTH || (unsigned char)from[i] >= 0x80) return false;
        out[n++] = (char)(from[i] >= 'A' && from[i] <= 'Z' ? from[i] + 32 : from[i]);
    }
    out[n] = '\0';
    return true;
}

static bool property_set(const char *from, size_t length, code_set *out) {
    char name[NAME_MAX_LENGTH], script[NAME_MAX_LENGTH];
    if (!plain_name(from, length, name)) return false;
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (strcmp(name, groups[i].name) == 0 || strcmp(name, groups[i].alias) == 0)
            return *out = (code_set){.categories = groups[i].categories}, true;
    if (strcmp(name, "punct") == 0) return *out = (code_set){.categories = UNICODE_PUNCTUATION}, true;
    if (posix_set(strcmp(name, "posixpunct") == 0 ? "punct" : name, out)) return true;
    for (int i = 0; i < unicode_script_count; i++)
        if (plain_name(unicode_scripts[i], strlen(unicode_scripts[i]), script) && strcmp(name, script) == 0)
            return *out = (code_set){.script = i + 1}, true;
    return false;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

enum { MOST_GROUPS = 64 };

typedef struct writer {
    const char *where, *pattern, *at;
    mw_text *out;
    int depth;                        /* of brackets */
    int groups;                       /* of parentheses */
    bool caseless;                    /* inside of (?i) */
    bool outer_caseless[MOST_GROUPS]; /* `caseless` outside of each open group */
} writer;

/* Returns whether a set has the lower case of each of its members, and the reverse. */
static bool is_caseless(const code_set *set) {
    for (int i = 0; i < unicode_lower_case_count; i++) {
        const unicode_case *r = &unicode_lower_case[i];
        for (uint32_t c = r->first; c <= r->last; c += (uint32_t)r->step) {
            uint32_t lower = (uint32_t)((int64_t)c + r->difference);
            bool assigned = unicode_category_of(unicode_facts(c)) != UNICODE_CN &&
                            unicode_category_of(unicode_facts(lower)) != UNICODE_CN;
            if (assigned && is_in(set, c) != is_in(set, lower)) return false;
        }
    }
    return true;
}

/* Returns the first code point behind `c` at which a set may begin or end. */
static uint32_t next_change(uint32_t c, int *run, int *script_run) {
    enum { LAST_SPACE = 0x3000 };
    if (c <= LAST_SPACE) return c + 1;
    while (*run < unicode_run_count && unicode_runs[*run] >> 11 <= c) ++*run;
    while (*script_run < unicode_script_run_count && unicode_script_runs[*script_run] >> 8 <= c) ++*script_run;
    uint32_t a = *run < unicode_run_count ? unicode_runs[*run] >> 11 : 0x110000;
    uint32_t b = *script_run < unicode_script_run_count ? unicode_script_runs[*script_run] >> 8 : 0x110000;
    return a < b ? a : b;
}

/* Appends a range without the surrogates, which Oniguruma does not accept. */
static void write_range(mw_text *out, uint32_t first, uint32_t last, bool *any) {
    if (first >= 0xd800 && first < 0xe000) first = 0xe000;
    if (last >= 0xd800 && last < 0xe000) last = 0xd7ff;
    if (first > last) return;
    mw_text_addf(out, "\\x{%x}-\\x{%x}", first, last);
    *any = true;
}

/* Appends [ranges]; (?-i: keeps a class outside of brackets from matching other cases, as \p{Lu} does not. */
static mw_status write_set(writer *w, const code_set *set, bool negated) {
    if (w->depth && w->caseless && !is_caseless(set))
        return mw_error(MW_ERR_UNSUPPORTED,
                        "%s: pattern '%s': a class of upper or lower case inside of brackets is not supported together "
                        "with (?i)",
                        w->where, w->pattern);
    mw_text_addf(w->out, "%s[%s", w->depth ? "" : "(?-i:", negated ? "^" : "");
    int run = 0, script_run = 0;
    bool any = false;
    for (uint32_t c = 0, next; c < 0x110000; c = next) {
        next = next_change(c, &run, &script_run);
        if (!is_in(set, c)) continue;
        uint32_t first = c;
        while (next < 0x110000 && is_in(set, next)) next = next_change(next, &run, &script_run);
        write_range(w->out, first, next - 1, &any);
    }
    if (!any) mw_text_addf(w->out, "a&&b"); /* no code point */
    mw_text_addf(w->out, w->depth ? "]" : "])");
    return MW_OK;
}

static mw_status unknown_property(const writer *w, const char *name, size_t length) {
    return mw_error(MW_ERR_UNSUPPORTED, "%s: pattern '%s': property '%.*s' is not supported", w->where, w->pattern,
                    (int)length, name);
}

/* \p{Name}, \p{^Name}, \P{Name} */
static mw_status write_property(writer *w, bool negated) {
    const char *name = w->at + 3, *end = w->at[2] == '{' ? strchr(name, '}') : NULL;
    if (!end) return unknown_property(w, w->at, strlen(w->at) < 16 ? strlen(w->at) : 16);
    if (*name == '^') {
        negated = !negated;
        name++;
    }
    code_set set;
    if (!property_set(name, (size_t)(end - name), &set)) return unknown_property(w, name, (size_t)(end - name));
    set.latin1_word = set.facts == FACT_WORD && w->depth == 0;
    w->at = end + 1;
    return write_set(w, &set, negated);
}

static const code_set word_set = {.facts = FACT_WORD, .latin1_word = true}, bracket_word_set = {.facts = FACT_WORD},
                      digit_set = {.categories = 1u << UNICODE_ND}, space_set = {.spaces = true};

/* \b and \B: between a word character and another, or not. */
static mw_status write_boundary(writer *w, bool inside) {
    static const char *const parts[2][5] = {{"(?:(?<=", ")(?!", ")|(?<!", ")(?=", "))"},
                                            {"(?:(?<=", ")(?=", ")|(?<!", ")(?!", "))"}};
    for (int i = 0; i < 5; i++) {
        mw_text_addf(w->out, "%s", parts[inside][i]);
        if (i < 4) MW_TRY(write_set(w, &word_set, false));
    }
    return MW_OK;
}

static mw_status write_escape(writer *w) {
    char c = w->at[1];
    if (c == 'p' || c == 'P') return write_property(w, c == 'P');
    if (w->depth == 0 && c && strchr("RXyY", c)) return unknown_property(w, w->at, 2);
    w->at += c ? 2 : 1;
    if (c == 'w' || c == 'W') return write_set(w, w->depth ? &bracket_word_set : &word_set, c == 'W');
    if (c == 'd' || c == 'D') return write_set(w, &digit_set, c == 'D');
    if (c == 's' || c == 'S') return write_set(w, &space_set, c == 'S');
    if (w->depth == 0 && (c == 'b' || c == 'B')) return write_boundary(w, c == 'B');
    mw_text_add(w->out, c ? w->at - 2 : w->at - 1, c ? 2 : 1);
    return MW_OK;
}

/* Reads [:name:] inside of brackets; false: it is something else. */
static bool read_posix(writer *w, code_set *set, bool *negated) {
    const char *name = w->at + 2, *end = strstr(name, ":]");
    char plain[NAME_MAX_LENGTH];
    if ((*negated = *name == '^')) name++;
    if (!end || end - name >= NAME_MAX_LENGTH) return false;
    memcpy(plain, name, (size_t)(end - name));
    plain[end - name] = '\0';
    if (!posix_set(plain, set)) return false;
    w->at = end + 2;
    return true;
}

/* Copies "[" or "[^", and a "]" directly behind it, which is a literal. */
static void open_bracket(writer *w) {
    size_t n = w->at[1] == '^' ? 2 : 1;
    mw_text_add(w->out, w->at, n);
    w->at += n;
    w->depth++;
    if (*w->at == ']' && strchr(w->at + 1, ']')) {
        mw_text_addf(w->out, "\\]");
        w->at++;
    }
}

/* Reads the options behind "(?", such as in (?i:...) and (?m-i); returns the character behind them. */
static char read_options(const char *at, bool *caseless) {
    bool on = true;
    for (; (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || *at == '-'; at++) {
        if (*at == '-') on = false;
        if (*at == 'i') *caseless = on;
    }
    return *at;
}

/* Copies a parenthesis and notes where case is ignored: in a group (?i:...), and behind (?i) to the end of a group. */
static mw_status write_parenthesis(writer *w) {
    bool inner = w->caseless;
    char end = w->at[0] == '(' && w->at[1] == '?' ? read_options(w->at + 2, &inner) : 0;
    if (*w->at == ')') {
        if (w->groups > 0) w->caseless = w->outer_caseless[--w->groups];
    } else {
        if (w->groups == MOST_GROUPS)
            return mw_error(MW_ERR_UNSUPPORTED, "%s: pattern '%s': groups deeper than %d are not supported", w->where,
                            w->pattern, MOST_GROUPS);
        w->outer_caseless[w->groups++] = end == ')' ? inner : w->caseless;
        if (end == ':' || end == ')') w->caseless = inner;
    }
    mw_text_add(w->out, w->at++, 1);
    return MW_OK;
}

mw_status pattern_write_classes(const char *where, const char *text, mw_text *out) {
    writer w = {.where = where, .pattern = text, .at = text, .out = out};
    while (*w.at) {
        code_set set;
        bool negated;
        if (*w.at == '\\') {
            MW_TRY(write_escape(&w));
        } else if (w.depth && w.at[0] == '[' && w.at[1] == ':' && read_posix(&w, &set, &negated)) {
            MW_TRY(write_set(&w, &set, negated));
        } else if (*w.at == '[') {
            open_bracket(&w);
        } else if (w.depth == 0 && (*w.at == '(' || *w.at == ')')) {
            MW_TRY(write_parenthesis(&w));
        } else {
            if (*w.at == ']' && w.depth) w.depth--;
            mw_text_add(out, w.at++, 1);
        }
    }
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}
