# The report over HTTP: only with the token, only the page and its files, within the limits.
. "$SOURCE/tests/cli/common.sh"
needs python3
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
import http.client, json, socket, sys, threading, time
from urllib.parse import urlparse
address = urlparse(sys.argv[1])
failed = checks = 0
wanted_headers = {"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff"}
def ask(method, path, body=None, host=None, origin=None):
    c = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    c.putrequest(method, path, skip_host=True)
    c.putheader("Host", host or address.netloc)
    if body is not None:
        c.putheader("Content-Length", str(len(body)))
    if origin is not None:
        c.putheader("Origin", origin)
    c.endheaders(body)
    r = c.getresponse()
    for name, value in wanted_headers.items():
        check(f"{name} of {r.status} {method} {path}", r.getheader(name), value)
    check(f"who may frame {r.status} {method} {path}", "frame-ancestors 'none'" in (r.getheader("Content-Security-Policy") or ""), True)
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
status, steered = generate(prompt="Anna", max_new_tokens=8, edits=[{"latent": 1, "add": 30}, {"latent": 2, "add": 30}, {"latent": 3, "add": 30}])
text = steered["steered"]
check("steered", (status, steered["unchanged"] == plain["unchanged"], text != plain["unchanged"]), (200, True, True))
check("the same again", generate(prompt="Anna", max_new_tokens=8)[1], plain)
for name, request in {"no prompt": {}, "too many tokens": {"prompt": "a", "max_new_tokens": 513}, "no such latent": {"prompt": "a", "edits": [{"latent": 256}]},
                      "a word": {"prompt": "a", "temperature": "hot"}, "a list": {"prompt": "a", "edits": {}}, "too many edits": {"prompt": "a", "edits": [{"latent": 1}] * 65},
                      "a number too large": {"prompt": "a", "edits": [{"latent": 1, "add": 1e9}]}, "longer than the model reads": {"prompt": "a " * 2000}}.items():
    status, said = generate(**request)
    check(name, (status, "error" in said), (400, True))
for body in (b"", b"{", b"[]", b"\xff\xfe", b"null"):
    check("not a request", ask("POST", base + "generate", body)[0], 400)
check("too long", ask("POST", base + "generate", b'{"prompt": "' + b"a" * 70000 + b'"}')[0], 413)
with socket.create_connection((address.hostname, address.port)) as s: # garbage, and a request that never ends
    s.sendall(b"\x00\x01rubbish\r\n\r\n")
half = socket.create_connection((address.hostname, address.port))
half.sendall(b"POST " + base.encode() + b"generate HTTP/1.1\r\nHost: " + address.netloc.encode() + b"\r\nContent-Length: 100\r\n\r\n{")
check("still there", ask("GET", base)[0], 200)
# hosts and origins
body = json.dumps({"prompt": "Anna", "max_new_tokens": 2}).encode()
for origin, status in (("http://" + address.netloc, 200), ("http://evil.example", 403), ("null", 403), ("https://" + address.netloc, 403), ("http://127.0.0.1:1", 403)):
    check("origin " + origin, ask("POST", base + "generate", body, origin=origin)[0], status)
for host, status in (("127.0.0.1", 200), ("localhost:9", 200), ("127.0.0.1:80.evil.example", 403), ("127.0.0.11:80", 403), ("localhost.evil.example", 403)):
    check("host " + host, ask("GET", base, host=host)[0], status)
# malformed numbers, NUL
for name, request in {"tokens": {"max_new_tokens": 1.9}, "k": {"top_k": 1.9}, "seed": {"seed": 0.5}, "latent": {"edits": [{"latent": 1.5, "add": 1}]},
                      "minus": {"edits": [{"latent": -1}]}, "NUL": {"prompt": "Anna\0 and Boris"}, "NUL alone": {"prompt": "\0"}}.items():
    status, said = generate(**{"prompt": "Anna", "max_new_tokens": 2, **request})
    check(name, (status, "error" in said), (400, True))
check("a whole number written as a real one", generate(prompt="Anna", max_new_tokens=2.0, edits=[{"latent": 3.0, "add": 1.5}])[0], 200)
check("tokens and context are named", "64" in generate(prompt="a " * 70)[1]["error"], True)
check("a note where the context is full", "room for" in generate(prompt="Anna " * 50, max_new_tokens=100)[1].get("note", ""), True)
check("an escaped name", ask("GET", base + "report.html%00.js")[0], 404)
# slow clients that send a byte now and then
def connect():
    return socket.create_connection((address.hostname, address.port), timeout=30)
def drip(s, head, every, result, name):
    start = time.monotonic()
    s.settimeout(every)
    try:
        s.sendall(head)
        while time.monotonic() - start < 40:
            try:
                if s.recv(1000) == b"":
                    break
            except TimeoutError:
                s.sendall(b"x")
    except OSError:
        pass
    result[name] = time.monotonic() - start
took = {}
header = f"POST {base}generate HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 1000\r\n\r\n".encode()
drips = [threading.Thread(target=drip, args=(connect(), b"GET /slow HTTP/1.1\r\nX: ", 0.4, took, "header")),
         threading.Thread(target=drip, args=(connect(), header, 0.4, took, "body"))]
for d in drips:
    d.start()
for d in drips:
    d.join()
check("a header has 5 seconds", 4 < took["header"] < 9, True)
check("a body has 10 seconds", 9 < took["body"] < 15, True)
owner = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
owner.request("GET", base)
owner.getresponse().read()
strangers = []
ended = threading.Event()
def crowd():
    while not ended.is_set():
        strangers.append(connect())
        strangers[-1].sendall(b"GET / HTTP/1.1\r\nX: ")
        if len(strangers) > 250:
            strangers.pop(0).close()
        time.sleep(0.005)
crowded = threading.Thread(target=crowd)
crowded.start()
while len(strangers) < 200:
    time.sleep(0.01)
start = time.monotonic()
for i in range(5):
    check("the page in a crowd", ask("GET", base)[0], 200)
    check("generation in a crowd", generate(prompt="Anna", max_new_tokens=8)[1], plain)
check("without waiting for the others", time.monotonic() - start < 4, True)
owner.request("GET", base)
check("an old connection of the owner in a crowd", owner.getresponse().status, 200)
ended.set()
crowded.join()
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
# the same input errors in the lab, and in steer
checks=$((checks + 3))
printf ':set max_new_tokens=1.9\n:set seed=0.5\nAnna\0 and Boris\n%s\n:set max_new_tokens=100\n%s\n' "$(printf 'Anna %.0s' $(seq 80))" "$(printf 'Anna %.0s' $(seq 50))" >"$work/lines"
"$MICROW" lab "$work/exp.yaml" <"$work/lines" >"$work/out" 2>"$work/err" || fail "lab"
for said in "max_new_tokens: expected a whole number, found 1.9" "seed: expected a whole number" "contains a NUL" "prompt 1 of 1 has 8[0-9] tokens.*context is 64" "no room for 100 new tokens in the model's context of 64"; do
    grep -q "$said" "$work/err" || fail "the lab did not say: $said"
done
[ "$(grep -c '^microw: error' "$work/err")" = 4 ] || { fail "other errors in the lab"; cat "$work/err" >&2; }
refuses 2 "prompt 2 of 2 has 8[0-9] tokens: .*context is 64" "$MICROW" steer "$work/exp.yaml" --set steer.samples=1 --set "steer.prompts=[a, '$(printf 'Anna %.0s' $(seq 80))']" --overwrite
refuses 2 "expected 0 to 65535" "$MICROW" serve "$work/exp.yaml" --port 70000
refuses 2 "runs on one rank" "$MPIRUN" --oversubscribe -np 2 "$MICROW" serve "$work/exp.yaml"
finish
