# Opens the report of a small run in a browser.
. "$SOURCE/tests/cli/common.sh"
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || {
    echo "no Chromium here"
    exit 77
}
small >"$work/exp.yaml"
echo "report: {}" >>"$work/exp.yaml"
"$MICROW" run "$work/exp.yaml" >"$work/out" 2>"$work/err" || { fail "run"; cat "$work/err" >&2; }
check "the page is named" grep -q "^report: $work/store/runs/small/report.html" "$work/out"
"$MICROW" serve "$work/exp.yaml" >"$work/served" 2>"$work/err" &
server=$!
for i in $(seq 100); do grep -q "^serve:" "$work/served" || ! kill -0 $server 2>/dev/null || sleep 0.1; done
address=$(sed -n 's/^serve: \(http[^ ]*\).*/\1/p' "$work/served") # empty: built without libmicrohttpd
python3 "$SOURCE/tests/report/test_page.py" "$MAKE_PAGE" "$work/pages" "$work/store/runs/small/report.html" "${SCREENSHOT:-$work/page.png}" "$address" ||
    fail "in the browser"
check "a picture of it" test -s "${SCREENSHOT:-$work/page.png}"
kill $server 2>/dev/null
wait $server
finish
