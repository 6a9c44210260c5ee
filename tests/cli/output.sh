# Standard output that cannot be written, readers that close it early, --quiet, terminals.
. "$SOURCE/tests/cli/common.sh"
needs python3
[ -e /dev/full ] || { echo "no /dev/full here"; exit 77; }
small >"$work/exp.yaml"
model="$SOURCE/configs/demo/model"

full() { # full COMMAND...: output to a full device; expects exit code 1 and one message
    checks=$((checks + 1))
    timeout 60 "$@" >/dev/full 2>"$work/err"
    got=$?
    [ $got = 1 ] || fail "exit code $got, expected 1: $*"
    [ "$(grep -c 'microw: error: standard output' "$work/err")" = 1 ] || { fail "not one message: $*"; cat "$work/err" >&2; }
}

full "$MICROW" run "$work/exp.yaml"
for file in activations/small/activations.h5 sae_models/small/sae.safetensors sae_models/small/concepts.json runs/small/evaluate.json; do
    check "$file is there" [ -s "$work/store/$file" ]
done
check "the run is complete" sh -c "'$MICROW' run $work/exp.yaml 2>/dev/null | grep -q '^harvest: complete'"
for verb in train report "names --export $work/names.csv" plan; do full "$MICROW" ${verb%% *} "$work/exp.yaml" $(expr "$verb" : '[a-z]* *\(.*\)'); done
full "$MICROW" config
full "$MICROW" config "$work/exp.yaml"
full "$MICROW" layers --model "$model"
full "$MICROW" inspect "$model"
full "$MICROW" inspect "$work/store/activations/small"
full "$MICROW" generate --model "$model" --prompt Anna
full "$MICROW" export --sae "$work/store/sae_models/small" --format saelens --out "$work/out-sae"
check "the export is there" [ -s "$work/out-sae/sae_weights.safetensors" ]
full "$MICROW" --help
full "$MICROW" train --help
full "$MICROW" --version
checks=$((checks + 1)) # closed: no file gets its descriptor
"$MICROW" inspect "$work/store/activations/small" >&- 2>"$work/err" && fail "success without standard output"
grep -q "standard output" "$work/err" || fail "nothing said of a standard output that is closed"
# The small run warns that it is short.
short='^microw: warning: (79 steps of 512 rows are few|FVU was still falling)'
# a reader that closes the output early: no message, no failure, complete files
quietly() { # quietly COMMAND...: the reader ends after one line
    checks=$((checks + 1))
    rm -f "$work/code"
    { "$@" 2>"$work/err"; echo $? >"$work/code"; } | head -1 >"$work/out"
    [ "$(cat "$work/code")" = 0 ] || fail "exit code $(cat "$work/code"): $*"
    ! grep -v '^{' "$work/err" | grep -vE "$short" || fail "messages of: $*"
}
quietly "$MICROW" config
quietly "$MICROW" --help
quietly "$MICROW" inspect "$work/store/activations/small"
quietly "$MICROW" train "$work/exp.yaml" --set name=piped --set sae.activations=small
quietly "$MICROW" run "$work/exp.yaml" --set name=all
checks=$((checks + 1))
{ "$MICROW" run "$work/exp.yaml" --set name=gone --set dataset.limit_documents=300 2>&1; echo $? >"$work/code"; } | true # the reader reads nothing, output or progress
[ "$(cat "$work/code")" = 0 ] || fail "exit code $(cat "$work/code") without any reader"
check "its files are whole" "$MICROW" inspect "$work/store/activations/gone"
check "the last one too" [ -s "$work/store/runs/gone/steer.json" ]
checks=$((checks + 1)) # programs that it starts get the default SIGPIPE
"$MICROW" name "$work/exp.yaml" --set "naming.command='yes | head -c 1 >/dev/null; kill -PIPE \$\$; echo alive'" >"$work/out" 2>"$work/err"
grep -q "ended by signal 13" "$work/err" || { fail "SIGPIPE is ignored in commands"; cat "$work/err" >&2; }

# --quiet: results, errors and warnings only
checks=$((checks + 3))
"$MICROW" run "$work/exp.yaml" --set name=quiet --quiet >"$work/out" 2>"$work/err" || fail "run --quiet"
! grep -vE "$short" "$work/err" || fail "--quiet said something"
check "a short training warns" [ "$(grep -cE "$short" "$work/err")" = 2 ]
grep -q "^train: topk" "$work/out" || fail "--quiet has no results"
refuses 2 "did you mean" "$MICROW" run "$work/exp.yaml" -q --set sae.kk=3
checks=$((checks + 2)) # without it: JSON lines with these keys if standard error is not a terminal
"$MICROW" train "$work/exp.yaml" --set name=lines --set sae.activations=small >"$work/out" 2>"$work/err" || fail "train"
grep -q '^{"stage":"train","done":[0-9]*,"total":[0-9]*,"unit":"tokens","per_second":[^,]*,"elapsed_s":[^,]*,"eta_s":[^,]*,"loss":[^,]*,"fvu":[^,]*,"l0":[^,]*,"dead":[0-9]*,"candidates":[^,]*}$' "$work/err" || fail "the keys of progress"

# on a terminal: no line is wider than it, and no progress line is left
cat >"$work/terminal.py" <<'END'
import fcntl, os, pty, re, struct, sys, termios
columns, kind, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = kind
    out = os.open(os.devnull, os.O_WRONLY)
    os.dup2(out, 1)
    os.execvp(command[0], command)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
seen = b""
try:
    while piece := os.read(terminal, 4096):
        seen += piece
except OSError:
    pass
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
text = seen.decode()
drawn = [line for line in re.split(r"\r\x1b\[K|\r\n|\n", text) if line and not line.startswith("microw: warning: ")]
print(code, "escapes" if "\x1b" in text else "plain", "json" if "{" in text else "words", "fits" if all(len(x) < columns for x in drawn) else max(drawn, key=len),
      "live" if any(" %" in x for x in drawn) else "over", "colours" if re.search(r"\x1b\[[0-9;]*m", text) else "")
open(os.environ["SEEN"], "w").write(text)
END
SEEN="$work/seen"
export SEEN
terminal() { # terminal COLUMNS TERM WANTED
    checks=$((checks + 1))
    got=$(python3 "$work/terminal.py" "$1" "$2" "$MICROW" train "$work/exp.yaml" --set name="t$1$2" --set sae.activations=small --set train.tokens=120_000 | sed 's/ *$//')
    case $got in "$3"*) ;; *) false ;; esac || { fail "terminal of $1 columns, $2: $got, expected $3"; tail -c 2000 "$SEEN" >&2; }
}
terminal 80 xterm "0 escapes words fits live"
check "the last line is a summary" grep -q "train 1[0-9]*k tokens in [0-9.]* s, [0-9.]*k tokens/s, loss 0.[0-9]*, FVU 0.[0-9]*" "$SEEN"
terminal 40 xterm "0 escapes words fits live"
terminal 20 xterm "0 escapes words fits live"
terminal 80 dumb "0 plain words fits"
finish
