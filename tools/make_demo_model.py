"""Trains the demo model (a small GPT-2) and its tokenizer on stories from tools/demo_grammar.py.

    python tools/make_demo_model.py --out configs/demo/model

Deterministic for pinned versions (tools/requirements.txt) on one machine; about ten minutes on two cores.
"""
import argparse
import json
import os
import sys

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel

sys.path.insert(0, os.path.dirname(__file__))
import demo_grammar  # noqa: E402

END = "<|endoftext|>"
CONTEXT = 64


def make_tokenizer(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=1400, special_tokens=[END], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    for word in demo_grammar.categories():
        assert len(tokenizer.encode(" " + word).ids) == 1, word
    return tokenizer


def batches(stream, batch, rng):
    while True:
        starts = rng.integers(0, len(stream) - CONTEXT - 1, batch)
        yield torch.from_numpy(np.stack([stream[s:s + CONTEXT] for s in starts]).astype(np.int64))


def train(model, stream, steps, batch, lr):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    source = batches(stream, batch, np.random.default_rng(0))
    for step in range(steps):
        ids = next(source)
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step} loss {loss.item():.4f}", flush=True)
    return loss.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=1500)
    args = parser.parse_args()
    torch.manual_seed(0)
    texts = demo_grammar.stories(40000, seed=0)
    tokenizer = make_tokenizer(texts)
    end = tokenizer.token_to_id(END)
    stream = np.array([i for e in tokenizer.encode_batch(texts) for i in [end] + e.ids], dtype=np.int32)
    config = GPT2Config(vocab_size=tokenizer.get_vocab_size(), n_positions=CONTEXT, n_embd=128, n_layer=4, n_head=4,
                        bos_token_id=end, eos_token_id=end, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    model = GPT2LMHeadModel(config)
    loss = train(model, stream, args.steps, 64, 2e-3)
    model.half().save_pretrained(args.out)
    tokenizer.save(os.path.join(args.out, "tokenizer.json"))
    with open(os.path.join(args.out, "tokenizer_config.json"), "w", encoding="utf-8") as f:
        json.dump({"bos_token": END, "eos_token": END, "model_max_length": CONTEXT, "add_prefix_space": False,
                   "tokenizer_class": "GPT2Tokenizer"}, f, indent=1)
        f.write("\n")
    print(f"final loss {loss:.4f}, vocabulary {tokenizer.get_vocab_size()}")


if __name__ == "__main__":
    main()
