"""Writes tests/golden/tokenizers/unicode.json: ids of the `tokenizers` library for all code points, as CRC-32.

    python tools/make_golden_unicode.py tests/golden/tokenizers/unicode.json      (tokenizers 0.23)

Each case has a normalizer and a pre-tokenizer; its model is the file borders.json beside it, whose ids show every byte
and where words begin. The texts are blocks of 4096 code points: plain ones in a row, and mixed ones with the character
between letters, marks and spaces. tests/unit/test_tokenizer.c makes the same texts.
"""

import json
import os
import struct
import sys
import zlib

from tokenizers import Tokenizer

from check_tokenizers import BORDERS, BYTES, pattern, sequence, tokenizer, known_patterns

# Everything but unassigned planes and private use, of which samples stand for all.
CODES = (
    [c for c in range(1, 0x32000) if not 0xD800 <= c < 0xE000]
    + list(range(0xE0000, 0xE0200))
    + list(range(0x32000, 0xE0000, 257))
    + list(range(0xE0200, 0x110000, 257))
)
CLASSES = (
    r"\p{L} \p{Lu} \p{Ll} \p{Lt} \p{Lm} \p{Lo} \p{M} \p{Mn} \p{N} \p{Nd} \p{P} \p{S} \p{Sc} \p{Z} \p{Cn} \p{Cf} "
    r"\s \w [\w] \d "
    r"\h \b [[:alpha:]] [[:alnum:]] [[:upper:]] [[:lower:]] [[:punct:]] [[:graph:]] [[:print:]] \p{Han} "
    r"\p{Hiragana} \p{Latin} "
    r"\p{Arabic} (?i)[a-z] (?i)'s"
).split(" ")


def split(one, behavior):
    return {"type": "Split", "pattern": pattern(one), "behavior": behavior, "invert": False}


def cases():
    for one in CLASSES:
        yield f"class {one}", None, split(one, "Isolated" if one == r"\b" else "Removed"), False
    for one in known_patterns():
        yield f"known {one}", None, split(one, "Isolated"), True
    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt"):
        yield form, {"type": form}, None, True
    yield "BertNormalizer", {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": True,
        "lowercase": True,
    }, None, True
    for kind in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer"):
        yield kind, None, {"type": kind}, True
    yield "Punctuation", None, {"type": "Punctuation", "behavior": "Contiguous"}, False
    yield "Digits", None, {"type": "Digits", "individual_digits": False}, False
    yield "UnicodeScripts", None, {"type": "UnicodeScripts"}, False


def texts(mixed):
    for start in range(0, len(CODES), 4096):
        characters = map(chr, CODES[start : start + 4096])
        yield "".join(f"a{c}\u0301 {c}1{c}\u0334e" if mixed else c for c in characters)


def main():
    plain, mixed = list(texts(False)), list(texts(True))
    out = []
    for name, normalizer, splitter, is_mixed in cases():
        splitters = sequence("pretokenizers", *([splitter] if splitter else []), BYTES)
        t = Tokenizer.from_str(json.dumps(tokenizer(BORDERS, normalizer, splitters, BYTES)))
        ids = [i for e in t.encode_batch(mixed if is_mixed else plain, add_special_tokens=False) for i in e.ids]
        out.append(
            {
                "name": name,
                "normalizer": normalizer,
                "pre_tokenizer": splitters,
                "mixed": is_mixed,
                "count": len(ids),
                "crc": zlib.crc32(struct.pack(f"<{len(ids)}i", *ids)),
            }
        )
        print(name, len(ids), flush=True)
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(one) for one in out) + "\n]\n")
    with open(os.path.join(os.path.dirname(sys.argv[1]), "borders.json"), "w", encoding="utf-8") as file:
        json.dump(BORDERS, file)


if __name__ == "__main__":
    main()
