# The report of a small run, opened in a browser.
. "$SOURCE/tests/cli/common.sh"
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || {
    echo "no Chromium here"
    exit 77
}
small >"$work/exp.yaml"
echo "report: {}" >>"$work/exp.yaml"
"$MICROW" run "$work/exp.yaml" >"$work/out" 2>"$work/err" || { fail "run"; cat "$work/err" >&2; }
check "the page is named" grep -q "^report: $work/store/runs/small/report.html" "$work/out"
python3 "$SOURCE/tests/report/test_page.py" "$MAKE_PAGE" "$work/pages" "$work/store/runs/small/report.html" "${SCREENSHOT:-}" ||
    fail "in the browser"
finish
