"""Makes small tokenizers of every kind that microw reads, with results of the `tokenizers` library on 5 MB of mixed
text.

    python tools/make_golden_tokenizers.py --out tests/golden/tokenizers [--data tests/data]

Writes NAME.json (a tokenizer.json) and golden.txt: one line per tokenizer and document block with the number of ids,
the CRC-32 of the ids and the CRC-32 of the decoded text. A small generator makes the text;
tests/unit/test_tokenizer.c has the same one. --data adds lines for the real tokenizers found there. --new keeps the
tokenizers and lines that exist.
"""
import argparse
import json
import os
import struct
import zlib

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from charsmap import charsmap

MASK = (1 << 64) - 1
WORDS = ("the and of to in is was for that with Once upon a time there lived little girl who loved dragons. return if "
         "else while (int i = 0; i < n; i++) { } => != def class self.x import numpy as np std::vector<int> printf( "
         "\\n I'm we've THEY'LL don't it's O'Neil HTTP/1.1 https://example.org/a?b=c 3.14 0xDEADBEEF foo_bar "
         "camelCase").split(" ")
SPACES = [" ", " ", " ", "  ", "    ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u3000", " \n ", "\u0085", "\u180e"]
RANGES = [(0x61, 26), (0xC0, 64), (0x391, 24), (0x410, 64), (0x627, 30), (0xE01, 46), (0x300, 64), (0x4E00, 512),
          (0xAC00, 512), (0x1F300, 256), (0x3041, 80), (0x2190, 64), (0x1100, 64)]
PUNCTUATION = ["...", "!?", "--", "\u2014", "\u201c", "\u201d", "\u20ac", "$", "#", "@", "/*", "*/", "\\", "_",
               "\u2581", "'"]
ODD = [b"<|endoftext|>", b"<|endoftext|> ", b"'s", b"'LL", b"<s>", b"</s>", b"<0x41>"]
BROKEN = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xe2\x82", b"\xf0\x9f\x92", b"\x80", b"\xc0\xaf", b"\xf5\x80"]


class Draw:
    """A linear congruential generator (Knuth's MMIX constants), the same as in C."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & MASK
        return (self.state >> 33) % n


def document(draw, size):
    out = bytearray()
    while len(out) < size:
        kind = draw.below(16)
        if kind < 7:
            out += WORDS[draw.below(len(WORDS))].encode()
            out += b" " if draw.below(4) else b""
        elif kind < 10:
            out += SPACES[draw.below(len(SPACES))].encode()
        elif kind == 10:
            for _ in range(1 + draw.below(7)):
                out += b"0123456789"[(d := draw.below(10)):d + 1]
        elif kind < 13:
            start, count = RANGES[draw.below(len(RANGES))]
            for _ in range(1 + draw.below(6)):
                out += chr(start + draw.below(count)).encode()
        elif kind == 13:
            out += PUNCTUATION[draw.below(len(PUNCTUATION))].encode()
        elif kind == 14:
            out += ODD[draw.below(len(ODD))]
        elif draw.below(4) == 0:
            out += BROKEN[draw.below(len(BROKEN))]
    return bytes(out)


def blocks(total_blocks, documents, size):
    draw = Draw(12345)
    for _ in range(total_blocks):
        yield [document(draw, size) for _ in range(documents)]


def training_text():
    draw = Draw(99)
    return [document(draw, 2000).decode("utf-8", "replace").replace("<", " ") for _ in range(150)]


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


CASED = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?")
O200K = CASED + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
KIMI = (r"[\p{Han}]+|" + CASED.replace(r"\p{Lo}\p{M}]", r"\p{Lo}\p{M}&&[^\p{Han}]]")
        + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
            '[!"' + r"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]


def byte_level(splitter, normalizer=None, ignore_merges=False, bos=None):
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        t.normalizer = normalizer
    t.pre_tokenizer = splitter
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=700, show_progress=False, special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    if bos:
        t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, t.token_to_id(bos))])])
    return t


def sentencepiece(normalizer, splitter, decoder, cut=True):
    trainer = Tokenizer(models.BPE())
    trainer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=cut)
    trainer.train_from_iterator([line for text in training_text() for line in text.split("\n")],
                                trainers.BpeTrainer(vocab_size=500, show_progress=False, limit_alphabet=150))
    learned = json.loads(trainer.to_str())["model"]
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for i in range(256):
        vocab[f"<0x{i:02X}>"] = len(vocab)
    for token in sorted(learned["vocab"], key=learned["vocab"].get):
        vocab.setdefault(token, len(vocab))
    t = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(m) for m in learned["merges"]], unk_token="<unk>",
                             fuse_unk=True, byte_fallback=True))
    if normalizer:
        t.normalizer = normalizer
    if splitter:
        t.pre_tokenizer = splitter
    t.decoder = decoder
    t.add_special_tokens(["<unk>", "<s>", "</s>"])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return t


def unigram(byte_fallback, normalizer, scheme):
    """A unigram model as T5's or, with tokens of bytes, XGLM's."""
    trainer = Tokenizer(models.Unigram())
    trainer.normalizer = normalizer
    trainer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    lines = [line for text in training_text() for line in text.split("\n")]
    trainer.train_from_iterator(lines, trainers.UnigramTrainer(
        vocab_size=2500, show_progress=False, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>"))
    vocab = [tuple(item) for item in json.loads(trainer.to_str())["model"]["vocab"]]
    if byte_fallback:
        vocab += [(f"<0x{i:02X}>", -20.0) for i in range(256)]
    t = Tokenizer(models.Unigram(vocab, 2, byte_fallback))
    t.normalizer, t.pre_tokenizer = normalizer, trainer.pre_tokenizer
    t.decoder = decoders.Metaspace(prepend_scheme=scheme)
    t.add_special_tokens(["<pad>", "</s>", "<unk>"])
    t.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>",
                                                     special_tokens=[("</s>", 1)])
    return t


def words(model, trainer, normalizer, splitter, decoder):
    t = Tokenizer(model)
    t.normalizer, t.pre_tokenizer, t.decoder = normalizer, splitter, decoder
    t.train_from_iterator(training_text(), trainer)
    return t


def small_tokenizers():
    split = lambda *p: pre_tokenizers.Sequence([*(pre_tokenizers.Split(Regex(one), "isolated") for one in p),
                                                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    fuse = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    yield "gpt2", byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    yield "prefix", byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    yield "llama3", byte_level(split(LLAMA3), ignore_merges=True, bos="<|endoftext|>")
    yield "qwen2", byte_level(split(QWEN), normalizers.NFC())
    yield "digits", byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                        pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    mark = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    yield "llama2", sentencepiece(mark, None, decoders.Sequence(fuse + [decoders.Strip(" ", 1, 0)]))
    yield "metaspace", sentencepiece(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
                                     decoders.Sequence(fuse + [decoders.Strip(" ", 1, 0)]))
    yield "gemma", sentencepiece(normalizers.Replace(" ", "\u2581"), pre_tokenizers.Split(" ", "merged_with_previous"),
                                 decoders.Sequence(fuse), cut=False)


    yield "deepseek", byte_level(split(*DEEPSEEK))
    yield "o200k", byte_level(split(O200K))
    yield "kimi", byte_level(split(KIMI))
    table = charsmap({"\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u3000": " ", "\u0085": "", "e\u0301": "\u00e9",
                      "\u0301": "", "\u2026": "...", "\u1100": "\u3131"})
    yield "t5", unigram(False, normalizers.Sequence([normalizers.Precompiled(table), normalizers.Strip(left=False),
                                                     normalizers.Replace(Regex(" {2,}"), "\u2581")]), "always")
    yield "xglm", unigram(True, normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(),
                                                      normalizers.Replace(Regex(" {2,}"), " ")]), "first")
    yield "bert", words(models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(
        vocab_size=500, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False),
        normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece())
    yield "words", words(models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer(
        vocab_size=500, special_tokens=["[UNK]"], show_progress=False), normalizers.Lowercase(),
        pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(True)]), None)
    affixes = {"continuing_subword_prefix": "##", "end_of_word_suffix": "</w>"}
    yield "affixed", words(models.BPE(unk_token="<unk>", fuse_unk=True, **affixes), trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>"], show_progress=False, **affixes),
        normalizers.StripAccents(), pre_tokenizers.Punctuation("merged_with_next"), decoders.BPEDecoder())


def real_tokenizers(data):
    for name, path in (("stories260K", "stories260K-hf/tokenizer.json"), ("real-gpt2", "tokenizer-gpt2/tokenizer.json"),
                       ("real-neox", "tokenizer-gptneox/20B_tokenizer.json")):
        full = os.path.join(data, path)
        if os.path.exists(full):
            yield name, Tokenizer.from_file(full)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--data", default="tests/data")
    parser.add_argument("--new", action="store_true")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    golden = os.path.join(args.out, "golden.txt")
    known = set()
    if args.new:
        with open(golden, encoding="ascii") as file:
            known = {line.split()[0] for line in file}
    everything = []
    for name, t in small_tokenizers():
        if name not in known:
            t.save(os.path.join(args.out, name + ".json"), pretty=False)
            everything.append((name, t))
    everything += [(name, t) for name, t in real_tokenizers(args.data) if name not in known]
    with open(golden, "a" if args.new else "w", encoding="ascii") as out:
        for name, t in everything:
            for number, block in enumerate(blocks(20, 64, 4096)):
                texts = [d.decode("utf-8", "replace") for d in block]
                ids = [e.ids for e in t.encode_batch(texts, add_special_tokens=False)]
                flat = [i for one in ids for i in one]
                decoded = "".join(t.decode(one, skip_special_tokens=False) for one in ids).encode()
                crc = zlib.crc32(struct.pack(f"<{len(flat)}i", *flat))
                out.write(f"{name} {number} {len(flat)} {crc} {zlib.crc32(decoded)}\n")
            print(name, t.get_vocab_size(), flush=True)


if __name__ == "__main__":
    main()
