"""microw's tokenizer beside the `tokenizers` library on one thread: megabytes per second, interleaved, medians of 5.

    cmake --build build --target bench
    python tools/bench/tokenizer.py --program build/tools/bench/bench_tokenizer --tokenizer DIR/tokenizer.json --text FILE
"""
import argparse
import os
import statistics
import subprocess
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
from tokenizers import Tokenizer  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default="build/tools/bench/bench_tokenizer")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--text", required=True)
    args = parser.parse_args()
    with open(args.text, encoding="utf-8", newline="") as f:
        lines = f.read().split("\n")
    size = os.path.getsize(args.text) / 1e6
    ours, theirs = [], []
    for _ in range(5):
        rate, count = subprocess.run([args.program, args.tokenizer, args.text], check=True, capture_output=True,
                                     text=True).stdout.split()
        ours.append(float(rate))
        peer = Tokenizer.from_file(args.tokenizer)
        start = time.perf_counter()
        ids = sum(len(e.ids) for e in peer.encode_batch(lines, add_special_tokens=False))
        theirs.append(size / (time.perf_counter() - start))
        assert ids == int(count), (ids, count)
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"{os.path.basename(os.path.dirname(args.tokenizer))}: microw {a:.1f} MB/s, tokenizers {b:.1f} MB/s, ratio {a / b:.1f}")


if __name__ == "__main__":
    main()
