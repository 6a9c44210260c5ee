"""Compares microw's tokenizers with the `tokenizers` library: ids and decoded texts on hostile texts.

    python tools/check_tokenizers.py [--library build/libmicrow.so] [--texts 6000] [--seed 1] [NAME ...]

    components   each normalizer, pre-tokenizer, model, decoder and flag of added tokens alone (the default)
    mixtures     random tokenizers of several components, --texts / 100 texts each
    patterns     random regular expressions, 30 texts each; the known patterns of pattern.c, --texts each
    FILE         a real tokenizer.json, or a folder (then by AutoTokenizer of transformers), on these texts

Each line: name, texts, differences. What microw refuses with an error is no difference; what the library refuses must
be refused here, too. Ends with 1 after a difference.
"""

import argparse
import base64
import ctypes
import json
import os
import random
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from charsmap import charsmap

# ---- microw -------------------------------------------------------------------------------------------------


class Ids(ctypes.Structure):
    _fields_ = [("data", ctypes.POINTER(ctypes.c_int32)), ("count", ctypes.c_int64), ("capacity", ctypes.c_int64)]


class Text(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("capacity", ctypes.c_size_t),
        ("failed", ctypes.c_bool),
    ]


class Microw:
    library = None

    def __init__(self, path):
        self.handle = ctypes.c_void_p()
        if self.library.mw_tokenizer_open(path.encode(), ctypes.byref(self.handle)) != 0:
            raise ValueError("refused")

    def __del__(self):
        if self.handle:
            self.library.mw_tokenizer_free(ctypes.byref(self.handle))

    def encode(self, text):
        ids, data = Ids(), text.encode()
        status = self.library.mw_tokenizer_encode(self.handle, data, ctypes.c_size_t(len(data)), ctypes.byref(ids))
        out = ids.data[: ids.count] if ids.count else []
        self.library.mw_ids_free(ctypes.byref(ids))
        return out if status == 0 else None

    def decode(self, ids):
        text, array = Text(), (ctypes.c_int32 * max(1, len(ids)))(*ids)
        status = self.library.mw_tokenizer_decode(self.handle, array, ctypes.c_int64(len(ids)), ctypes.byref(text))
        out = ctypes.string_at(text.data, text.length) if text.data else b""
        self.library.mw_text_free(ctypes.byref(text))
        return out.decode() if status == 0 else None


# ---- texts --------------------------------------------------------------------------------------------------

WORDS = (
    "the of and Hello wORLD don't I'LL we've it'S ſ 'ſ naïve café ﬁne Straße ΟΔΟΣ ǅungla 3.14 "
    "1234567 ½ ٣٤ Ⅷ foo_bar "
    "a.b,c! ?! ... — “q” ‘s’ <s> </s> <unk> [UNK] <h> <0x41> <0xC3> ##a a## </w> ▁ ▁▁ _ "
    "हिन्दी กำลัง 日本語 ひらがな "
    "カタカナー 한국어 각 שלום مرحبا И́ é ạ́ 😀 👩‍👩‍👧 🏽 🩷 🇩🇪 "
    "© ™ ㋿ ﷺ e\u0301 q\u0323\u0307 \U0001e7f0 \u1df9 \u08d3 "
    "do not .n't 's 'm"
).split(" ")
SPACES = [
    " ",
    " ",
    " ",
    "  ",
    "   ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    "\u00a0",
    "\u3000",
    "\u2028",
    "\u0085",
    "\u180e",
    "\u200b",
    "\u200d",
    "\ufeff",
    "\u1680",
    "\u202f",
]
CHARACTERS = list("abcstdSTzZ09_'\"#-.,!?<>[]()|&^$\\/\0\x01\x7f\x8f\ufffd") + list(
    "éßİıſKΩµªʰǅאंक्ि가각一々〇€+©²½̧̣́ͅ"
)


def draw_text(rng):
    out = ""
    kind = rng.random()
    for _ in range(rng.choice([0, 1, 1, 2, 3, 5, 8, 13, 30])):
        part = rng.random()
        if part < 0.45:
            out += rng.choice(WORDS)
        elif part < 0.7:
            out += rng.choice(SPACES)
        elif part < 0.9 or kind < 0.3:
            out += rng.choice(CHARACTERS)
        else:
            out += chr(
                rng.choice(
                    [
                        rng.randrange(0x20, 0x250),
                        rng.randrange(0x250, 0xD800),
                        rng.randrange(0xE000, 0x20000),
                        rng.randrange(0x20000, 0x110000),
                    ]
                )
            )
    return out * rng.choice([1, 1, 1, 1, 1, 1, 1, 1, 1, 40])


# ---- comparison ---------------------------------------------------------------------------------------------


class Failures:
    count = 0
    refused = 0


def quietly(call):
    try:
        return call()
    except BaseException as error:  # a Rust panic is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        return None


def differences(name, ours, theirs, texts, decode=True):
    bad = 0
    for text in texts:
        right = quietly(lambda: theirs.encode(text, add_special_tokens=False))
        right = getattr(right, "ids", right)
        mine = ours.encode(text)
        if mine is None:
            Failures.refused += right is not None
            continue
        what = "ids" if mine != right else ""
        if not what and decode and right is not None:
            back = quietly(lambda: theirs.decode(right, skip_special_tokens=False))
            if back is not None and ours.decode(right) != back:
                what = "text"
        if what:
            bad += 1
            if bad <= 2:
                print(
                    f"  {name}: {what} of {text[:80]!r}: microw {mine}, library {right}"
                    if what == "ids"
                    else f"  {name}: {text[:60]!r}: microw {ours.decode(right)!r}, library {back!r}"
                )
    return bad


def check(name, data, texts, decode=True):
    """Compares one tokenizer.json, given as an object."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tokenizer.json")
        with open(path, "w", encoding="utf-8") as out:
            json.dump(data, out)
        theirs = quietly(lambda: Tokenizer.from_file(path))
        ours = quietly(lambda: Microw(path))
    if theirs is None or ours is None:
        both = theirs is None and ours is None
        print(
            f"{name:50} {'refused by both' if both else 'refused by microw' if ours is None else 'REFUSED BY LIBRARY'}"
        )
        return
    bad = differences(name, ours, theirs, texts, decode)
    Failures.count += bad > 0
    print(f"{name:50} {len(texts):6} texts {bad:5} differences", flush=True)


# ---- components ---------------------------------------------------------------------------------------------


def tokenizer(model, normalizer=None, splitter=None, decoder=None, added=(), processor=None):
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added),
        "normalizer": normalizer,
        "pre_tokenizer": splitter,
        "post_processor": processor,
        "decoder": decoder,
        "model": model,
    }


def added(content, token_id, **flags):
    return {
        "id": token_id,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": False,
        **flags,
    }


def bpe(vocab, merges=(), **options):
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": [list(m) for m in merges],
        **options,
    }


ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
# The ids of this model show every byte, and where words begin.
BORDERS = bpe({t: i for i, t in enumerate(ALPHABET + ["##" + c for c in ALPHABET])}, continuing_subword_prefix="##")
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def sequence(key, *parts):
    return {"type": "Sequence", key: list(parts)}


def pattern(regex=None, string=None):
    return {"Regex": regex} if regex is not None else {"String": string}


CHARSMAP = base64.b64encode(
    charsmap(
        {
            "é": "e",
            "e\u0301": "E",
            "a\u0301": "A!",
            "ﬁ": "fi",
            "\r\n": "\n",
            "\r": " ",
            "\t": " ",
            "日": "",
            "½": "1⁄2",
            "\u200d": "",
            "\u3000": " ",
            "q": "Q",
            "क": "K",
            "ᄀ": "g",
            "가": "ga",
            "©": "(c)",
            "©\u200d": "X",
            "\u0600": "Y",
            "a": "a",
            "😀": ":)",
        }
    )
).decode()


def normalizers():
    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel"):
        yield form, {"type": form}
    for left in (True, False):
        for right in (True, False):
            yield f"Strip {left} {right}", {"type": "Strip", "strip_left": left, "strip_right": right}
    for bits in range(16):
        yield f"BertNormalizer {bits}", {
            "type": "BertNormalizer",
            "clean_text": bool(bits & 1),
            "lowercase": bool(bits & 8),
            "handle_chinese_chars": bool(bits & 2),
            "strip_accents": bool(bits & 4),
        }
    yield "BertNormalizer none", {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    }
    yield "Prepend", {"type": "Prepend", "prepend": "▁x"}
    for string in (" ", "  ", "a", "'s", "", "▁", ".", "\u0301"):
        yield f"Replace {string!r}", {"type": "Replace", "pattern": pattern(string=string), "content": "▁é"}
    for regex in (r" {2,}", r"\s+", r"(?<=a)b*", r"^", r"$", r"\p{Lu}", r"[^\w\s]", ""):
        yield f"Replace /{regex}/", {"type": "Replace", "pattern": pattern(regex), "content": "-"}
    yield "Precompiled", {"type": "Precompiled", "precompiled_charsmap": CHARSMAP}
    yield "Sequence", sequence(
        "normalizers",
        {"type": "NFKD"},
        {"type": "StripAccents"},
        {"type": "Lowercase"},
        {"type": "Replace", "pattern": pattern(string=" "), "content": "▁"},
    )


BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")


def splitters():
    for kind in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer"):
        yield kind, {"type": kind}
    for behavior in BEHAVIORS:
        yield f"Punctuation {behavior}", {"type": "Punctuation", "behavior": behavior}
        for invert in (False, True):
            for name, one in (
                ("/\\w+/", pattern(r"\w+")),
                ("/\\s+(?!\\S)|\\s/", pattern(r"\s+(?!\S)|\s")),
                ("/\\b/", pattern(r"\b")),
                ("/(?=a)|\\p{P}/", pattern(r"(?=a)|\p{P}")),
                ("' '", pattern(string=" ")),
                ("'a'", pattern(string="a")),
                ("''", pattern(string="")),
            ):
                yield f"Split {name} {behavior} {invert}", {
                    "type": "Split",
                    "pattern": one,
                    "behavior": behavior,
                    "invert": invert,
                }
    for single in (False, True):
        yield f"Digits {single}", {"type": "Digits", "individual_digits": single}
    for delimiter in (" ", "a", "é", "▁"):
        yield f"CharDelimiterSplit {delimiter}", {"type": "CharDelimiterSplit", "delimiter": delimiter}
    for scheme in ("always", "first", "never"):
        for split in (False, True):
            for mark in ("▁", "_", "é"):
                yield f"Metaspace {scheme} {split} {mark}", {
                    "type": "Metaspace",
                    "replacement": mark,
                    "split": split,
                    "prepend_scheme": scheme,
                }
    for prefix in (False, True):
        for regex in (False, True):
            yield f"ByteLevel {prefix} {regex}", {
                "type": "ByteLevel",
                "add_prefix_space": prefix,
                "trim_offsets": True,
                "use_regex": regex,
            }
    for length in (1, 3, 7):
        yield f"FixedLength {length}", {"type": "FixedLength", "length": length}
    yield "UnicodeScripts", {"type": "UnicodeScripts"}
    yield "Whitespace, Digits", sequence(
        "pretokenizers", {"type": "Whitespace"}, {"type": "Digits", "individual_digits": True}
    )


def decoders():
    mark = {"type": "Replace", "pattern": pattern(string="▁"), "content": " "}
    yield "no decoder", None
    for prefix in ("always", "first", "never"):
        rule = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": prefix, "split": True}
        yield f"Metaspace {prefix}", rule
    yield "ByteLevel", {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    yield "WordPiece", {"type": "WordPiece", "prefix": "##", "cleanup": True}
    yield "WordPiece plain", {"type": "WordPiece", "prefix": "a", "cleanup": False}
    yield "BPEDecoder", {"type": "BPEDecoder", "suffix": "</w>"}
    yield "BPEDecoder a", {"type": "BPEDecoder", "suffix": "a"}
    yield "CTC", {"type": "CTC", "pad_token": "a", "word_delimiter_token": "b", "cleanup": True}
    yield "Fuse", {"type": "Fuse"}
    yield "ByteFallback", {"type": "ByteFallback"}
    yield "Replace", mark
    yield "Replace regex", {"type": "Replace", "pattern": pattern(r"\s*a|b$"), "content": "é"}
    for start, stop in ((0, 0), (1, 0), (0, 1), (2, 1)):
        yield f"Strip {start} {stop}", sequence(
            "decoders", {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": start, "stop": stop}
        )
    yield "Llama", sequence(
        "decoders",
        mark,
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    )


def corpus():
    rng = random.Random(99)
    return [" ".join(rng.choice(WORDS[:30]) for _ in range(30)) for _ in range(300)]


def learned(kind):
    """A small trained model, as an object."""
    empty, trainer = {
        "BPE": (models.BPE(unk_token="<unk>"), trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"])),
        "affixed": (
            models.BPE(unk_token="<unk>", continuing_subword_prefix="##", end_of_word_suffix="</w>"),
            trainers.BpeTrainer(
                vocab_size=300, special_tokens=["<unk>"], continuing_subword_prefix="##", end_of_word_suffix="</w>"
            ),
        ),
        "WordPiece": (
            models.WordPiece(unk_token="[UNK]"),
            trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]"]),
        ),
        "WordLevel": (
            models.WordLevel(unk_token="[UNK]"),
            trainers.WordLevelTrainer(vocab_size=300, special_tokens=["[UNK]"]),
        ),
        "Unigram": (
            models.Unigram(),
            trainers.UnigramTrainer(vocab_size=200, special_tokens=["<unk>"], unk_token="<unk>"),
        ),
    }[kind]
    trainer.show_progress = False
    t = Tokenizer(empty)
    t.pre_tokenizer = pre_tokenizers.Metaspace(split=True) if kind == "Unigram" else pre_tokenizers.Whitespace()
    t.train_from_iterator(corpus(), trainer)
    return json.loads(t.to_str())["model"]


def with_bytes(vocab, missing=()):
    out = dict(vocab)
    for i in range(256):
        if i not in missing:
            out.setdefault(f"<0x{i:02X}>", len(out))
    return out


def model_cases():
    whitespace, metaspace = {"type": "Whitespace"}, {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": "first",
        "split": False,
    }
    plain = learned("BPE")
    for unk in ("<unk>", None, "missing"):
        for fuse in (False, True):
            for fallback, missing in ((False, ()), (True, ()), (True, (0xC3, 0xE0, 0x9F, 0x61))):
                for splitter in (whitespace, metaspace, None):
                    vocab = with_bytes(plain["vocab"], missing) if fallback else plain["vocab"]
                    name = f"BPE unk {unk} fuse {fuse} bytes {fallback} {len(missing)} {splitter and splitter['type']}"
                    yield name, {
                        **plain,
                        "vocab": vocab,
                        "unk_token": unk,
                        "fuse_unk": fuse,
                        "byte_fallback": fallback,
                    }, splitter
    yield "BPE ignore_merges", {**plain, "ignore_merges": True, "vocab": {**plain["vocab"], "Hello": 5000}}, whitespace
    yield "BPE prefix and suffix", learned("affixed"), whitespace
    yield "BPE prefix, bytes", {
        **learned("affixed"),
        "byte_fallback": True,
        "vocab": with_bytes(learned("affixed")["vocab"]),
    }, whitespace
    yield "BPE dropout", {**plain, "dropout": 0.1}, whitespace
    for kind in ("WordPiece", "WordLevel"):
        model = learned(kind)
        for splitter in (whitespace, {"type": "BertPreTokenizer"}, None):
            yield f"{kind} {splitter and splitter['type']}", model, splitter
            yield f"{kind} without unk {splitter and splitter['type']}", {**model, "unk_token": "missing"}, splitter
    yield "WordPiece 3 characters", {**learned("WordPiece"), "max_input_chars_per_word": 3}, whitespace
    yield "WordPiece empty prefix", {**learned("WordPiece"), "continuing_subword_prefix": ""}, whitespace
    model = learned("Unigram")
    for unk in (0, None):
        for fallback in (False, True):
            for splitter in (metaspace, {**metaspace, "split": True}, None):
                pieces = [
                    *model["vocab"],
                    *([f"<0x{i:02X}>", -20.0] for i in range(256) if fallback and i != 0xE0),
                    ["a", -1.5],
                    ["日本", -3.0],
                    ["語\0", -2],
                ]
                yield (
                    f"Unigram unk {unk} bytes {fallback} {splitter and splitter['split']}",
                    {**model, "vocab": pieces, "unk_id": unk, "byte_fallback": fallback},
                    splitter,
                )


def added_cases():
    size = len(BORDERS["vocab"])
    for name in ("lstrip", "rstrip", "single_word", "normalized", "special"):
        yield name, [added("<s>", size, **{name: True}), added("the", size + 1, **{name: True}), added("s", size + 2)]
    yield "both strips", [added("<s>", size, lstrip=True, rstrip=True), added(" x", size + 1), added(" ", size + 2)]
    yield "all", [
        added("<s>", size, lstrip=True, rstrip=True, normalized=True, special=True),
        added("Hello", size + 1, normalized=True, single_word=True),
        added("ello", size + 2, single_word=True),
        added("日", size + 3, rstrip=True),
    ]
    yield "ids of the model", [added("a", 5, special=True), added("new", 700), added("newer", 9)]


def components(texts):
    for name, part in normalizers():
        check(f"normalizer {name}", tokenizer(BORDERS, part, BYTES, BYTES), texts)
        if name in ("Strip True False", "Nmt", "StripAccents", "NFKC", "Prepend", "Replace ' '"):
            first = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}
            check(
                f"normalizer {name}, Metaspace first",
                tokenizer(BORDERS, part, sequence("pretokenizers", first, BYTES), BYTES),
                texts,
            )
    for name, part in splitters():
        last = () if name.startswith("ByteLevel") else (BYTES,)
        check(f"pre-tokenizer {name}", tokenizer(BORDERS, None, sequence("pretokenizers", part, *last), BYTES), texts)
    raw = bpe({t: i for i, t in enumerate(ALPHABET)})
    check("raw bytes", tokenizer(raw, None, BYTES, BYTES), texts)
    check("twice ByteLevel", tokenizer(raw, None, sequence("pretokenizers", BYTES, BYTES), BYTES), texts)
    for name, model, splitter in model_cases():
        check(f"model {name}", tokenizer(model, None, splitter, {"type": "Fuse"}), texts)
    plain = learned("BPE")
    plain = {**plain, "vocab": with_bytes(plain["vocab"], (0xC3,)), "byte_fallback": True}
    for name, part in decoders():
        check(
            f"decoder {name}",
            tokenizer(
                plain,
                None,
                {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
                part,
                [added("<h>", 900), added("##a", 901)],
            ),
            texts,
        )
    for name, tokens in added_cases():
        check(f"added {name}", tokenizer(BORDERS, {"type": "Lowercase"}, BYTES, BYTES, tokens), texts)
        check(f"added {name}, no normalizer", tokenizer(BORDERS, None, BYTES, BYTES, tokens), texts)


def mixtures(texts, rng, count):
    forms, cuts, ends, cases = list(normalizers()), list(splitters()), list(decoders()), list(model_cases())
    for number in range(count):
        norm = [one for _, one in rng.sample(forms, rng.choice([0, 1, 1, 2, 3]))]
        cut = [one for _, one in rng.sample(cuts, rng.choice([0, 1, 1, 2, 3]))]
        _, model, _ = rng.choice(cases)
        if rng.random() < 0.4:
            model, cut = BORDERS, cut + [BYTES]
        _, end = rng.choice(ends)
        tokens = [
            added(
                rng.choice(WORDS),
                5000 + i,
                **{f: rng.random() < 0.3 for f in ("single_word", "lstrip", "rstrip", "normalized", "special")},
            )
            for i in range(rng.choice([0, 0, 1, 3]))
        ]
        data = tokenizer(
            model,
            sequence("normalizers", *norm) if norm else None,
            sequence("pretokenizers", *cut) if cut else None,
            end,
            tokens,
        )
        check(f"mixture {number}", data, [draw_text(rng) for _ in range(max(1, len(texts) // 100))])


# ---- patterns -----------------------------------------------------------------------------------------------

ATOMS = (
    r"a s t ' é 1 \p{L} \p{Lu} \p{Ll} \p{N} \p{P} \p{S} \p{M} \P{L} \p{^N} \s \S \w \W \d \D \h \H . [a-z] [^a-z] "
    r"[\p{L}\p{M}] [^\s\p{L}\p{N}] [[:alpha:]] [^[:alnum:]\s] [[:punct:]] [[:^digit:]_] [[a-z][0-9]] [\p{L}&&[^a-z]] "
    r"[\w&&[^\d]] [\d\-_] [^\W\d] [\r\n] \p{Han} \p{Hiragana} [\p{Han}\p{Katakana}ー] \p{Latin} [[:upper:]] "
    r"[[:lower:]] [一-龥] "
    r"\p{Lo} \p{Sc} \p{Zs} \p{Cn} \p{Alpha} \p{Alnum} \p{Punct} \p{Word} [[:graph:]] [[:print:]] [[:space:]] "
    r"[[:word:]] "
    r"\p{Letter} \p{Arabic} []a] [^]a] \x{1FA77} \u4e00 \t"
).split(" ")
REPEATS = ["", "", "", "", "+", "*", "?", "{2}", "{1,3}", "{1,3}+", "++", "*+", "?+", "+?", "*?", "{,2}", "{2,}", "??"]
EDGES = ["^", "$", r"\b", r"\B", r"\A", r"\z", r"\Z"]


def draw_pattern(rng, depth=0):
    kind = rng.random()
    deeper = lambda: draw_pattern(rng, depth + 1)
    if depth > 2 or kind < 0.55:
        return rng.choice(ATOMS) + rng.choice(REPEATS)
    if kind < 0.68:
        return deeper() + deeper()
    if kind < 0.80:
        return deeper() + "|" + deeper()
    if kind < 0.93:
        return rng.choice(["(?:", "(", "(?i:", "(?=", "(?!", "(?>"]) + deeper() + ")" + rng.choice(REPEATS[:7])
    if kind < 0.95:
        return rng.choice(["(?<=", "(?<!"]) + rng.choice(ATOMS) + ")"
    return rng.choice(EDGES) + deeper()


def known_patterns():
    """The table of pattern.c, printed by a program made of it."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "src", "model", "tokenizer")
    with open(os.path.join(folder, "pattern.c"), encoding="utf-8") as file:
        text = file.read()
    table = text[text.index("#define ENDINGS") : text.index("static bool is_known")]
    with tempfile.TemporaryDirectory() as made:
        source, program = os.path.join(made, "known.c"), os.path.join(made, "known")
        with open(source, "w", encoding="utf-8") as file:
            file.write(
                "#include <stdio.h>\n" + table + "int main(void) {\n    for (size_t i = 0; i < sizeof known_patterns / "
                "sizeof *known_patterns; i++) fwrite(known_patterns[i], 1, __builtin_strlen(known_patterns[i]) + 1, "
                "stdout);\n}\n"
            )
        subprocess.run(["cc", "-w", "-o", program, source], check=True)
        return subprocess.run([program], check=True, capture_output=True).stdout.decode().split("\0")[:-1]


def patterns(texts, rng, count):
    for number in range(count):
        one = draw_pattern(rng)
        split = {"type": "Split", "pattern": pattern(one), "behavior": "Isolated", "invert": False}
        check(
            f"pattern {one}"[:48],
            tokenizer(BORDERS, None, sequence("pretokenizers", split, BYTES), BYTES),
            [draw_text(rng) for _ in range(30)],
            decode=False,
        )
    for one in known_patterns():
        split = {"type": "Split", "pattern": pattern(one), "behavior": "Isolated", "invert": False}
        check(
            f"known {one}"[:48],
            tokenizer(BORDERS, None, sequence("pretokenizers", split, BYTES), BYTES),
            texts,
            decode=False,
        )


# ---- real tokenizers ----------------------------------------------------------------------------------------


def real(path, texts):
    if os.path.isdir(path):
        from transformers import AutoTokenizer

        theirs = AutoTokenizer.from_pretrained(path)
    else:
        theirs = Tokenizer.from_file(path)
    ours = Microw(path)
    bad = differences(path, ours, theirs, texts)
    Failures.count += bad > 0
    print(f"{path[-50:]:50} {len(texts):6} texts {bad:5} differences", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default="build/libmicrow.so")
    parser.add_argument("--texts", type=int, default=6000)
    parser.add_argument("--count", type=int, default=300, help="of mixtures or random patterns")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("names", nargs="*", default=["components"])
    args = parser.parse_args()
    Microw.library = ctypes.CDLL(os.path.abspath(args.library))
    rng = random.Random(args.seed)
    texts = [draw_text(rng) for _ in range(args.texts)]
    for name in args.names:
        if name == "components":
            components(texts)
        elif name == "mixtures":
            mixtures(texts, rng, args.count)
        elif name == "patterns":
            patterns(texts, rng, args.count)
        else:
            real(name, texts)
    print("tokenizers with differences:", Failures.count, "- texts that microw alone refuses:", Failures.refused)
    sys.exit(Failures.count > 0)


if __name__ == "__main__":
    main()
