"""Writes tests/golden/tokenizers/folders.json: folders of tokenizer files, and what AutoTokenizer makes of them.

    python tools/make_golden_folders.py tests/golden/tokenizers/folders.json

(transformers 5.24, tokenizers 0.23, tiktoken 0.14)

Each case: the files (text, or bytes in hex), texts, their ids without the template, the special ids, bos and eos (-1:
none) and whether a bos comes before a text. tests/unit/test_tokenizer.c reads it.
"""

import base64
import json
import os
import struct
import sys
import tempfile

from transformers import AutoTokenizer, TokenizersBackend

from check_tokenizers import ALPHABET, BYTES, added, bpe, tokenizer

VOCABULARY = {token: i for i, token in enumerate(["<|endoftext|>", *ALPHABET, "th", "the", "Ġthe", "he", "</s>"])}
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("h", "e")]
TEXTS = [
    "the <s> the</s>the",
    " <h>the  <b>\n<|endoftext|>",
    "A<pad> <mask><x>  <img>the'S 12",
    "",
    "</s> </s>é日 <a> the ",
]
FLAGS = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}


def field(number, data):
    """A field of a protocol buffer: a number, a float or bytes."""
    if isinstance(data, int):
        return bytes([number << 3, data])
    if isinstance(data, float):
        return bytes([number << 3 | 5]) + struct.pack("<f", data)
    length = len(data)
    assert length < 1 << 14
    return (
        bytes([number << 3 | 2])
        + (bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7]))
        + data
    )


def sentencepiece(first):
    pieces = [(first[0], 2), (first[1], 3), (first[2], 3), ("<h>", 4)]
    pieces += [(f"<0x{i:02X}>", 6) for i in range(256)]
    pieces += [(p, 1) for p in ["▁t", "he", "▁the", "in", "▁▁", "th", "the", *"▁theinasé日"]]
    out = b"".join(
        field(1, field(1, p.encode()) + field(2, -1.0 * i) + field(3, kind)) for i, (p, kind) in enumerate(pieces)
    )
    return out + field(2, field(3, 2) + bytes([35 << 3 & 127 | 128, 2, 1]))


def folders():
    plain = tokenizer(
        bpe(VOCABULARY, MERGES),
        None,
        {**BYTES, "use_regex": True},
        BYTES,
        [added("<|endoftext|>", 0, special=True), added("<b>", len(VOCABULARY))],
    )
    pair = {"vocab.json": VOCABULARY, "merges.txt": "#version: 0.2\n" + "\n".join(" ".join(m) for m in MERGES) + "\n"}
    fast = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for config in (
        None,
        fast,
        {**fast, "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True},
        {**fast, "additional_special_tokens": ["<b>", "<h>"]},
        {**fast, "extra_special_tokens": {"image_token": "<img>"}},
        {**fast, "foo_token": "<x>", "split_special_tokens": True, "pad_token": "<pad>"},
        {**fast, "pad_token": {"__type": "AddedToken", "content": "<pad>", **FLAGS, "rstrip": True}},
        {
            **fast,
            "added_tokens_decoder": {
                "900": {"content": "<h>", "special": True, **FLAGS},
                "270": {"content": "<a>", "special": False, **FLAGS, "lstrip": True},
                "262": {"content": "<b>", "special": True, **FLAGS},
            },
            "additional_special_tokens": ["<a>"],
            "eos_token": "<|endoftext|>",
        },
    ):
        yield {
            "tokenizer.json": plain,
            "config.json": {"model_type": "llama"},
            **({"tokenizer_config.json": config} if config else {}),
        }
    yield {
        "tokenizer.json": plain,
        "tokenizer_config.json": fast,
        "config.json": {"model_type": "llama"},
        "special_tokens_map.json": {
            "unk_token": "<x>",
            "additional_special_tokens": ["<h>"],
            "cls_token": {"content": "<a>", **FLAGS, "single_word": True},
        },
    }
    for name, model in (
        ("GPT2Tokenizer", "gpt2"),
        ("Qwen2Tokenizer", "qwen2"),
        ("GPTNeoXTokenizer", "gpt_neox"),
        ("CohereTokenizer", "cohere"),
        ("CodeGenTokenizer", "codegen"),
    ):
        yield {**pair, "tokenizer_config.json": {"tokenizer_class": name}, "config.json": {"model_type": model}}
    yield {
        **pair,
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True, "add_bos_token": True},
        "config.json": {"model_type": "gpt2"},
    }
    yield {
        **pair,
        "config.json": {"model_type": "opt"},
        "added_tokens.json": {"<h>": 261, "<s>": 262},
        "special_tokens_map.json": {
            "bos_token": "</s>",
            "eos_token": {"content": "</s>", **FLAGS, "rstrip": True},
            "additional_special_tokens": ["<h>"],
        },
    }
    for options in (
        {},
        {"legacy": True},
        {"add_prefix_space": False, "add_bos_token": True},
        {"extra_special_tokens": ["<a>"]},
    ):
        yield {
            "tokenizer.model": sentencepiece(["<unk>", "<s>", "</s>"]).hex(),
            "config.json": {"model_type": "llama"},
            "tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer", **options},
        }
    yield {
        "tokenizer.model": sentencepiece(["<unk>", "<bos>", "<eos>"]).hex(),
        "config.json": {"model_type": "gemma"},
        "tokenizer_config.json": {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True},
    }


    merged = [b"th", b"he", b"the", b" the", b"in", "é".encode(), "日".encode(), b"12"]
    words = [bytes([i]) for i in range(256)] + merged
    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+"
    yield {
        "tekken.json": {
            "config": {"pattern": pattern, "default_vocab_size": 271, "default_num_special_tokens": 8},
            "vocab": [{"rank": i, "token_bytes": base64.b64encode(w).decode()} for i, w in enumerate(words)],
            "special_tokens": [{"rank": i, "token_str": t} for i, t in enumerate(["<unk>", "<s>", "</s>", "<h>"])],
        },
        "config.json": {"model_type": "llama"},
    }
    ranks = "".join(f"{base64.b64encode(w).decode()} {i}\n" for i, w in enumerate(words)).encode()
    decoder = {str(len(words) + i): {"content": t, "special": True, **FLAGS} for i, t in ((0, "<s>"), (2, "</s>"))}
    for options in (
        {"tokenizer_class": "PreTrainedTokenizerFast"},
        {"tokenizer_class": "TokenizersBackend", "added_tokens_decoder": decoder, "bos_token": "<s>", "eos_token": "</s>"},
    ):
        yield {
            "tiktoken.model": ranks.hex(),
            "config.json": {"model_type": "llama"},
            "tokenizer_config.json": options,
        }


def results(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            with open(os.path.join(folder, name), "wb") as out:
                out.write(
                    bytes.fromhex(content)
                    if name.endswith(".model")
                    else (content if isinstance(content, str) else json.dumps(content)).encode()
                )
        t = (TokenizersBackend if "tekken.json" in files else AutoTokenizer).from_pretrained(folder)
    special = {i for i, token in t.added_tokens_decoder.items() if token.special} | set(t.all_special_ids)
    with_template = t.encode("the")
    adds = with_template[:1] == [t.bos_token_id] and with_template != t.encode("the", add_special_tokens=False)
    return {
        "files": files,
        "texts": TEXTS,
        "ids": [t.encode(text, add_special_tokens=False) for text in TEXTS],
        "special": sorted(i for i in special if i is not None),
        "bos": t.bos_token_id if t.bos_token_id is not None else -1,
        "eos": t.eos_token_id if t.eos_token_id is not None else -1,
        "adds_bos": adds,
    }


def main():
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        out.write("[\n" + ",\n".join(json.dumps(results(files)) for files in folders()) + "\n]\n")


if __name__ == "__main__":
    main()
