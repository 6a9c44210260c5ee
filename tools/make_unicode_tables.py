"""Writes src/model/tokenizer/unicode_data.c: what the `tokenizers` library knows about each code point.

    python tools/make_unicode_tables.py src/model/tokenizer/unicode_data.c      (tokenizers 0.23)

The library asks several Unicode databases of different versions: Oniguruma's (patterns), Rust's (numeric characters,
lower case), that of the crate `regex` (added tokens, Whitespace), and three older ones (normal forms, punctuation,
marks and controls). Each is probed through the library itself, over all code points.
"""
import sys

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

from charsmap import charsmap

CODES = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, CODES))
BLOCK = 1 << 16
CATEGORIES = "Cn Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co".split()
SCRIPTS = (
    "Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki "
    "Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee "
    "Chorasmian Common Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra "
    "Duployan Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Garay Georgian Glagolitic Gothic Grantha Greek "
    "Gujarati Gunjala_Gondi Gurmukhi Gurung_Khema Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana "
    "Imperial_Aramaic Inherited Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Katakana "
    "Kawi Kayah_Li Kharoshthi Khitan_Small_Script Khmer Khojki Khudawadi Kirat_Rai Lao Latin Lepcha Limbu "
    "Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic Manichaean Marchen Masaram_Gondi "
    "Medefaidrin Meetei_Mayek Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani "
    "Myanmar Nabataean Nag_Mundari Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki "
    "Ol_Onal Old_Hungarian Old_Italic Old_North_Arabian Old_Permic Old_Persian Old_Sogdian Old_South_Arabian "
    "Old_Turkic Old_Uyghur Oriya Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician "
    "Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sogdian "
    "Sora_Sompeng Soyombo Sundanese Sunuwar Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri "
    "Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Todhri Toto Tulu_Tigalari Ugaritic Unknown "
    "Vai Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square").split()
# The bits above the category, in the order of unicode.h.
BITS = ("alpha lower upper word regex_word numeric punctuation other nonspacing combining joins prepends breaks "
        "pictograph nfc nfkc nfd nfkd composes").split()


def matched(pattern):
    """The code points that a class of Oniguruma matches."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    found = set(CODES)
    for start in range(0, len(CODES), BLOCK):
        for _, (begin, end) in split.pre_tokenize_str(TEXT[start:start + BLOCK]):
            found.difference_update(CODES[start + begin:start + end])
    return found


def categories():
    facts = dict.fromkeys(CODES, 0)
    seen = set()
    for number, name in enumerate(CATEGORIES):
        if name == "Cs":
            continue
        codes = matched(rf"\p{{{name}}}")
        assert not codes & seen, name
        seen |= codes
        for c in codes:
            facts[c] = number
    assert len(seen) == len(CODES)
    return facts


def check_derived(facts, sets):
    """The POSIX brackets and groups that unicode.c derives from categories are those of the library."""
    of = lambda *names: {c for c in CODES if CATEGORIES[facts[c]] in names}
    group = lambda letter: {c for c in CODES if CATEGORIES[facts[c]].startswith(letter)}
    white = matched(r"\s")
    assert white == {*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F,
                     0x3000}
    unseen = white | of("Cc", "Cn", "Cs")
    derived = {
        r"\p{L}": group("L"), r"\p{M}": group("M"), r"\p{N}": group("N"), r"\p{P}": group("P"), r"\p{S}": group("S"),
        r"\p{Z}": group("Z"), r"\p{C}": group("C"), r"\p{LC}": of("Lu", "Ll", "Lt"), r"\d": of("Nd"),
        "[[:digit:]]": of("Nd"), "[[:space:]]": white, "[[:cntrl:]]": of("Cc"), "[[:alnum:]]": sets["alpha"] | of("Nd"),
        "[[:punct:]]": group("P") | group("S"), r"[\s]": white, r"[\d]": of("Nd"), r"[\w]": sets["word"],
        r"\w": sets["word"] | {0xB2, 0xB3, 0xB9, 0xBC, 0xBD, 0xBE}, "[[:blank:]]": of("Zs") | {9},
        "[[:xdigit:]]": set(map(ord, "0123456789abcdefABCDEF")), "[[:graph:]]": set(CODES) - unseen,
        "[[:print:]]": (set(CODES) - unseen) | of("Zs"), r"\p{Any}": set(CODES), "[[:ascii:]]": set(range(128))}
    for pattern, codes in derived.items():
        real = matched(pattern)
        if real != codes:
            print("not as derived:", pattern, [hex(c) for c in sorted(real ^ codes)][:9])
            raise SystemExit(1)


def per_character(normalizer, changed):
    return {c for c in CODES if changed(chr(c), normalizer.normalize_str(chr(c)))}


def normal_forms(sets):
    forms = {"nfc": normalizers.NFC(), "nfkc": normalizers.NFKC(), "nfd": normalizers.NFD(), "nfkd": normalizers.NFKD()}
    of = {name: {c: form.normalize_str(chr(c)) for c in CODES} for name, form in forms.items()}
    nfd, nfc = forms["nfd"], forms["nfc"]
    marks = {c for c in CODES if of["nfd"][c] == chr(c)
             and (nfd.normalize_str("a" + chr(c) + "\u0334") != "a" + chr(c) + "\u0334"
                  or nfd.normalize_str("a\u0345" + chr(c)) != "a\u0345" + chr(c))}
    seconds, firsts = set(), set(range(0xAC00, 0xD7A4))
    for c in CODES:
        parts = of["nfd"][c]
        if parts != chr(c) and of["nfc"][c] == chr(c):
            seconds.add(ord(parts[-1]))
            first = nfc.normalize_str(parts[:-1])
            if len(first) == 1:
                firsts.add(ord(first))
    for name in forms:
        sets[name] = {c for c in CODES if of[name][c] != chr(c)} | marks
        if name in ("nfc", "nfkc"):
            sets[name] |= seconds
    sets["composes"] = firsts


def graphemes(sets):
    """A table that maps each character of 1 to 3 bytes to Z replaces a grapheme below 6 bytes by one Z."""
    table = normalizers.Precompiled(charsmap({chr(c): "Z" for c in range(1, 0x10000) if not 0xD800 <= c < 0xE000}))
    joined = lambda text, end: table.normalize_str(text) == end
    wide = lambda c, z: z if c < 0x10000 else z + chr(c)
    sets["joins"] = {c for c in CODES[1:] if joined("a" + chr(c), "Z")}
    sets["prepends"] = {c for c in CODES[1:] if c < 0x10000 and joined(chr(c) + "a", "Z")}
    sets["breaks"] = {c for c in CODES[1:] if c < 0x10000 and not joined(chr(c) + "\u0301", "Z")} | {0}
    sets["pictograph"] = {c for c in CODES[1:] if c not in sets["joins"]
                          and joined("\u00a9\u200d" + chr(c), "ZZ" + wide(c, "Z"))}


def facts_of_all():
    facts = categories()
    sets = {"alpha": matched("[[:alpha:]]"), "lower": matched("[[:lower:]]"), "upper": matched("[[:upper:]]"),
            "word": matched("[[:word:]]")}
    check_derived(facts, sets)
    digits, whitespace = pre_tokenizers.Digits(True), pre_tokenizers.Whitespace()
    sets["numeric"] = {c for c in CODES if len(digits.pre_tokenize_str("a" + chr(c))) == 2}
    sets["regex_word"] = {c for c in CODES if whitespace.pre_tokenize_str("a" + chr(c)) == [("a" + chr(c), (0, 2))]}
    split = pre_tokenizers.Punctuation("removed")
    sets["punctuation"] = {c for c in CODES if len(split.pre_tokenize_str(chr(c))) == 0}
    bert = lambda **on: normalizers.BertNormalizer(**{"clean_text": False, "handle_chinese_chars": False,
                                                      "strip_accents": False, "lowercase": False, **on})
    sets["other"] = per_character(bert(clean_text=True), lambda c, n: n == "" and c not in "\0\ufffd")
    nfd = normalizers.NFD()
    sets["nonspacing"] = per_character(bert(strip_accents=True), lambda c, n: n == "" and nfd.normalize_str(c) == c)
    sets["combining"] = per_character(normalizers.StripAccents(), lambda c, n: n == "")
    normal_forms(sets)
    graphemes(sets)
    for bit, name in enumerate(BITS):
        for c in sets[name]:
            facts[c] |= 1 << (5 + bit)
    for name in BITS:
        print(name, len(sets[name]))
    return facts


def runs(values):
    """[(first code point, value)] of equal neighbours; surrogates continue the run before them."""
    out = []
    for c in CODES:
        if not out or out[-1][1] != values[c]:
            out.append((c, values[c]))
    return out


def lower_case():
    """[(first, last, step, difference)], and the characters whose lower case has several characters."""
    lower = normalizers.Lowercase()
    out, special = [], []
    for c in CODES:
        made = lower.normalize_str(chr(c))
        if made == chr(c):
            continue
        if len(made) != 1:
            special.append((c, made))
            continue
        difference = ord(made) - c
        if out and out[-1][3] == difference and (c - out[-1][1] == out[-1][2] or
                                                 (out[-1][0] == out[-1][1] and c - out[-1][1] <= 2)):
            first, last, _, _ = out[-1]
            out[-1] = (first, c, c - last, difference)
        else:
            out.append((c, c, 1, difference))
    assert special == [(0x130, "i\u0307")], special
    return out


def script_classes():
    """The classes of the pre-tokenizer UnicodeScripts, by number; 0: characters that go with any other."""
    split = pre_tokenizers.UnicodeScripts()
    together = lambda a, b: len(split.pre_tokenize_str(a + b)) == 1
    members, classes, last = ["a", "\u65e5"], {}, 1
    for c in CODES:
        one = chr(c)
        if together("a", one) and together("\u65e5", one):
            classes[c] = 0
            continue
        found = [last] if together(members[last - 1], one) else [i + 1 for i, m in enumerate(members) if together(m, one)]
        if not found:
            members.append(one)
            found = [len(members)]
        classes[c] = last = found[0]
    assert len(members) < 256
    return classes


def table(out, declaration, items):
    out.write(f"{declaration} = {{\n")
    line = "   "
    for item in items:
        if len(line) + len(item) > 116:
            out.write(line + "\n")
            line = "   "
        line += " " + item + ","
    out.write(line + "\n};\n")


def main():
    facts = facts_of_all()
    values = sorted(set(facts.values()))
    index = {v: i for i, v in enumerate(values)}
    assert len(values) < 1 << 11
    scripts = dict.fromkeys(CODES, SCRIPTS.index("Unknown"))
    for number, name in enumerate(SCRIPTS):
        for c in matched(rf"\p{{{name}}}"):
            scripts[c] = number
    fact_runs, script_runs, lower = runs(facts), runs(scripts), lower_case()
    class_runs = runs(script_classes())
    print(len(fact_runs), "runs,", len(values), "values,", len(script_runs), "runs of scripts,", len(lower), "of case")
    with open(sys.argv[1], "w", encoding="ascii") as out:
        out.write("/* Facts about code points. Made by tools/make_unicode_tables.py from the behaviour of tokenizers\n"
                  f" * {tokenizers.__version__}; not edited by hand. */\n"
                  '#include "model/tokenizer/unicode.h"\n\n/* clang-format off */\n')
        table(out, "const uint32_t unicode_values[]", [f"0x{v:x}" for v in values])
        table(out, "const uint32_t unicode_runs[]", [f"0x{first << 11 | index[v]:x}" for first, v in fact_runs])
        out.write(f"const int unicode_run_count = {len(fact_runs)};\n")
        table(out, "const char *const unicode_scripts[]", [f'"{name}"' for name in SCRIPTS])
        out.write(f"const int unicode_script_count = {len(SCRIPTS)};\n")
        table(out, "const uint32_t unicode_script_runs[]", [f"0x{first << 8 | s:x}" for first, s in script_runs])
        out.write(f"const int unicode_script_run_count = {len(script_runs)};\n")
        table(out, "const uint32_t unicode_class_runs[]", [f"0x{first << 8 | s:x}" for first, s in class_runs])
        out.write(f"const int unicode_class_run_count = {len(class_runs)};\n")
        table(out, "const unicode_case unicode_lower_case[]", ["{0x%x, 0x%x, %d, %d}" % item for item in lower])
        out.write(f"const int unicode_lower_case_count = {len(lower)};\n")


if __name__ == "__main__":
    main()
