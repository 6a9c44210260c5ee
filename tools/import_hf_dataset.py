"""Converts a Hugging Face dataset (hub, local parquet/arrow/csv/json files, or saved to disk) to files that microw
reads.

    pip install datasets
    python tools/import_hf_dataset.py roneneldan/TinyStories --split train --limit 100000 --out data/tinystories
    python tools/import_hf_dataset.py shard-0.parquet --out data/shard
    python tools/import_hf_dataset.py parquet --files 'shard-*.parquet' --column content --out data/code
    python tools/import_hf_dataset.py allenai/c4 --config en --streaming --limit 1000000 --tokenizer gpt2 --out data/c4

Writes OUT-00000.jsonl, ... (one {"text": ...} per line, --shard documents per file), or with --tokenizer
one-dimensional OUT-00000.npy token shards (u16 or u32), with documents separated by the tokenizer's end-of-text token.
"""
import argparse
import glob
import json
import os
import sys


# Name of the reader in `datasets` for each ending of a local file.
READERS = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json",
           ".ndjson": "json", ".txt": "text"}


def reader_of(path):
    plain = path.lower()
    for packed in (".gz", ".zst", ".bz2", ".xz"):
        plain = plain.removesuffix(packed)
    ending = os.path.splitext(plain)[1]
    if ending not in READERS:
        sys.exit(f"{path}: expected a file that ends in {', '.join(READERS)}")
    return READERS[ending], {"delimiter": "\t"} if ending == ".tsv" else {}


def open_dataset(args):
    import datasets
    if os.path.isfile(args.dataset):
        reader, options = reader_of(args.dataset)
        return datasets.load_dataset(reader, data_files=[args.dataset], split="train", streaming=args.streaming, **options)
    if os.path.isdir(args.dataset) and os.path.exists(os.path.join(args.dataset, "dataset_info.json")):
        return datasets.load_from_disk(args.dataset)
    options = {"split": args.split, "streaming": args.streaming}
    if args.config:
        options["name"] = args.config
    if args.files:
        files = sorted(f for pattern in args.files for f in glob.glob(pattern))
        if not files:
            sys.exit(f"no file matches {args.files}")
        options["data_files"] = files
    return datasets.load_dataset(args.dataset, **options)


def texts(args):
    count = skipped = 0
    for row in open_dataset(args):
        if args.column not in row:
            sys.exit(f"no column '{args.column}'; there are: {', '.join(row)}")
        text = row[args.column]
        if not isinstance(text, str) or not text.strip():
            skipped += 1
            continue
        yield text
        count += 1
        if args.limit and count >= args.limit:
            break
    if skipped:
        print(f"skipped {skipped} rows without text in column '{args.column}'", file=sys.stderr)
    if not count:
        sys.exit("no row has text: nothing was written")


def shards(items, size):
    shard = []
    for item in items:
        shard.append(item)
        if len(shard) == size:
            yield shard
            shard = []
    if shard:
        yield shard


def replace_atomically(path, write):
    temporary = path + ".tmp"
    write(temporary)
    os.replace(temporary, path)
    print(path, flush=True)


def write_jsonl(path, documents):
    def write(to):
        with open(to, "w", encoding="utf-8") as out:
            for text in documents:
                out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    replace_atomically(path, write)


def write_tokens(path, documents, tokenizer, separator):
    import numpy as np
    ids = []
    for encoding in tokenizer.encode_batch(documents, add_special_tokens=False):
        ids.extend([separator] + encoding.ids)
    dtype = np.uint16 if tokenizer.get_vocab_size() <= 65536 else np.uint32

    def write(to):
        with open(to, "wb") as out:
            np.save(out, np.array(ids, dtype=dtype))
    replace_atomically(path, write)


def load_tokenizer(name):
    from tokenizers import Tokenizer
    path = os.path.join(name, "tokenizer.json") if os.path.isdir(name) else name
    tokenizer = Tokenizer.from_file(path) if os.path.exists(path) else Tokenizer.from_pretrained(name)
    for token in ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"):
        if tokenizer.token_to_id(token) is not None:
            return tokenizer, tokenizer.token_to_id(token)
    sys.exit(f"{name}: no end-of-text token found")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="hub id, folder saved to disk, a local file (.parquet, .arrow, .csv, .json, ...), "
                        "or parquet, arrow, csv, json, text with --files")
    parser.add_argument("--config")
    parser.add_argument("--split", default="train")
    parser.add_argument("--files", nargs="*")
    parser.add_argument("--column", default="text")
    parser.add_argument("--streaming", action="store_true")
    parser.add_argument("--limit", type=int, default=0, help="number of documents; 0: all")
    parser.add_argument("--shard", type=int, default=100_000, help="documents per file")
    parser.add_argument("--tokenizer", help="write token shards of this tokenizer instead of texts")
    parser.add_argument("--out", required=True, help="prefix of the files")
    args = parser.parse_args()
    os.makedirs(os.path.dirname(args.out) or ".", exist_ok=True)
    tokenizer = load_tokenizer(args.tokenizer) if args.tokenizer else None
    for number, documents in enumerate(shards(texts(args), args.shard)):
        if tokenizer:
            write_tokens(f"{args.out}-{number:05d}.npy", documents, *tokenizer)
        else:
            write_jsonl(f"{args.out}-{number:05d}.jsonl", documents)


if __name__ == "__main__":
    main()
