# microw doctor: its facts agree with those of other tools, each missing thing is reported with a remedy, and only
# problems give exit code 1.
. "$SOURCE/tests/cli/common.sh"
needs python3
unset MICROW_BUNDLE CUDA_VISIBLE_DEVICES OMP_PROC_BIND TMPDIR TEMP TMP
for name in $(env | sed -n 's/^\(SLURM_[A-Z_]*\)=.*/\1/p'); do unset "$name"; done
export OMP_NUM_THREADS=1 MICROW
cd "$work" || exit 1
mkdir store

# doctor CODE ARGUMENTS...: expects the exit code, nothing on stderr if it is 0, and no file left
doctor() {
    checks=$((checks + 1))
    code=$1
    shift
    timeout 60 $launch "$MICROW" doctor "$@" >"$work/out" 2>"$work/err"
    got=$?
    [ "$got" = "$code" ] || { fail "exit code $got, expected $code: doctor $*"; cat "$work/out" "$work/err" >&2; }
    [ "$code" != 0 ] || [ ! -s "$work/err" ] || { fail "stderr of: doctor $*"; cat "$work/err" >&2; }
    [ -z "$(ls -A "$work/store")" ] || fail "a file is left by: doctor $*"
}
launch=
lone() { launch= && doctor "$@"; }
ranks() { # ranks N CODE ARGUMENTS...
    launch="$MPIRUN --oversubscribe --bind-to none -np $1"
    shift
    doctor "$@"
}
says() {
    checks=$((checks + 1))
    grep -q -e "$1" "$work/out" || { fail "no '$1' from doctor"; cat "$work/out" >&2; }
}
silent() {
    checks=$((checks + 1))
    ! grep -q -e "$1" "$work/out" || { fail "'$1' from doctor"; cat "$work/out" >&2; }
}

# ---- facts, compared with those of Python
cat >"$work/check.py" <<'END'
import json, os, platform, resource, sys
facts = json.load(open(sys.argv[1]))
ranks, threads, store = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
bad = []
def same(what, found, expected):
    if found != expected:
        bad.append(f"{what}: {found!r}, expected {expected!r}")
def near(what, found, expected, part):
    if found is None or abs(found - expected) > part * expected + 1e8:
        bad.append(f"{what}: {found!r}, expected about {expected!r}")
def cpus(text):
    return {c for p in text.split(",") for c in range(int(p.split("-")[0]), int(p.split("-")[-1]) + 1)}
same("groups", sorted(facts), sorted("microw libraries machine memory threads mpi store tmpdir shm limits gpus tools ranks hosts findings".split()))
same("version", facts["microw"]["version"], sys.argv[5])
root = os.path.dirname(os.path.dirname(os.environ["MICROW"]))
bundle = facts["microw"]["bundle"]
same("bundle", bundle and os.path.realpath(bundle), os.path.realpath(root) if os.path.exists(root + "/libexec/microw") else None)
for name in ("MPI", "HDF5", "zlib", "zstd", "jansson", "libyaml", "PCRE2", "OpenSSL"):
    if not facts["libraries"][name]:
        bad.append(f"no version of {name}")
same("oneDNN or CBLAS", bool(facts["libraries"]["oneDNN"] or facts["libraries"]["CBLAS"]), True)
machine = facts["machine"]
uname = os.uname()
same("host", machine["host"], uname.nodename)
same("kernel", machine["kernel"], f"{uname.sysname} {uname.release} {uname.machine}")
same("glibc", machine["libc"], " ".join(platform.libc_ver()))
allowed = os.sched_getaffinity(0)
same("CPUs", cpus(machine["cpus"]), allowed)
same("CPUs allowed", machine["cpus_allowed"], len(allowed))
same("CPUs online", machine["processors"], os.cpu_count())
if os.path.exists("/proc/cpuinfo"):
    words = set(next((l for l in open("/proc/cpuinfo") if l.startswith(("flags", "Features"))), "").split())
    same("features", sorted(machine["features"] or []), sorted(words & {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni",
        "avx512_bf16", "avx_vnni", "amx_tile", "amx_bf16", "asimd", "sve", "sve2", "bf16", "i8mm"}))
near("memory", facts["memory"]["total"], os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), 0.01)
same("threads", facts["threads"]["openmp"], threads)
same("OMP_NUM_THREADS", facts["threads"]["OMP_NUM_THREADS"], str(threads))
same("ranks", facts["mpi"]["ranks"], ranks)
same("hosts", facts["mpi"]["hosts"], 1)
same("started", facts["mpi"]["started"], True)
same("launcher", facts["mpi"]["launcher"], None if ranks == 1 else "mpirun")
same("Slurm", facts["mpi"]["slurm"], None)
same("rank by rank", [(r["rank"], r["host"], cpus(r["cpus"]), r["threads"]) for r in facts["ranks"]],
     [(i, uname.nodename, allowed, threads) for i in range(ranks)])
same("hosts", [(h["host"], h["ranks"], h["threads"], h["cpus_allowed"]) for h in facts["hosts"]],
     [(uname.nodename, ranks, ranks * threads, len(allowed))])
for key, path in (("store", store), ("tmpdir", "/tmp"), ("shm", "/dev/shm")):
    folder, space = facts[key], os.statvfs(path)
    same(key, (folder["path"], folder["writable"], folder["problem"]), (os.path.abspath(path), True, None))
    same(f"size of {key}", folder["size"], space.f_blocks * space.f_frsize)
    near(f"space of {key}", folder["free"], space.f_bavail * space.f_frsize, 0.05)
mounts = [l.split() for l in open("/proc/self/mounts")] if os.path.exists("/proc/self/mounts") else []
kinds = [m[2] for m in mounts if m[1] == "/dev/shm"]
if kinds:
    same("file system", facts["shm"]["type"], kinds[-1])
for name, which in (("open_files", "NOFILE"), ("processes", "NPROC"), ("locked_memory", "MEMLOCK"), ("stack", "STACK"),
                    ("address_space", "AS"), ("file_size", "FSIZE")):
    expected = ["unlimited" if v == resource.RLIM_INFINITY else v for v in resource.getrlimit(getattr(resource, "RLIMIT_" + which))]
    same(name, [facts["limits"][name]["soft"], facts["limits"][name]["hard"]], expected)
same("auto", (facts["gpus"]["auto"] == "cpu"), facts["gpus"]["problem"] is not None)
same("python3", facts["tools"]["python3"], True)
print("\n".join(bad))
sys.exit(bool(bad))
END
version=$("$MICROW" --version | cut -d' ' -f2)
facts() { # facts RANKS THREADS: checks the last output
    checks=$((checks + 1))
    python3 "$work/check.py" "$work/out" "$1" "$2" "$work/store" "$version" >"$work/bad" 2>&1 ||
        { fail "facts of $1 ranks"; cat "$work/bad" >&2; }
}
lone 0 --json --store store
facts 1 1
export OMP_NUM_THREADS=2
ranks 3 0 --json --store "$work/store"
facts 3 2
export OMP_NUM_THREADS=1

# ---- as text
lone 0
says "^microw     $version ("
says "^MPI        1 rank on 1 host$\|^MPI        1 rank on 1 host, PMIx"
says "^store      $(pwd -P) (.*), .* free, writable"
silent "rank 0: "
check "lines of at most 100 columns" [ "$(awk 'length > 100' "$work/out" | grep -cv /)" = 0 ]
ranks 3 0
says "^MPI        3 ranks on 1 host, started by mpirun"
for rank in 0 1 2; do says "^           rank $rank: $(uname -n), CPUs .*, 1 thread, .* free, [0-9]* GPU"; done
ranks 17 0
says "^           $(uname -n): 17 ranks, .* 17 threads"
silent "rank 0: "

# ---- notes: more threads than CPUs, tasks that do not know of each other
cpus=$(python3 -c "import os; print(len(os.sched_getaffinity(0)))")
many=$((cpus * 4))
export OMP_NUM_THREADS=$many
lone 0
says "note .*threads: .* $many threads of 1 rank on $cpus CPU"
ranks 2 0 --json
check "ranks times threads" python3 -c "
import json, sys
found = [f['text'] for f in json.load(open('$work/out'))['findings'] if f['about'] == 'threads']
sys.exit(not (len(found) == 1 and ('%d threads of 2 ranks' % ($many * 2) in found[0] or '2 ranks on 1 CPU' in found[0])))"
export OMP_NUM_THREADS=1
lone 0
silent "threads: "

# ---- ranks share the processors that they have in common, and yield them where there is none for each
unset OMP_NUM_THREADS
"$MPIRUN" --oversubscribe --bind-to none -np 2 "$MICROW" doctor --json >"$work/out" 2>"$work/err"
check "threads of two ranks" python3 -c "
import json, sys
threads = json.load(open('$work/out'))['hosts'][0]['threads']
sys.exit(threads > max($cpus, 2))"
yields() { OMPI_MCA_mpi_show_mca_params=enviro "$MPIRUN" --host localhost:$1 -np $1 "$MICROW" doctor 2>&1 | grep -q "mpi_yield_when_idle=true"; }
check "more ranks than processors" yields $((cpus + 1))
check "as many" sh -c "! OMPI_MCA_mpi_show_mca_params=enviro $MPIRUN --host localhost:$cpus -np $cpus $MICROW doctor 2>&1 | grep -q mpi_yield"
export OMP_NUM_THREADS=1

export SLURM_JOB_ID=7 SLURM_NTASKS=4 SLURM_STEP_NUM_TASKS=4 SLURM_CPUS_PER_TASK=3
lone 0
says "srun started 4 tasks, but each runs alone"
says "Slurm: job 7, tasks 4, tasks of step 4, cpus per task 3"
ranks 2 0 # these know of each other
silent "each runs alone"
SLURM_PROCID=2 lone 0 # another task reports
check "one of them tells" [ ! -s "$work/out" ]
export SLURM_STEP_ID=0 # as srun without PMIx sets it; Open MPI would end the process
lone 1
says "^  problem  MPI: srun started this without PMIx"
says "MPI was not started"
check "without words of MPI" [ "$(wc -l <"$work/err")" = 1 ]
ranks 2 0
unset SLURM_STEP_ID
SLURM_STEP_NUM_TASKS=1 lone 0
silent "each runs alone"
unset SLURM_JOB_ID SLURM_NTASKS SLURM_STEP_NUM_TASKS SLURM_CPUS_PER_TASK
(ulimit -n 200 && ulimit -f 100000 && "$MICROW" doctor >"$work/out" 2>&1)
says "note .*ulimit -n"
says "note .*ulimit -f"
mpi 1 --bind-to none env PATH=/none "$MICROW" doctor >"$work/out" 2>"$work/err"
check "tools that are missing are no problem" [ $? = 0 ]
says "^tools      no gnuplot, no python3"
says "note .*tools: gnuplot is not in PATH"

# ---- problems: exit code 1, the path in the message, no hang
echo text >file
for bad in "$work/file/inside" "$work/file"; do
    launch=
    refuses 1 "error: store: $bad: .*; choose another" "$MICROW" doctor --store "$bad"
    says "^  problem  store: $bad"
    says "^store      $bad.* not writable"
    refuses 1 "error: store: $bad" "$MPIRUN" --oversubscribe -np 3 "$MICROW" doctor --store "$bad"
done
"$MICROW" doctor --store "$work/none/below" >"$work/out" 2>&1 || fail "a folder that would be made"
says "note .*$work/none/below: does not exist yet; it can be created"
check "nothing is made" [ ! -e "$work/none" ]
mkdir here there here/store
echo text >there/store
check "one of two ranks has no such folder" [ "$(timeout 60 "$MPIRUN" --oversubscribe -np 1 -wdir "$work/here" "$MICROW" doctor --store store : -np 1 -wdir "$work/there" "$MICROW" doctor --store store 2>&1 | grep -c "problem .*$work/there/store")" = 1 ]
mpi 2 "$MICROW" doctor --json --store "$work/file" >"$work/out" 2>"$work/err"
check "the ranks that found it" python3 -c "
import json, sys
first = json.load(open('$work/out'))['findings'][0]
sys.exit(not (first['kind'] == 'problem' and first['about'] == 'store' and first['ranks'] == [0, 1]))"
TMPDIR="$work/file/x" "$MICROW" doctor >"$work/out" 2>"$work/err"
check "1 for a TMPDIR that cannot be" [ $? = 1 ]
says "^  problem  TMPDIR: $work/file/x"
says "MPI was not started"
check "without words of MPI" [ "$(wc -l <"$work/err")" = 1 ]
refuses 2 "'--store' has an empty value" "$MICROW" doctor --store ""
refuses 2 "takes options only" "$MICROW" doctor exp.yaml
# ---- limits of a control group above that of the process, as Slurm sets them (version 1; needs root)
above=/sys/fs/cgroup/memory/microw-test.$$
cpus=/sys/fs/cgroup/cpu/microw-test.$$
if mkdir -p "$above/step" "$cpus/step" 2>/dev/null && echo 3000000000 >"$above/memory.limit_in_bytes" && echo 150000 >"$cpus/cpu.cfs_quota_us"; then
    sh -c 'echo $$ >"$1/step/cgroup.procs" && echo $$ >"$2/step/cgroup.procs" && exec "$3" doctor --json' sh "$above" "$cpus" "$MICROW" >"$work/out" 2>/dev/null
    check "its memory" grep -q '"group_limit": 29999[0-9]*' "$work/out"
    check "its processors" grep -q '"cpu_quota": 1.5' "$work/out"
fi
rmdir "$above/step" "$above" "$cpus/step" "$cpus" 2>/dev/null
finish
