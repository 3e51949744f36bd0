"""A headless Chromium steered over its debugging pipe (Chrome DevTools Protocol), with no driver in between."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
PATIENCE = 120  # seconds, a guard against hanging


class Chromium:
    """One page. `events` holds what the browser reported without being asked: `(method, params)`."""

    def __init__(self, profile: Path) -> None:
        assert EXECUTABLE
        theirs_in, self.out = os.pipe()
        self.inp, theirs_out = os.pipe()

        def place_pipes() -> None:  # Chromium reads commands from descriptor 3 and answers on 4
            spare_in, spare_out = os.dup(theirs_in), os.dup(theirs_out)  # either may be 3 or 4 itself
            os.dup2(spare_in, 3)
            os.dup2(spare_out, 4)

        switches = (
            "headless=new no-sandbox disable-gpu disable-dev-shm-usage disable-background-networking no-first-run "
            "remote-debugging-pipe window-size=1280,900"
        )
        self.process = subprocess.Popen(
            [EXECUTABLE, *(f"--{switch}" for switch in switches.split()), f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=place_pipes,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.buffer = b""
        self.numbers = itertools.count(1)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.inp)
        os.close(self.out)

    def receive(self) -> dict[str, Any]:
        """The next message."""
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self.buffer:
            if not select.select([self.inp], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("Chromium does not answer")
            chunk = os.read(self.inp, 1 << 20)
            if not chunk:
                raise ConnectionError("Chromium ended")
            self.buffer += chunk
        message, _, self.buffer = self.buffer.partition(b"\0")
        message = json.loads(message)
        if "method" in message:
            self.events.append((message["method"], message["params"]))
        return message

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command's result."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while (answer := self.receive()).get("id") != number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            self.receive()

    def run(self, expression: str) -> Any:
        """A JavaScript expression's value, once its promise is kept."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def hover(self, element: str) -> None:
        """Move the mouse onto the middle of a JavaScript expression's element."""
        x, y = self.run(
            f"(e => {{ e.scrollIntoView({{block: 'center', behavior: 'instant'}}); const r = e.getBoundingClientRect();"
            f" return [r.x + r.width / 2, r.y + r.height / 2] }})({element})"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key: str, code: int) -> None:
        """Press and release a key; code: its Windows virtual key code."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self, path: Path, **params: Any) -> None:
        """What is seen now, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", **params)["data"]))

    def complaints(self) -> list[str]:
        """Console messages, uncaught exceptions and entries in the browser's log."""
        methods = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(params) for method, params in self.events if method in methods]

    def requests(self) -> list[str]:
        """Addresses that were asked for, embedded data apart."""
        urls = (params["request"]["url"] for method, params in self.events if method == "Network.requestWillBeSent")
        return [url for url in urls if not url.startswith("data:")]
