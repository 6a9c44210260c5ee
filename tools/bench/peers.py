"""microw beside comparable libraries, interleaved in one run; medians.

    python tools/bench/peers.py [--only step|memory|texts|startup|harvest] [--rounds N] [--older DIR] [--json]

step:    a training step of a TopK SAE, d 768, n 24576, k 32, batch 4096, f32: torch (dense, sparse), dictionary_learning, SAELens,
         sparsify, mi-crow, each with its own training code and its own defaults otherwise; the bf16 step; with --older the
         same two of another build's bench folder
memory:  peak memory of a process that trains this SAE, less its memory before it made the SAE
texts:   the strongest texts of each latent from stored activations: microw's discover (read, encoded, kept, written) beside
         mi-crow's tracker and a vectorized torch version, which get the codes
startup: from a shell until help is printed or the library is imported; until a model has run over one line of text
harvest: the demo model over its corpus, one site, to disk: microw, transformers with a hook and h5py, mi-crow
Needs `tools/peers_venv.sh DIR`, `cmake --build build --target bench` and, for texts, a store made by
`build/microw run configs/quickstart.yaml`. Run from the project's folder.
"""
import argparse
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # its decoder kernel needs a GPU; the eager decoder computes the same
SHAPE = {"d": 768, "n": 24576, "k": 32, "batch": 4096}


def in_turns(rounds, calls):
    """Returns the medians of the seconds that each call returns; calls are interleaved."""
    made = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            made[name].append(call())
    return {name: statistics.median(seconds) for name, seconds in made.items()}


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def shell(command, **more):
    return timed(lambda: subprocess.run(command, check=True, capture_output=True, **more))


def show(a, title, rows, unit="s", digits=3):
    """Prints rows {name: number}; microw's is the first."""
    if a.json:
        return
    print(title)
    base = next(iter(rows.values()))
    for name, value in rows.items():
        print(f"  {name:34s} {value:12.{digits}f} {unit}   {value / base:7.2f} times microw's")


# ---- a step


def peer_steps(s):
    """Returns {name: function that runs the step}."""
    sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")]
    import contextlib
    import torch
    x = torch.randn(s["batch"], s["d"], generator=torch.Generator().manual_seed(1))

    def torch_step(sparse):
        def make():
            from sae_step_torch import Step
            step = Step(s["d"], s["n"], s["k"], "cpu", sparse)
            return lambda: step(x, step.loss, contextlib.nullcontext)
        return make

    def dictionary_learning():
        from dictionary_learning.trainers.top_k import TopKTrainer
        trainer = TopKTrainer(steps=1000, activation_dim=s["d"], dict_size=s["n"], k=s["k"], layer=0, lm_name="none", device="cpu",
                              lr=1e-4, warmup_steps=0, decay_start=None)
        count = iter(range(10**6))
        return lambda: trainer.update(next(count), x)

    def saelens():
        import sae_lens.saes as saes
        from sae_lens.config import SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer
        sae = saes.TopKTrainingSAE(saes.TopKTrainingSAEConfig(d_in=s["d"], d_sae=s["n"], k=s["k"]))
        config = SAETrainerConfig(total_training_samples=1000 * s["batch"], train_batch_size_samples=s["batch"], lr=1e-4, lr_end=1e-4,
                                  lr_warm_up_steps=0, lr_decay_steps=0, dead_feature_window=1000)
        trainer = SAETrainer(config, sae, iter([]))
        return lambda: trainer.step(x)

    def sparsify():
        from sparsify import SparseCoder, SparseCoderConfig
        sae = SparseCoder(s["d"], SparseCoderConfig(num_latents=s["n"], k=s["k"]))
        optimizer = torch.optim.Adam(sae.parameters(), lr=1e-4)

        def step():
            sae.set_decoder_norm_to_unit_norm()
            sae(x).fvu.backward()
            sae.remove_gradient_parallel_to_decoder_directions()
            optimizer.step()
            optimizer.zero_grad()
        return step

    def mi_crow():
        from mi_crow.mechanistic.sae.modules.topk_sae import TopKSae
        from mi_crow.mechanistic.sae.sae_trainer import SaeTrainer, SaeTrainingConfig
        from overcomplete.sae.train import train_sae
        sae = TopKSae(n_latents=s["n"], n_inputs=s["d"])
        sae.sae_engine = sae._initialize_sae_engine(k=s["k"])
        trainer, config = SaeTrainer(sae), SaeTrainingConfig(lr=1e-4, batch_size=s["batch"])
        optimizer, criterion = trainer._create_optimizer(config), trainer._create_criterion(config)
        return lambda: train_sae(sae.sae_engine, [x], criterion, optimizer, nb_epochs=1, clip_grad=1.0, monitoring=1)

    return {"torch, dense": torch_step(False), "torch, sparse": torch_step(True), "dictionary_learning": dictionary_learning,
            "SAELens": saelens, "sparsify": sparsify, "mi-crow": mi_crow}


def bench_step(folder, rounds=3, precision="f32"):
    s = SHAPE
    done = subprocess.run([folder + "/bench_sae_step", "--json", "--device", "cpu", "--rounds", str(rounds), "--precision", precision,
                           "--shape", f"{s['d']},{s['n']},{s['k']},{s['batch']}"], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def step(a):
    products = {"f32": [], "bf16": []}

    def ours(folder, precision):
        def run():
            result = bench_step(folder, precision=precision)
            if folder == a.bench:
                products[precision].append(result["encoder_s"])
            return result["step_s"]
        return run

    calls = {"microw": ours(a.bench, "f32"), "microw, bf16": ours(a.bench, "bf16")}
    if a.older:
        calls |= {"microw, older": ours(a.older, "f32"), "microw, older, bf16": ours(a.older, "bf16")}
    for name, make in peer_steps(SHAPE).items():
        run = make()
        run()
        calls[name] = lambda run=run: timed(run)
    made = in_turns(a.rounds, calls)
    for precision, seconds in products.items():
        made[f"microw's {precision} encoder product alone"] = statistics.median(seconds)
    show(a, f"a step of a TopK SAE, {SHAPE}", made)
    return made


# ---- memory


def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


IMPORTS = {"dictionary_learning": ["dictionary_learning"], "SAELens": ["sae_lens"], "sparsify": ["sparsify"],
           "mi-crow": ["overcomplete", "mi_crow.mechanistic.sae.modules.topk_sae"]}


def child_memory(name):
    """Runs two steps of one tool in a separate process."""
    import torch
    for module in IMPORTS.get(name, []):
        importlib.import_module(module)
    make = peer_steps(SHAPE)[name]
    torch.ones(8, 8) @ torch.ones(8, 8)
    before = peak()
    run = make()
    for _ in range(2):
        run()
    print(json.dumps(peak() - before))


def memory(a):
    s, made = SHAPE, {"microw": bench_step(a.bench, 1)["memory_bytes"] / 1e6}
    for name in peer_steps(s):
        done = subprocess.run([sys.executable, __file__, "--child", name], check=True, capture_output=True, text=True)
        made[name] = json.loads(done.stdout.splitlines()[-1]) / 1e6
    least = 4 * s["n"] * s["d"] * 2 / 1e6
    show(a, f"memory of training, {SHAPE}; weights alone are {least:.0f} MB", made, "MB", 0)
    return made


# ---- top texts


def read_demo(a):
    """Returns activations of whole sequences, padded to the longest; texts; the SAE's tensors."""
    import h5py
    import numpy
    import torch
    from safetensors.torch import load_file
    file = h5py.File(f"{a.store}/activations/quickstart/activations.h5")
    values = file["sites/2.resid_post/values"][:].astype(numpy.uint32) << 16
    x = torch.from_numpy(values.view(numpy.float32))
    offset, length = file["sequences/offset"][:].astype(int), file["sequences/length"][:].astype(int)
    return x, offset, length, load_file(f"{a.store}/sae_models/quickstart/sae.safetensors")


def codes_of(x, sae, k):
    import torch
    pre = torch.nn.functional.linear(x - sae["b_dec"], sae["W_enc"], sae["b_enc"])
    value, index = pre.topk(k, dim=-1)
    return torch.zeros_like(pre).scatter(1, index, torch.relu(value))


def texts(a):
    import torch
    from mi_crow.mechanistic.sae.concepts.autoencoder_concepts import AutoencoderConcepts
    x, offset, length, sae = read_demo(a)
    n, batch, width = sae["W_enc"].shape[0], 64, int(length.max())
    batches = []
    for first in range(0, min(len(offset), a.sequences), batch):
        block = torch.zeros(min(batch, len(offset) - first), width, x.shape[1])
        for i in range(len(block)):
            block[i, :length[first + i]] = x[offset[first + i]:offset[first + i] + length[first + i]]
        batches.append(codes_of(block.flatten(0, 1), sae, 16))
    rows = sum(len(z) for z in batches)

    class Context:
        lm, n_latents, text_tracking_k, text_tracking_negative = None, n, 20, False

    def crow():
        concepts = AutoencoderConcepts(Context())
        concepts._text_tracking_k = 20
        for b, z in enumerate(batches):
            count = len(z) // width
            concepts.update_top_texts_from_latents(z, [f"text {b * batch + i}" for i in range(count)], (count, width, x.shape[1]))

    def vectorized():
        best = torch.full((20, n), -1.0)
        for z in batches:
            best = torch.cat([best, z.view(-1, width, n).amax(1)]).topk(20, dim=0).values

    def ours():
        with tempfile.TemporaryDirectory() as folder:
            os.symlink(os.path.abspath(f"{a.store}/activations"), folder + "/activations")
            os.makedirs(folder + "/sae_models/quickstart")
            for name in ("sae.safetensors", "cfg.json"):
                os.symlink(os.path.abspath(f"{a.store}/sae_models/quickstart/{name}"), f"{folder}/sae_models/quickstart/{name}")
            sets = [f"store={folder}", "discover.top_texts=20", "discover.neighbours=0", "discover.samples=0", "discover.logit_tokens=0"]
            return shell([a.microw, "discover", "configs/quickstart.yaml"] + [p for s in sets for p in ("--set", s)]) / len(x)

    made = in_turns(a.rounds, {"microw, all of discover": ours, "mi-crow, tracking alone": lambda: timed(crow) / rows,
                               "torch, tracking alone": lambda: timed(vectorized) / rows})
    made = {name: seconds * 1e6 for name, seconds in made.items()}
    show(a, "the 20 strongest texts of 1024 latents", made, "us a token", 2)
    return made


# ---- start-up

MODEL = "configs/demo/model"
RUN_TRANSFORMERS = f"""
import torch, transformers
m = transformers.AutoModelForCausalLM.from_pretrained('{MODEL}', dtype=torch.float32)
t = transformers.AutoTokenizer.from_pretrained('{MODEL}')
m(**t('one morning the', return_tensors='pt'))
"""


def startup(a):
    python = lambda code: [sys.executable, "-c", code]
    lm = ["--set", "store=" + tempfile.mkdtemp(), "--overwrite"]
    one = [a.microw, "harvest", "configs/quickstart.yaml", "--set", "dataset.limit_documents=1"] + lm
    first = in_turns(a.rounds, {"microw, help": lambda: shell([a.microw, "help"]),
                                "import torch": lambda: shell(python("import torch")),
                                "import transformers, model class": lambda: shell(python("from transformers import GPT2LMHeadModel")),
                                "import dictionary_learning": lambda: shell(python("import dictionary_learning")),
                                "import sparsify": lambda: shell(python("import sparsify")),
                                "import sae_lens": lambda: shell(python("import sae_lens")),
                                "import mi_crow's LanguageModel": lambda: shell(python("from mi_crow.language_model.language_model import LanguageModel"))})
    show(a, "start", first)
    second = in_turns(a.rounds, {"microw, one text harvested": lambda: shell(one),
                                 "transformers, one forward pass": lambda: shell(python(RUN_TRANSFORMERS))})
    show(a, "until a model has run over a line of text", second)
    return first | second


# ---- harvest


def harvest(a):
    import h5py
    import torch
    import transformers
    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    lines = [line for line in open("configs/demo/corpus.txt", encoding="utf-8").read().split("\n") if line]
    ids = [tokenizer(line)["input_ids"][:64] for line in lines]
    tokens = sum(map(len, ids))
    layers = model.transformer.h if hasattr(model, "transformer") else model.model.layers

    def hooked():
        with tempfile.TemporaryDirectory() as folder, h5py.File(folder + "/x.h5", "w") as file, torch.no_grad():
            width = model.config.hidden_size
            out, at, taken = file.create_dataset("values", (tokens, width), "float16"), 0, []
            handle = layers[2].register_forward_hook(lambda m, i, o: taken.append(o[0] if isinstance(o, tuple) else o))
            for first in range(0, len(lines), 64):
                some = [tokenizer(line)["input_ids"][:64] for line in lines[first:first + 64]]
                length = max(map(len, some))
                block, mask = torch.zeros(len(some), length, dtype=torch.long), torch.zeros(len(some), length, dtype=torch.long)
                for i, row in enumerate(some):
                    block[i, :len(row)] = torch.tensor(row)
                    mask[i, :len(row)] = 1
                taken.clear()
                model(block, attention_mask=mask)
                rows = taken[0][mask.bool()].half().numpy()
                out[at:at + len(rows)] = rows
                at += len(rows)
            handle.remove()

    def crow():
        from mi_crow.language_model.language_model import LanguageModel
        from mi_crow.store.local_store import LocalStore
        with tempfile.TemporaryDirectory() as folder:
            lm = LanguageModel.from_huggingface(MODEL, store=LocalStore(folder))
            name = lm.layers.get_layer_names()
            wanted = [n for n in name if n.endswith("_2")][0]
            start = time.perf_counter()
            lm.activations.save_activations(lines, layer_signature=wanted, batch_size=64, max_length=64, dtype=torch.float16, autocast=False)
            return time.perf_counter() - start

    def ours():
        with tempfile.TemporaryDirectory() as folder:
            return shell([a.microw, "harvest", "configs/quickstart.yaml", "--set", f"store={folder}"])

    calls = {"microw (the whole program)": ours, "transformers, hook, h5py": lambda: timed(hooked)}
    try:
        crow()
        calls["mi-crow"] = crow
    except Exception as error:  # its interface changes between versions
        print("mi-crow's harvest does not run here:", error, file=sys.stderr)
    made = in_turns(a.rounds, calls)
    show(a, f"the demo model over its corpus, {tokens} tokens, one site to disk", made)
    return made


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=["step", "memory", "texts", "startup", "harvest"])
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--microw", default="build/microw")
    p.add_argument("--bench", default="build/tools/bench")
    p.add_argument("--older", help="the tools/bench folder of another build")
    p.add_argument("--store", default="store")
    p.add_argument("--sequences", type=int, default=2000, help="sequences of `texts` for the tools that get codes")
    p.add_argument("--child", help=argparse.SUPPRESS)
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    if a.child:
        return child_memory(a.child)
    made = {name: what(a) for name, what in (("step", step), ("memory", memory), ("texts", texts), ("startup", startup), ("harvest", harvest))
            if not a.only or a.only == name}
    if a.json:
        print(json.dumps(made))


if __name__ == "__main__":
    main()
