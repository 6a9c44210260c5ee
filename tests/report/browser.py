"""A headless Chromium driven through its debugging pipe, by Python's standard library alone.

    with Browser() as page:
        page.open("file:///tmp/report.html")
        page.run("document.title")           # the value of an expression; waits for promises
        page.press("j")
        page.errors                          # errors and warnings of the console, exceptions, blocked content
"""
import json
import os
import select
import shutil
import subprocess
import tempfile
import time


def program():
    return next((p for p in (shutil.which(n) for n in ("chromium", "chromium-browser", "google-chrome")) if p), None)


class Browser:
    def __init__(self, wait=30):
        self.wait = wait
        self.errors = []
        self.number = 0
        self.pending = b""
        self.profile = tempfile.mkdtemp(prefix="microw-browser-")

    def __enter__(self):
        to_read, self.to = os.pipe()
        self.back, to_write = os.pipe()

        def wire():  # Chromium expects the pipe at descriptors 3 and 4
            os.dup2(to_read, 103)
            os.dup2(to_write, 104)
            os.dup2(103, 3)
            os.dup2(104, 4)

        self.process = subprocess.Popen(
            [program(), "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-dev-shm-usage", "--user-data-dir=" + self.profile, "--window-size=1400,900", "about:blank"],
            preexec_fn=wire, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self.session = None
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(domain + ".enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)

    def receive(self, until):
        while b"\0" not in self.pending:
            if not select.select([self.back], [], [], max(0, until - time.monotonic()))[0]:
                raise TimeoutError("no answer from the browser")
            piece = os.read(self.back, 1 << 20)
            if not piece:
                raise EOFError("the browser has ended")
            self.pending += piece
        line, self.pending = self.pending.split(b"\0", 1)
        message = json.loads(line)
        method, detail = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(detail["exceptionDetails"].get("exception", {}).get("description", "exception"))
        if method == "Runtime.consoleAPICalled" and detail["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in detail["args"]))
        if method == "Log.entryAdded" and detail["entry"]["level"] in ("error", "warning"):
            self.errors.append(detail["entry"]["text"])
        if method == "Page.javascriptDialogOpening":
            self.errors.append("a dialog: " + detail["message"])
        return message

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + self.wait
        while True:
            answer = self.receive(until)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(method + ": " + answer["error"]["message"])
                return answer["result"]

    def run(self, expression):
        said = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in said:
            raise RuntimeError(expression + ": " + said["exceptionDetails"]["exception"].get("description", "failed"))
        return said["result"].get("value")

    def until(self, expression):
        end = time.monotonic() + self.wait
        while not self.run(f"!!({expression})"):
            if time.monotonic() > end:
                raise TimeoutError("still false: " + expression)
            time.sleep(0.02)

    def open(self, address):
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        self.until("document.documentElement?.dataset.ready === 'yes'")

    def press(self, key):
        text = key if len(key) == 1 else None
        extra = {"text": text} if text else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **extra)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def screenshot(self, path):
        import base64
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
