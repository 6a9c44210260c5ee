#!/bin/bash
# Guess: AutoTokenizer runs the pipeline that tokenizer.json describes, whatever tokenizer_class says; the class only adds special tokens.
# What happens (transformers 5.24.0, tokenizers 0.23.3): a class with a pipeline of its own, GPT2Tokenizer or GPTNeoXTokenizer, takes
# vocabulary and merges from tokenizer.json and ignores its pre-tokenizer, without a warning. A Llama with tokenizer_class GPT2Tokenizer
# and a split of digits (SmolLM's layout) gets other ids for numbers than those that it was trained on. For some model types (gpt_bigcode,
# granite) the library knows better, so that the same files give other ids beside another config.json.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q transformers==5.24.0 tokenizers==0.23.3
cat >"$work/compare.py" <<'END'
import json, os
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer

folder = os.path.join(os.environ["WORK"], "model")
os.mkdir(folder)

def write(name, value):
    with open(os.path.join(folder, name), "w") as file:
        json.dump(value, file)

letters = sorted(ByteLevel.alphabet())
vocab = {t: i for i, t in enumerate(letters + ["in", "12", "123", "</s>"])}
level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
write("tokenizer.json", {
    "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None, "decoder": level,
    "added_tokens": [{"id": vocab["</s>"], "content": "</s>", "single_word": False, "lstrip": False, "rstrip": False,
                      "normalized": False, "special": True}],
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, level]},
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
              "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab,
              "merges": [["i", "n"], ["1", "2"], ["12", "3"]]}})
print("tokenizer.json:", Tokenizer.from_file(os.path.join(folder, "tokenizer.json")).encode("in 123").tokens)
for model, name in (("llama", "PreTrainedTokenizerFast"), ("llama", "GPT2Tokenizer"), ("llama", "GPTNeoXTokenizer"),
                    ("gpt_bigcode", "GPT2Tokenizer")):
    write("config.json", {"model_type": model})
    write("tokenizer_config.json", {"tokenizer_class": name, "eos_token": "</s>"})
    print(model, name + ":", AutoTokenizer.from_pretrained(folder).tokenize("in 123"))
END
cd "$work"
seen=$(WORK=$work "$work/env/bin/python" compare.py 2>/dev/null)
echo "transformers 5.24.0, tokenizers 0.23.3"
echo "$seen"
[ "$seen" = "tokenizer.json: ['in', 'Ġ', '1', '2', '3']
llama PreTrainedTokenizerFast: ['in', 'Ġ', '1', '2', '3']
llama GPT2Tokenizer: ['in', 'Ġ', '123']
llama GPTNeoXTokenizer: ['in', 'Ġ', '123']
gpt_bigcode GPT2Tokenizer: ['in', 'Ġ', '1', '2', '3']" ] && echo "as described" && exit 0
echo "this has changed"
exit 1
