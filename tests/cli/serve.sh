# The report over HTTP: only with the token, only what it should, and no more than is allowed.
. "$SOURCE/tests/cli/common.sh"
small >"$work/exp.yaml"
"$MICROW" run "$work/exp.yaml" >"$work/out" 2>"$work/err" || { fail "run"; cat "$work/err" >&2; }
"$MICROW" serve "$work/exp.yaml" --set report.embed_mb=0 >"$work/served" 2>"$work/log" &
server=$!
for i in $(seq 100); do grep -q "^serve:" "$work/served" || ! kill -0 $server 2>/dev/null || sleep 0.1; done
if grep -q "was built without libmicrohttpd" "$work/log"; then
    echo "no libmicrohttpd in this build"
    exit 77
fi
address=$(sed -n 's/^serve: \(http[^ ]*\).*/\1/p' "$work/served")
cat >"$work/ask.py" <<'END'
import http.client, json, socket, sys
from urllib.parse import urlparse
address = urlparse(sys.argv[1])
failed = checks = 0
def ask(method, path, body=None, host=None):
    c = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    c.putrequest(method, path, skip_host=True)
    c.putheader("Host", host or address.netloc)
    if body is not None:
        c.putheader("Content-Length", str(len(body)))
    c.endheaders(body)
    r = c.getresponse()
    return r.status, r.read()
def check(what, got, wanted):
    global failed, checks
    checks += 1
    if got != wanted:
        failed += 1
        print("FAIL", what, got, "expected", wanted, file=sys.stderr)
base = address.path
check("page", ask("GET", base)[0], 200)
check("the same by name", ask("GET", base + "report.html")[1], ask("GET", base)[1])
check("shard", ask("GET", base + "report_data/0.js")[1][:14], b"microwShard(0,")
for path in ("/", "/report.html", "/" + "0" * 32 + "/", base[:-1], base[:-2] + "x/"):
    check("no token " + path, ask("GET", path)[0], 403)
check("another host", ask("GET", base, host="evil.example:80")[0], 403)
for path in ("config.yaml", "../config.yaml", "report_data/../config.yaml", "report_data/..%2fconfig.yaml", "report_data/99999.js", "report_data/-1.js", "report_data/1e1.js", "steer.json"):
    check("no other file: " + path, ask("GET", base + path)[0], 404)
check("another method", ask("PUT", base, b"x")[0], 405)
check("another place", ask("POST", base + "shutdown", b"{}")[0], 405)
def generate(**request):
    status, body = ask("POST", base + "generate", json.dumps(request).encode())
    return status, json.loads(body)
status, plain = generate(prompt="Anna", max_new_tokens=8)
check("generate", (status, list(plain)), (200, ["unchanged"]))
status, turned = generate(prompt="Anna", max_new_tokens=8, edits=[{"latent": 1, "add": 30}, {"latent": 2, "add": 30}, {"latent": 3, "add": 30}])
check("turned", (status, turned["unchanged"] == plain["unchanged"], turned["turned"] != plain["unchanged"]), (200, True, True))
check("the same again", generate(prompt="Anna", max_new_tokens=8)[1], plain)
for name, request in {"no prompt": {}, "too many tokens": {"prompt": "a", "max_new_tokens": 513}, "no such latent": {"prompt": "a", "edits": [{"latent": 256}]},
                      "a word": {"prompt": "a", "temperature": "hot"}, "a list": {"prompt": "a", "edits": {}}, "too many edits": {"prompt": "a", "edits": [{"latent": 1}] * 65},
                      "a number too large": {"prompt": "a", "edits": [{"latent": 1, "add": 1e9}]}, "longer than the model reads": {"prompt": "a " * 2000}}.items():
    status, said = generate(**request)
    check(name, (status, "error" in said), (400, True))
for body in (b"", b"{", b"[]", b"\xff\xfe", b"null"):
    check("not a request", ask("POST", base + "generate", body)[0], 400)
check("too long", ask("POST", base + "generate", b'{"prompt": "' + b"a" * 70000 + b'"}')[0], 413)
with socket.create_connection((address.hostname, address.port)) as s: # rubbish, and a request that never ends
    s.sendall(b"\x00\x01rubbish\r\n\r\n")
half = socket.create_connection((address.hostname, address.port))
half.sendall(b"POST " + base.encode() + b"generate HTTP/1.1\r\nHost: " + address.netloc.encode() + b"\r\nContent-Length: 100\r\n\r\n{")
check("still there", ask("GET", base)[0], 200)
print(f"{checks} checks, {failed} failed")
sys.exit(failed > 0)
END
python3 "$work/ask.py" "$address" || fail "requests"
if command -v ss >/dev/null; then
    port=$(echo "$address" | sed 's/.*:\([0-9]*\).*/\1/')
    check "only on this machine" sh -c "ss -ltn | grep ':$port ' | grep -q '127.0.0.1:' && ! ss -ltn | grep ':$port ' | grep -vq '127.0.0.1:'"
fi
kill -TERM $server
wait $server
check "it ends when told" [ $? = 0 ]
check "nothing was left" sh -c "! grep -q 'not freed' $work/log"
refuses 2 "expected 0 to 65535" "$MICROW" serve "$work/exp.yaml" --port 70000
refuses 2 "runs on one rank" "$MPIRUN" --oversubscribe -np 2 "$MICROW" serve "$work/exp.yaml"
finish
