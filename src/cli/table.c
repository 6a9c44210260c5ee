/* Table of all verbs and options. */
#include "cli/table.h"

#include <string.h>

#define STAGES "run harvest train discover name evaluate steer report"

const verb verbs[] = {
    {"run", "exp.yaml", 1, 1, "runs every stage of the file; skips complete ones",
     "name, store, quota_gb, and all sections but sweep", "microw run exp.yaml --set sae.k=64 --set name=k64",
     verb_stage, NULL, true},
    {"harvest", "exp.yaml", 1, 1, "stores activations of the model on the dataset",
     "name, store, quota_gb, model, dataset, hooks, harvest", "mpirun -np 8 microw harvest exp.yaml", verb_stage, NULL,
     true},
    {"train", "exp.yaml", 1, 1, "trains the SAE on stored activations",
     "name, store, quota_gb, model, dataset, harvest (its sites), sae, train",
     "microw train exp.yaml --set train.lr=1e-3 --overwrite", verb_stage, NULL, true},
    {"discover", "exp.yaml", 1, 1, "finds each latent's strongest texts, neighbours and promoted tokens",
     "name, store, model, dataset, sae, discover", "microw discover exp.yaml --set discover.show=14", verb_stage, NULL,
     true},
    {"name", "exp.yaml", 1, 1, "requests names of latents from a program, and tests them",
     "name, store, model, dataset, sae, naming", "microw name exp.yaml --set naming.limit=200", verb_stage, NULL, true},
    {"evaluate", "exp.yaml", 1, 1, "measures the SAE, and the model with the SAE spliced in",
     "name, store, model, dataset, sae, evaluate", "microw evaluate exp.yaml", verb_stage, NULL, true},
    {"steer", "exp.yaml", 1, 1, "generates texts with steered latents, and measures the effect",
     "name, store, model, dataset, sae, steer", "microw steer exp.yaml --set steer.samples=20", verb_stage, NULL, true},
    {"report", "exp.yaml", 1, 1, "writes all results of a run to one HTML page", "name, store, model, sae, report",
     "microw report exp.yaml", verb_stage, NULL, true},
    {"sweep", "exp.yaml", 1, 1, "runs all points of the file's sweep, or one",
     "sweep, and what run reads; points differ in keys of sae, train, discover, evaluate and steer",
     "microw sweep configs/sweep.yaml --list", verb_sweep, NULL, true},
    {"names", "exp.yaml", 1, 1, "imports names of latents from a file, or exports them", "name, store, model, sae",
     "microw names exp.yaml --export names.json --format neuronpedia", verb_names, NULL, false},
    {"plot", "exp.yaml", 1, 1, "draws figures of a run with gnuplot", "name, store, model, sae",
     "microw plot exp.yaml --format pdf --latents 42,7", verb_plot, NULL, false},
    {"lab", "exp.yaml", 1, 1, "continues lines from the keyboard; latents can be steered between lines",
     "name, store, model, dataset (bos), sae, steer", "microw lab exp.yaml", verb_lab, NULL, false},
    {"serve", "exp.yaml", 1, 1, "serves the report, and generation with steered latents, on this machine only",
     "name, store, model, dataset (bos), sae, report", "microw serve exp.yaml --port 8080", verb_serve, NULL, true},
    {"plan", "exp.yaml", 1, 1, "estimates disk, memory and time of an experiment, and their scaling",
     "model, dataset, harvest, sae, train", "microw plan exp.yaml --gpus 64 --nodes 8 --device h100", verb_plan, NULL,
     false},
    {"generate", "", 0, 0, "continues a prompt, optionally with steered latents", "",
     "microw generate --model gpt2 --prompt \"The weather\" --sae store/sae_models/gpt2-l8 --scale 42=3,7=0", NULL,
     verb_generate, false},
    {"layers", "", 0, 0, "lists every site of a model with its width", "", "microw layers --model gpt2", NULL,
     verb_layers, false},
    {"inspect", "FILE|FOLDER", 1, 1, "shows a microw file or folder, or a model; verifies checksums", "",
     "microw inspect store/activations/gpt2-l8", NULL, verb_inspect, false},
    {"export", "", 0, 0, "writes an SAE in the format of another library", "",
     "microw export --sae store/sae_models/gpt2-l8 --format saelens --out sae-gpt2", NULL, verb_export, false},
    {"import", "", 0, 0, "reads an SAE in the format of another library", "",
     "microw import --from sae-gpt2 --format saelens --out store/sae_models/theirs", NULL, verb_import, false},
    {"config", "[exp.yaml]", 0, 1, "prints every key with its meaning, or the effective settings of a file",
     "all sections", "microw config exp.yaml --set sae.k=64", NULL, verb_config, false},
    {"doctor", "", 0, 0, "reports what this machine provides for microw, and what is missing or doubtful", "",
     "mpirun -np 8 microw doctor --store /scratch/me", verb_doctor, NULL, false},
    {0},
};

const option options[] = {
    {"--set", NULL, "KEY=VALUE", "sets a key of the file, for instance sae.k=64; VALUE is YAML",
     STAGES " sweep names plot lab serve plan config", OPTION_REPEATS},
    {"--overwrite", NULL, NULL, "replaces results made with other settings; they stay until the new ones are complete",
     STAGES " sweep", 0},
    {"--overwrite", NULL, NULL, "replaces an SAE of the same format in --out", "export import", 0},
    {"--steal-lock", NULL, NULL, "takes over the lock of another process, which must have ended",
     STAGES " sweep import", 0},
    {"--list", NULL, NULL, "lists the points: number, name, values", "sweep", 0},
    {"--table", NULL, NULL, "writes the finished points as a table, sweep.json, sweep.csv and a figure", "sweep", 0},
    {"--point", NULL, "N", "runs one point, by number or name", "sweep", OPTION_FILLED},
    {"--import", NULL, "FILE", "file of names to read: CSV, JSON, or a Neuronpedia export", "names", OPTION_FILLED},
    {"--export", NULL, "FILE", "file to write all names to", "names", OPTION_FILLED},
    {"--format", NULL, "FORMAT", "csv, json or neuronpedia (by the file's name)", "names", OPTION_FILLED},
    {"--format", NULL, "FORMAT", "svg, png or pdf (svg)", "plot", OPTION_FILLED},
    {"--format", NULL, "FORMAT", "saelens, sparsify or dictionary_learning", "export", OPTION_FILLED},
    {"--format", NULL, "FORMAT", "saelens or sparsify", "import", OPTION_FILLED},
    {"--out", NULL, "DIR", "folder of the figures (the run's folder)", "plot", OPTION_FILLED},
    {"--out", NULL, "DIR", "folder to write to", "export import", OPTION_FILLED},
    {"--latents", NULL, "42,7", "latents whose histograms are drawn", "plot", OPTION_FILLED},
    {"--port", NULL, "N", "port on 127.0.0.1 (0: any free port)", "serve", OPTION_FILLED},
    {"--gpus", NULL, "N", "number of GPUs, at the rates of their data sheet", "plan", OPTION_FILLED},
    {"--ranks", NULL, "N", "number of ranks on this machine (those of this command)", "plan", OPTION_FILLED},
    {"--nodes", NULL, "N", "number of nodes (1)", "plan", OPTION_FILLED},
    {"--device", NULL, "NAME", "h100, h200, a100, or measured (on the ranks of this command)", "plan", OPTION_FILLED},
    {"--tokens", NULL, "N", "tokens of the dataset (by the size of its files)", "plan", OPTION_FILLED},
    {"--model", NULL, "DIR", "a Hugging Face model folder, or a Hub id in the local cache", "generate layers",
     OPTION_FILLED},
    {"--prompt", NULL, "TEXT", "text to continue", "generate", 0},
    {"--bos", NULL, "WHEN",
     "a bos token before the prompt: auto (if the tokenizer has one and the prompt does not begin with "
     "it), always, never (auto)",
     "generate", OPTION_FILLED},
    {"--max-new-tokens", NULL, "N", "at most N new tokens (40)", "generate", OPTION_FILLED},
    {"--temperature", NULL, "T", "sampling temperature; 0: always the likeliest token (0)", "generate", OPTION_FILLED},
    {"--top-k", NULL, "K", "samples from the K likeliest tokens; 0: from all (0)", "generate", OPTION_FILLED},
    {"--top-p", NULL, "P", "samples from the likeliest tokens of total probability P (1)", "generate", OPTION_FILLED},
    {"--seed", NULL, "S", "random seed (0)", "generate", OPTION_FILLED},
    {"--dtype", NULL, "D", "type of the weights in memory: auto, f32, bf16 or f16 (auto)", "generate", OPTION_FILLED},
    {"--device", NULL, "D", "auto, cpu, or with CUDA cuda, cuda:1 (auto)", "generate", OPTION_FILLED},
    {"--sae", NULL, "DIR", "folder of a trained SAE", "generate export", OPTION_FILLED},
    {"--site", NULL, "SITE", "site to steer (the SAE's site)", "generate", OPTION_FILLED},
    {"--site", NULL, "SITE", "site it was trained on, if the files do not say", "import", OPTION_FILLED},
    {"--scale", NULL, "42=1.5,7=0", "factors of latents' activations", "generate", OPTION_FILLED},
    {"--add", NULL, "42=3", "values added to latents' activations, on every token", "generate", OPTION_FILLED},
    {"--drop-error", NULL, NULL, "drops the SAE's reconstruction error", "generate", 0},
    {"--from", NULL, "DIR", "folder to read", "import", OPTION_FILLED},
    {"--quick", NULL, NULL, "does not read the activations of a store, whose checksums are then not verified",
     "inspect", 0},
    {"--store", NULL, "DIR", "folder that experiments will write to (the current folder)", "doctor", OPTION_FILLED},
    {"--json", NULL, NULL, "prints one JSON object; unknown values are null", "doctor", 0},
    {"--quiet", "-q", NULL, "prints errors, warnings and results, but no progress and no notes", "*", 0},
    {"--verbose", NULL, NULL,
     "also prints what is usually of no interest, such as keys of config.json that are ignored", "*", 0},
    {"--help", "-h", NULL, "prints this text", "*", 0},
    {0},
};

const verb *verb_of(const char *name) {
    for (const verb *v = verbs; v->name; v++)
        if (strcmp(v->name, name) == 0) return v;
    return NULL;
}

bool option_is_of(const option *o, const verb *v) {
    size_t length = strlen(v->name);
    if (strcmp(o->verbs, "*") == 0) return true;
    for (const char *at = o->verbs; at[0]; at += strcspn(at, " "), at += at[0] == ' ')
        if (strcspn(at, " ") == length && memcmp(at, v->name, length) == 0) return true;
    return false;
}
