# Signals that end a stage and signals that do not; commands of naming that do not end by themselves.
. "$SOURCE/tests/cli/common.sh"
needs python3
small >"$work/exp.yaml"
"$MICROW" harvest "$work/exp.yaml" >"$work/out" 2>&1 || { fail "harvest"; cat "$work/out" >&2; }
long="--set sae.activations=small --set train.tokens=4_000_000 --set train.log_every=1"
models="$work/store/sae_models"

begun() { # begun NAME: waits until it has done its first step
    for i in $(seq 300); do
        [ -s "$models/$1/history.jsonl" ] && return
        sleep 0.05
    done
    fail "$1 did not begin"
}

started() { # started NAME [PREFIX...]: starts training in the background and waits for its first step; sets process
    name=$1
    shift
    "$@" "$MICROW" train "$work/exp.yaml" $long --set name="$name" >"$work/$name.out" 2>"$work/$name.err" &
    process=$!
    begun "$name"
}

ended() { # ended NAME CODE
    wait $process
    got=$?
    checks=$((checks + 1))
    [ $got = "$2" ] || { fail "$1 ended with $got, expected $2"; cat "$work/$1.err" >&2; }
}

# the SIGHUPs of a closed terminal: from the shell, then from the kernel
started hangup
kill -HUP $process
sleep 0.02
kill -HUP $process
ended hangup 75
check "a checkpoint after SIGHUP" sh -c "ls $models/hangup/checkpoint-*"
check "it says by which" grep -q "interrupted by signal 1 " "$work/hangup.err"
# a second SIGTERM or SIGUSR1 changes nothing
started twice
kill -TERM $process
kill -TERM $process
kill -USR1 $process
kill -USR1 $process
ended twice 75
# started with SIGHUP ignored it outlives the terminal, but obeys SIGTERM
started nohup nohup
kill -HUP $process
sleep 0.5
check "nohup: it runs on" kill -0 $process
kill -TERM $process
ended nohup 75
check "by SIGTERM alone" grep -q "interrupted by signal 15 " "$work/nohup.err"
# shells start background programs with SIGINT ignored
started background
kill -INT $process
sleep 0.5
check "a background program does not hear SIGINT" kill -0 $process
kill -TERM $process
ended background 75
# in the foreground: a second SIGINT kills at once, unless it comes right after the first
cat >"$work/interrupt.py" <<'END'
import os, signal, subprocess, sys, time
history, pause, command = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
signal.signal(signal.SIGINT, signal.SIG_DFL)
p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while p.poll() is None and not (os.path.exists(history) and os.path.getsize(history)):
    time.sleep(0.05)
time.sleep(0.3) # in the next step
p.send_signal(signal.SIGINT)
time.sleep(pause)
p.send_signal(signal.SIGINT)
print(p.wait(timeout=60))
END
check "two SIGINT at once are one" [ "$(python3 "$work/interrupt.py" "$models/int/history.jsonl" 0.001 "$MICROW" train "$work/exp.yaml" $long --set name=int)" = 75 ]
# a step of some seconds, so that the first signal is still pending
check "a later SIGINT ends at once" [ "$(python3 "$work/interrupt.py" "$models/int2/history.jsonl" 0.3 "$MICROW" train "$work/exp.yaml" $long --set name=int2 --set train.batch=32768 --set sae.n_latents=8192 --set train.init_rows=500)" = -2 ]

# naming.command: its time limit and signals apply until it has ended, whatever it does with its output
"$MICROW" run "$work/exp.yaml" --set evaluate.tokens=500 >"$work/out" 2>&1 || fail "run"
name() { # name SECONDS COMMAND: sets code and took
    begin=$(date +%s%3N)
    timeout 60 "$MICROW" name "$work/exp.yaml" --set naming.timeout="$1" --set "naming.command='$2'" >"$work/out" 2>"$work/err"
    code=$?
    took=$(($(date +%s%3N) - begin))
    checks=$((checks + 1))
}
name 1 "exec >&-; sleep 61.7"
[ $code = 1 ] && [ $took -lt 8000 ] && grep -q "took too long" "$work/err" || fail "output closed: code $code after $took ms"
check "its processes are ended" sh -c "! pgrep -f '^sleep 61.7'"
name 30 "sleep 62.7 & echo no JSON" # processes that it leaves running are not waited for
[ $code = 1 ] && [ $took -lt 8000 ] && grep -q "not valid JSON" "$work/err" || fail "left a process: code $code after $took ms"
check "and is ended" sh -c "! pgrep -f '^sleep 62.7'"
"$MICROW" name "$work/exp.yaml" --set naming.timeout=60 --set "naming.command='touch $work/asked; exec >&-; sleep 63.7'" >"$work/name.out" 2>"$work/name.err" &
process=$!
for i in $(seq 100); do [ -e "$work/asked" ] || sleep 0.1; done
begin=$(date +%s)
kill -TERM $process
ended name 75
check "soon" [ $(($(date +%s) - begin)) -lt 5 ]
check "the command is ended by a signal" sh -c "! pgrep -f '^sleep 63.7'"
finish
