/* UTF-8: validation, repair, and text as a terminal shows it. */
#include "microw/base.h"

size_t mw_utf8_length(const char *bytes, size_t left) {
    const unsigned char *p = (const unsigned char *)bytes;
    if (left == 0) return 0;
    if (p[0] < 0x80) return 1;
    size_t n = p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;
    if (n == 0 || n > left) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool outside = (p[0] == 0xed && p[1] >= 0xa0) || (p[0] == 0xf4 && p[1] >= 0x90);
    return overlong || outside ? 0 : n;
}

bool mw_utf8_valid(const char *bytes, size_t length) {
    for (size_t i = 0; i < length;) {
        size_t n = mw_utf8_length(bytes + i, length - i);
        if (n == 0) return false;
        i += n;
    }
    return true;
}

/* Length of the invalid sequence at `p` that one U+FFFD replaces: the longest prefix that could begin a character
 * (Unicode 15, section 3.9, "maximal subpart"; as Python and Rust). */
static size_t invalid_length(const unsigned char *p, size_t left) {
    size_t want = p[0] >= 0xc2 && p[0] < 0xe0   ? 2
                  : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
                  : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                                : 1;
    size_t n = 1;
    while (n < want && n < left && (p[n] & 0xc0) == 0x80) {
        bool bad = n == 1 && ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90) ||
                              (p[0] == 0xed && p[1] >= 0xa0) || (p[0] == 0xf4 && p[1] >= 0x90));
        if (bad) break;
        n++;
    }
    return n;
}

void mw_utf8_repair(mw_text *out, const char *bytes, size_t length) {
    size_t good = 0;
    for (size_t i = 0; i < length;) {
        size_t n = mw_utf8_length(bytes + i, length - i);
        if (n) {
            i += n;
            continue;
        }
        mw_text_add(out, bytes + good, i - good);
        mw_text_add(out, "\xef\xbf\xbd", 3);
        i += invalid_length((const unsigned char *)bytes + i, length - i);
        good = i;
    }
    mw_text_add(out, bytes + good, length - good);
}

void mw_utf8_show(mw_text *out, const char *bytes, size_t length) {
    size_t good = 0;
    for (size_t i = 0; i < length;) {
        size_t n = mw_utf8_length(bytes + i, length - i);
        i += n ? n : 1;
        if (n) continue;
        mw_text_add(out, bytes + good, i - 1 - good);
        mw_text_addf(out, "<0x%02X>", (unsigned char)bytes[i - 1]);
        good = i;
    }
    mw_text_add(out, bytes + good, length - good);
}

void mw_text_add_visible(mw_text *out, const char *bytes, size_t length) {
    for (size_t i = 0; i < length;) {
        size_t n = mw_utf8_length(bytes + i, length - i);
        unsigned char c = (unsigned char)bytes[i];
        if (n == 0)
            mw_utf8_show(out, bytes + i, 1);
        else if (c == '\n' || c == '\t' || c == '\r')
            mw_text_addf(out, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
        else if (c < 0x20 || c == 0x7f)
            mw_text_addf(out, "\\x%02x", c);
        else
            mw_text_add(out, bytes + i, n);
        i += n ? n : 1;
    }
}

void mw_utf8_show_cut(mw_text *out, const char *bytes, size_t length, size_t most) {
    size_t cut = 0;
    if (length <= most) {
        mw_utf8_show(out, bytes, length);
        return;
    }
    for (size_t n; cut < most; cut += n) {
        n = mw_utf8_length(bytes + cut, length - cut);
        if (n == 0) n = 1;
        if (cut + n > most) break;
    }
    mw_utf8_show(out, bytes, cut);
    mw_text_addf(out, "\u2026");
}

static uint32_t code_at(const char *bytes, size_t n) {
    const unsigned char *p = (const unsigned char *)bytes;
    uint32_t code = n == 1 ? p[0] : p[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) code = code << 6 | (p[i] & 63);
    return code;
}

/* Columns of a character by blocks of Unicode 15: 2 for wide ones (East Asian Width W and F, emoji), 0 for combining
 * ones and controls. Whole blocks are exact enough for a line of a terminal. */
static int columns_of(uint32_t code) {
    static const struct {
        uint32_t first, last;
        int columns;
    } blocks[] = {
        {0, 0x1f, 0},          {0x7f, 0x9f, 0},       {0x300, 0x36f, 0},     {0x1100, 0x115f, 2},
        {0x1ab0, 0x1aff, 0},   {0x1dc0, 0x1dff, 0},   {0x200b, 0x200f, 0},   {0x20d0, 0x20ff, 0},
        {0x2e80, 0x303e, 2},   {0x3041, 0xa4cf, 2},   {0xa960, 0xa97f, 2},   {0xac00, 0xd7a3, 2},
        {0xf900, 0xfaff, 2},   {0xfe00, 0xfe0f, 0},   {0xfe20, 0xfe2f, 0},   {0xfe30, 0xfe6f, 2},
        {0xff00, 0xff60, 2},   {0xffe0, 0xffe6, 2},   {0x16fe0, 0x18d7f, 2}, {0x1aff0, 0x1b2ff, 2},
        {0x1f300, 0x1f64f, 2}, {0x1f680, 0x1f6ff, 2}, {0x1f900, 0x1f9ff, 2}, {0x1fa70, 0x1faff, 2},
        {0x20000, 0x3fffd, 2}, {0xe0000, 0xe0fff, 0},
    };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks && code >= blocks[i].first; i++)
        if (code <= blocks[i].last) return blocks[i].columns;
    return 1;
}

int mw_text_columns(const char *bytes, size_t length) {
    int columns = 0;
    for (size_t i = 0, n; i < length; i += n) {
        n = mw_utf8_length(bytes + i, length - i);
        columns += n ? columns_of(code_at(bytes + i, n)) : 1; /* an invalid byte shows as one U+FFFD */
        n += n == 0;
    }
    return columns;
}
