# jobs/mpirun.sh: signals reach the ranks in time to save; comparison with mpirun alone.
. "$SOURCE/tests/cli/common.sh"
needs setsid pgrep python3
export MPIRUN
timeouts='echo $OMPI_MCA_odls_base_sigkill_timeout $PRTE_MCA_odls_base_sigkill_timeout'
check "mpirun waits before it kills" [ "$("$SOURCE/jobs/mpirun.sh" --oversubscribe -np 1 sh -c "$timeouts")" = "5 5" ]
export OMPI_MCA_odls_base_sigkill_timeout=1 # the default waits ten seconds after each exit code other than 0
check "as long as its user says" [ "$("$SOURCE/jobs/mpirun.sh" --oversubscribe -np 1 sh -c "$timeouts")" = "1 1" ]
small >"$work/exp.yaml"
launcher="$SOURCE/jobs/mpirun.sh"
"$MICROW" harvest "$work/exp.yaml" >"$work/out" 2>&1 || { fail "harvest"; cat "$work/out" >&2; }
# three steps of some seconds each
slow="--set sae.activations=small --set train.batch=32768 --set sae.n_latents=8192 --set train.tokens=98304 --set train.init_rows=500 --set train.log_every=1 --set train.checkpoint_every=0"
run="--oversubscribe -np 2 $MICROW train $work/exp.yaml $slow"
models="$work/store/sae_models"

begun() { # begun NAME: waits until it has done its first step
    for i in $(seq 300); do
        [ -s "$models/$1/history.jsonl" ] && sleep 0.3 && return # in the next step
        sleep 0.1
    done
    fail "$1 did not begin"
    cat "$work/$1.err" >&2
}

left() { # ranks of NAME that still run
    pgrep -f "train $work/exp.yaml .*name=$1\$" >/dev/null
}

"$launcher" $run --set name=whole >"$work/out" 2>"$work/whole.err"
check "a run that is not disturbed" [ $? = 0 ]

"$launcher" $run --set name=asked >"$work/asked.out" 2>"$work/asked.err" &
process=$!
begun asked
kill -TERM $process
kill -TERM $process # as `timeout` does: not a second request
wait $process
code=$?
check "75 after SIGTERM, found $code" [ $code = 75 ]
check "a checkpoint" sh -c "ls $models/asked/checkpoint-*"
check "no file that looks finished" [ ! -e "$models/asked/sae.safetensors" ]
check "it said so" grep -q "training interrupted by signal 10" "$work/asked.err"
check "nothing is left" sh -c "! pgrep -f 'train $work/exp.yaml .*name=asked\$'"
"$launcher" $run --set name=asked >"$work/out" 2>"$work/again.err"
check "it goes on" grep -q "resuming training at step" "$work/again.err"
check "to the same bytes" cmp "$models/whole/sae.safetensors" "$models/asked/sae.safetensors"

# Ctrl-C on a terminal goes to the whole foreground group; the second one kills at once
cat >"$work/terminal.py" <<'END'
import os, pty, sys, threading, time
history, second, command = sys.argv[1], sys.argv[2] == "twice", sys.argv[3:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
def swallow():
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:
        pass
threading.Thread(target=swallow, daemon=True).start()
until = time.monotonic() + 40
while time.monotonic() < until and not (os.path.exists(history) and os.path.getsize(history)):
    time.sleep(0.1)
time.sleep(0.3)
start = time.monotonic()
os.write(terminal, b"\x03")
if second:
    time.sleep(0.5)
    os.write(terminal, b"\x03")
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(code, "at once" if time.monotonic() - start < 1.5 else "later")
END
check "75 after Ctrl-C" [ "$(python3 "$work/terminal.py" "$models/typed/history.jsonl" once "$launcher" $run --set name=typed | cut -d' ' -f1)" = 75 ]
check "a checkpoint after Ctrl-C" sh -c "ls $models/typed/checkpoint-*"
check "the second Ctrl-C ends at once" [ "$(python3 "$work/terminal.py" "$models/twice/history.jsonl" twice "$launcher" $run --set name=twice)" = "130 at once" ]
for i in $(seq 20); do left twice || break; sleep 0.1; done
check "with all ranks" sh -c "! pgrep -f 'train $work/exp.yaml .*name=twice\$'"

# other exit codes pass through
checks=$((checks + 1))
"$launcher" --oversubscribe -np 2 "$MICROW" train "$work/none.yaml" >"$work/out" 2>"$work/err"
[ $? = 2 ] || fail "another code than 2 for a file that is not there"
check "its standard input is the caller's" [ "$(echo told | "$launcher" --oversubscribe -np 1 cat)" = told ]

# mpirun alone kills: rank 0 prints the remedy once
unset OMPI_MCA_odls_base_sigkill_timeout
"$MPIRUN" --oversubscribe -np 2 "$MICROW" train "$work/exp.yaml" $slow --set name=bare >"$work/out" 2>"$work/bare.err" &
process=$!
begun bare
kill -TERM $process
wait $process
check "a bare mpirun does not give 75" [ $? != 75 ]
check "what would help is said once" [ "$(grep -c 'jobs/mpirun.sh.*odls_base_sigkill_timeout' "$work/bare.err")" = 1 ]
check "and not by the launcher's ranks" sh -c "! grep -q odls_base $work/asked.err"
finish
