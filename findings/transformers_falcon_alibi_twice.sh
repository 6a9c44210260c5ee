#!/bin/bash
# Guess: attn_implementation chooses how Falcon's attention is computed, not what: eager and sdpa agree to rounding.
# What happens (transformers 5.24.0): with `alibi: true` (falcon-rw) the eager attention adds ALiBi twice, once to the scores and once in
# the mask, so that logits differ by percents; eager with half the bias equals sdpa. Who asks for attention weights, which needs eager,
# looks at another model than the one that sdpa, the default, runs.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.15.0 transformers==5.24.0
cat >"$work/compare.py" <<'END'
import os
import torch
import transformers as tf
import transformers.models.falcon.modeling_falcon as falcon

torch.manual_seed(0)
config = tf.FalconConfig(vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True,
                         multi_query=False, parallel_attn=False, bias=True, bos_token_id=1, eos_token_id=1)
model = tf.AutoModelForCausalLM.from_config(config)
for parameter in model.parameters():
    parameter.data = 0.1 * parameter.data + 0.3 * torch.randn(parameter.shape) / (parameter.shape[-1] / 8) ** 0.5
folder = os.path.join(os.environ["WORK"], "model")
model.save_pretrained(folder)

def logits(how):
    model = tf.AutoModelForCausalLM.from_pretrained(folder, attn_implementation=how).eval()
    with torch.no_grad():
        return model(torch.arange(40)[None], use_cache=False).logits

eager, sdpa = logits("eager"), logits("sdpa")
full = falcon.build_alibi_tensor
falcon.build_alibi_tensor = lambda *a, **k: full(*a, **k) / 2
half = logits("eager")
largest = sdpa.abs().max()
print("eager and sdpa differ by", "more" if (eager - sdpa).abs().max() > 0.005 * largest else "less", "than 0.5 %")
print("eager with half the bias and sdpa differ by",
      "more" if (half - sdpa).abs().max() > 1e-5 * largest else "less", "than 0.001 %")
END
cd "$work"
seen=$(WORK=$work "$work/env/bin/python" compare.py 2>/dev/null)
echo "transformers 5.24.0"
echo "$seen"
[ "$seen" = "eager and sdpa differ by more than 0.5 %
eager with half the bias and sdpa differ by less than 0.001 %" ] && echo "as described" && exit 0
echo "this has changed"
exit 1
