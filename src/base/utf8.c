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

/* How many bytes of the broken sequence at `p` one replacement stands for: the longest prefix that could have
 * begun a character (Unicode 15, section 3.9, "maximal subpart"; what Python and Rust do). */
static size_t broken_length(const unsigned char *p, size_t left) {
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
        i += broken_length((const unsigned char *)bytes + i, length - i);
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
