#!/usr/bin/env python3
"""A program for `naming.command`: reads one request of microw as JSON, and writes the answer as JSON.

    naming: {command: "python3 tools/name_latents.py --url http://localhost:11434/v1 --model llama3.1"}
    naming: {command: "python3 tools/name_latents.py --words"}

--url is any server with OpenAI's chat completions (Ollama, vLLM, llama.cpp, hosted ones); the environment variable
NAMING_KEY holds its key. --words uses no server: the name is the commonest strongest words, and a text is taken to have
the latent if it contains one of them. This is a baseline for better names. Needs only the standard library.
"""
import argparse
import collections
import json
import os
import re
import sys
import urllib.request

NAME_PROMPT = """Below are texts on which one feature of a language model is active. Tokens on which it is active are marked \
<<like this>>, more strongly with more marks. {logits}Say what the feature stands for, in at most ten words. Answer with JSON \
only: {{"name": "...", "note": "one sentence on what you are less sure of"}}

{texts}"""

DETECT_PROMPT = """A feature of a language model was described as: {name}
For each numbered text say whether the feature is active somewhere in it. Answer with JSON only: a list of true or false, one \
for each text, in order.

{texts}"""


def marked(text):
    """Returns the text with its active tokens marked, the strongest third twice."""
    most = max(text["activations"], default=0)
    out = []
    for token, value in zip(text["tokens"], text["activations"]):
        marks = 0 if value <= 0 else 2 if value > 2 * most / 3 else 1
        out.append("<" * 2 * marks + token + ">" * 2 * marks if marks else token)
    return "".join(out)


def ask(args, prompt):
    """Returns the first JSON value in the model's answer, or None."""
    body = {"model": args.model, "temperature": 0, "messages": [{"role": "user", "content": prompt}]}
    request = urllib.request.Request(args.url.rstrip("/") + "/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    if os.environ.get("NAMING_KEY"):
        request.add_header("Authorization", "Bearer " + os.environ["NAMING_KEY"])
    with urllib.request.urlopen(request, timeout=args.timeout) as reply:
        said = json.load(reply)["choices"][0]["message"]["content"]
    start = re.search(r"[\[{]", said)
    if not start:
        return None
    try:
        return json.JSONDecoder().raw_decode(said[start.start():])[0]
    except ValueError:
        return None


def name_by_model(args, latent):
    logits = ""
    if latent.get("promoted"):
        logits = "It makes these tokens likelier: " + ", ".join(map(repr, latent["promoted"])) + ". "
    texts = "\n".join(f"{i + 1}. {marked(t)}" for i, t in enumerate(latent["texts"]))
    said = ask(args, NAME_PROMPT.format(logits=logits, texts=texts))
    if not isinstance(said, dict) or not said.get("name"):
        return None
    return {"latent": latent["latent"], "name": str(said["name"]), "note": str(said.get("note", "")), "by": args.model}


def detect_by_model(args, latent):
    texts = "\n".join(f"{i + 1}. {t}" for i, t in enumerate(latent["texts"]))
    said = ask(args, DETECT_PROMPT.format(name=latent["name"], texts=texts))
    if not isinstance(said, list) or len(said) != len(latent["texts"]):
        return None
    return {"latent": latent["latent"], "active": [bool(x) for x in said]}


def name_by_words(latent):
    words = collections.Counter()
    for text in latent["texts"]:
        if text["activations"]:
            words[text["tokens"][text["activations"].index(max(text["activations"]))].strip()] += 1
    chosen = [w for w, _ in words.most_common(12) if w]
    return {"latent": latent["latent"], "name": " / ".join(chosen), "by": "words"} if chosen else None


def detect_by_words(latent):
    words = set(latent["name"].split(" / "))
    return {"latent": latent["latent"], "active": [bool(words & set(t.split())) for t in latent["texts"]]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="address of a server with chat completions, for instance http://localhost:11434/v1")
    parser.add_argument("--model", default="llama3.1")
    parser.add_argument("--words", action="store_true", help="names from words, without a server")
    parser.add_argument("--timeout", type=float, default=120, help="seconds to wait for an answer of the server")
    args = parser.parse_args()
    if not args.words and not args.url:
        parser.error("expected --url or --words")
    request = json.load(sys.stdin)
    naming = request["task"] == "name"
    if args.words:
        answers = [(name_by_words if naming else detect_by_words)(latent) for latent in request["latents"]]
    else:
        answers = [(name_by_model if naming else detect_by_model)(args, latent) for latent in request["latents"]]
    json.dump({"latents": [a for a in answers if a]}, sys.stdout)


if __name__ == "__main__":
    main()
