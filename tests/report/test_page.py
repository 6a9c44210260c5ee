#!/usr/bin/env python3
"""Tests the report in a real browser: python3 test_page.py MAKE_PAGE WORK [REPORT.html SCREENSHOT.png [ADDRESS]]

Hostile texts are shown as texts; a page of 100000 latents opens quickly and reads its shards from file://; a real
report is searched, sorted, opened and navigated by keys. The console must stay empty."""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from browser import Browser, program  # noqa: E402

failed = checks = 0


def check(what, good):
    global failed, checks
    checks += 1
    if not good:
        failed += 1
        print("FAIL", what, file=sys.stderr)


def latent_opened(page, latent):
    page.until(f"byId('latent-title') && byId('latent-title').textContent.startsWith('{latent} ')")


def hostile(page, make, work):
    path = os.path.join(work, "hostile.html")
    subprocess.run([make, "hostile", path], check=True, stdout=subprocess.DEVNULL)
    raw = open(path, "rb").read()
    check("the page's source contains no text of the data", b"owned" not in raw)
    page.open("file://" + path)
    evil = "<script>document.title='owned'</script>"
    check("the title is the run's", page.run("document.title") == evil and page.run("byId('title').textContent") == evil)
    check("dead latents are hidden", page.run("byId('count').textContent") == "39 of 40")
    for latent in (0, 2, 7, 39):
        page.run(f"open({latent})")
        latent_opened(page, latent)
    page.run("open(0)")
    latent_opened(page, 0)
    shown = page.run("byId('detail').textContent")
    check("script is text", evil in shown)
    check("the note is text", page.run(f"[...document.querySelectorAll('p')].some((p) => p.textContent === {evil!r})"))
    check("no element came from a text", page.run("document.querySelectorAll('img, iframe, object').length") == 0)
    check("only the page's own scripts", page.run("[...document.scripts].filter((s) => s.type !== 'application/octet-stream').length") == 1)
    page.run("open(7)")
    latent_opened(page, 7)
    check("a long token is cut", page.run("byId('detail').textContent").count("(1048576 bytes)") >= 1)
    check("and does not fill the page", page.run("byId('detail').textContent.length") < 20000)
    check("an override is shown, not obeyed", "U+202E" in page.run("byId('detail').textContent"))
    check("right-to-left text is isolated", page.run("getComputedStyle(document.querySelector('.words span')).unicodeBidi") == "isolate")
    check("bytes that are not text are shown as bytes", "<0x" in page.run("byId('detail').textContent"))
    check("an emoji stays whole", "\U0001f469\u200d\U0001f52c" in page.run("byId('detail').textContent"))
    for key, least in (("2", "document.querySelectorAll('circle.dot').length === 3"), ("3", "byId('view').textContent.includes('script')"),
                       ("4", "document.querySelector('pre').textContent.includes('script')")):
        page.press(key)
        check("view " + key, page.run(least))
    check("no text ran as script", page.run("document.title") == evil)
    check("a script that gets in does not run", page.run(
        "(() => { const s = document.createElement('script'); s.textContent = 'globalThis.ran = 1'; document.body.append(s); return globalThis.ran === undefined; })()"))
    expected = [e for e in page.errors if "Content Security Policy" in e]  # of the script above
    check("it was blocked by the page's policy", len(expected) == 1)
    page.errors = [e for e in page.errors if e not in expected]


def large(page, make, work):
    path = os.path.join(work, "large.html")
    subprocess.run([make, "large", path, "100000"], check=True, stdout=subprocess.DEVNULL)
    size = os.path.getsize(path)
    begin = time.monotonic()
    page.open("file://" + path)
    seconds = time.monotonic() - begin
    print(f"100000 latents: page of {size / 1e6:.1f} MB, ready after {seconds:.2f} s")
    check("the page is small", size < 8e6)
    check("it opens quickly", seconds < 10)  # 1 s on two idle cores; a busy machine may take longer
    check("few rows are in the page", page.run("document.querySelectorAll('.row').length") < 100)
    for latent in (0, 99999, 50000):
        page.run(f"open({latent})")
        latent_opened(page, latent)
        page.until("document.querySelectorAll('.text').length > 0")
    begin = time.monotonic()
    page.run("(() => { const s = byId('search'); s.value = 'name 9999'; s.dispatchEvent(new Event('input')); })()")
    check("found among all", page.run("byId('count').textContent") == "19 of 100000")
    print(f"searched in {time.monotonic() - begin:.2f} s")
    page.open("file://" + path + "#latent=777")
    latent_opened(page, 777)
    os.remove(os.path.join(work, "large_data", "3.js"))
    page.run("open(200)")
    page.until("byId('detail').textContent.includes('is not beside this page')")
    page.errors = [e for e in page.errors if "ERR_FILE_NOT_FOUND" not in e]


def real(page, path, picture):
    page.open("file://" + os.path.abspath(path))
    total = page.run("table.count.length")
    check("sorted by F1 at first", page.run("state.sort === 'f1' && state.order.every((l, i) => i === 0 || table.f1[state.order[i - 1]] >= table.f1[l])"))
    page.press("/")
    page.type("person")
    page.until(f"state.order.length < {total} && state.order.length > 0")
    check("what is found has it", page.run("state.order.every((i) => searchable[i].includes('person'))"))
    page.press("Enter")
    page.until("byId('latent-title')")
    check("the first is opened", page.run("Number(byId('latent-title').textContent.split(' ')[0]) === state.order[0]"))
    page.press("Escape")
    page.run("(() => { const s = byId('search'); s.value = ''; s.dispatchEvent(new Event('input')); })()")
    for key, column in (("max", "max"), ("f1", "f1"), ("precision", "precision"), ("frequency", "count")):
        page.run(f"document.querySelector('[data-sort={key}]').click()")
        falling = page.run(f"state.order.every((l, i) => i === 0 || table.{column}[state.order[i - 1]] >= table.{column}[l])")
        page.run(f"document.querySelector('[data-sort={key}]').click()")
        rising = page.run(f"state.order.every((l, i) => i === 0 || table.{column}[state.order[i - 1]] <= table.{column}[l])")
        check("sorted by " + key, falling and rising)
    page.run("document.querySelector('[data-sort=frequency]').click()")
    page.run("document.querySelectorAll('.row')[2].click()")
    latent_opened(page, page.run("state.order[2]"))
    before = page.run("state.chosen")
    page.press("j")
    page.press("k")
    latent_opened(page, before)
    check("keys walk", page.run("state.chosen") == before)
    check("tokens are marked", page.run("[...document.querySelectorAll('.words span')].some((s) => s.style.backgroundColor !== '')"))
    check("histogram", page.run("document.querySelectorAll('#detail .bar').length") > 3)
    check("logits", page.run("document.querySelectorAll('#detail .token').length") > 10)
    check("neighbours", page.run("document.querySelectorAll('#detail .list a').length") > 8)
    page.run("document.querySelector('#detail .list a').click()")
    page.until(f"state.chosen !== {before}")
    if picture:  # may be empty
        page.until("document.querySelectorAll('.text').length > 0")
        page.screenshot(picture)
    titles = page.run("[...byId('tabs').children].map((b) => b.textContent).join()")
    check("views: " + titles, titles == "Latents,Training,Evaluation,Steering,Run")
    for key, least in (("2", "document.querySelectorAll('.curve').length >= 5"), ("3", "document.querySelectorAll('td').length >= 10"),
                       ("4", "document.querySelectorAll('td').length >= 4"), ("5", "document.querySelector('pre').textContent.includes('n_latents')")):
        page.press(key)
        check("view " + key, page.run(least))
    page.press("3")
    check("evaluation and scores of the baselines", page.run("[...document.querySelectorAll('td')].filter((c) => c.textContent === 'pca').length === 2 && ['trained', 'untrained', 'random', 'pca'].every((n) => [...document.querySelectorAll('td')].some((c) => c.textContent === n))"))
    page.press("t")
    dark = page.run("getComputedStyle(document.body).backgroundColor")
    page.press("t")
    check("light and dark", page.run("getComputedStyle(document.body).backgroundColor") != dark)
    page.press("?")
    check("the keys are shown", page.run("byId('keys').open"))


def serve(page, address):
    page.open(address)
    page.run("document.querySelectorAll('.row')[3].click()")
    page.until("document.querySelector('#detail input[type=number]')")
    page.run("(() => { document.querySelectorAll('#detail input[type=number]')[1].value = 20; })()")
    page.run("[...document.querySelectorAll('#detail button')].find((b) => b.textContent === 'steer in the lab').click()")
    page.run("[...byId('tabs').children].find((b) => b.textContent === 'Lab').click()")
    page.run("(() => { const p = byId('lab-prompt'); p.value = 'Anna'; p.dispatchEvent(new Event('input')); byId('lab-go').click(); })()")
    page.until("document.querySelectorAll('#lab-out td').length === 2")
    check("the model answered", page.run("[...document.querySelectorAll('#lab-out td')].every((t) => t.textContent.length > 3)"))


def main():
    if not program():
        print("no Chromium here: skipped")
        return 77
    make, work = sys.argv[1:3]
    os.makedirs(work, exist_ok=True)
    with Browser() as page:
        hostile(page, make, work)
        large(page, make, work)
        if len(sys.argv) > 3:
            real(page, sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else None)
        if len(sys.argv) > 5 and sys.argv[5]:
            serve(page, sys.argv[5])
        for error in page.errors:
            check("the console: " + error, False)
    print(f"{checks} checks, {failed} failed")
    return failed > 0


sys.exit(main())
