#!/bin/bash
# Guess: adding rope_scaling to the config.json that transformers 5 saves changes the scaling alone, and "type" is read as in older files.
# What happens (transformers 5.24.0): rope_scaling replaces rope_parameters, so a Llama of rope_theta 500000 goes on with 10000; and in
# Gemma 3 the older spelling "type" is kept as a key but not applied: the layers stay unscaled. No warning is printed. Who stretches a
# context by the recipe of most model cards gets other positions, and a reader that merges both differs from transformers.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q transformers==5.24.0
cat >"$work/load.py" <<'END'
import json, os, tempfile
import transformers as tf

def load(make, change):
    """Saves a configuration, changes its config.json, and reads it again."""
    folder = tempfile.mkdtemp(dir=os.environ["WORK"])
    make(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=99).save_pretrained(folder)
    path = os.path.join(folder, "config.json")
    with open(path) as file:
        config = json.load(file)
    if make is tf.LlamaConfig:
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": 500000.0}
    config.update(change)
    with open(path, "w") as file:
        json.dump(config, file)
    return tf.AutoConfig.from_pretrained(folder).rope_parameters

scaled = load(tf.LlamaConfig, {"rope_scaling": {"rope_type": "linear", "factor": 2.0}})
print("Llama:", load(tf.LlamaConfig, {})["rope_theta"], "with rope_scaling:", scaled["rope_type"], scaled["rope_theta"])
for spelling in "rope_type", "type":
    full = load(tf.Gemma3TextConfig, {"rope_scaling": {spelling: "linear", "factor": 8.0}})["full_attention"]
    print("Gemma 3 with", spelling + ":", full["rope_type"], full["rope_theta"])
END
cd "$work"
seen=$(WORK=$work "$work/env/bin/python" load.py 2>"$work/warnings")
echo "transformers 5.24.0"
echo "$seen"
grep -i rope "$work/warnings" || echo "(no warning about it)"
[ "$seen" = "Llama: 500000.0 with rope_scaling: linear 10000.0
Gemma 3 with rope_type: linear 1000000.0
Gemma 3 with type: default 1000000.0" ] && echo "as described" && exit 0
echo "this has changed"
exit 1
