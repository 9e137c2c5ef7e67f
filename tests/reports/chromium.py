"""A real headless Chromium, controlled over a pair of pipes by the DevTools protocol."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 60  # seconds for one answer: machines that test are busy
KEY_CODES = {
    "Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "End": 35, "Home": 36,
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip


def find_chromium() -> str | None:
    """Return the path of a Chromium or Chrome, None if none is installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


class Chromium:
    """One browser with one tab. `errors` and `requests` are those of the open page."""

    def __init__(self, program: str, profile: Path) -> None:
        to_browser, self._write = (_high(fd) for fd in os.pipe())
        self._read, from_browser = (_high(fd) for fd in os.pipe())

        def place() -> None:
            os.dup2(to_browser, 3)
            os.dup2(from_browser, 4)

        switches = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        switches += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [program, *switches], preexec_fn=place, pass_fds=(3, 4), stderr=subprocess.DEVNULL
        )
        os.close(to_browser)
        os.close(from_browser)
        self._left, self._number = b"", 0
        self._session: str | None = None
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._loaded: set[str] = set()  # documents whose load event fired
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def open(
        self, page: Path | str, width: int = 1400, height: int = 900, *, dark: bool = False
    ) -> None:
        """Open a file or an address and wait until it is loaded and its script has run."""
        self.errors, self.requests = [], []
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        url = page if isinstance(page, str) else page.resolve().as_uri()
        # By its document: the load event of the page before may come after the navigation.
        document = self.call("Page.navigate", url=url).get("loaderId")  # None: another #fragment
        while document and document not in self._loaded:
            self._wait_for(lambda message: message.get("method") == "Page.lifecycleEvent")

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """Return the text of each element that a CSS selector finds."""
        listed = f"Array.from(document.querySelectorAll({json.dumps(selector)}))"
        return self.value(f"{listed}.map(one => one.textContent.trim())")

    def point_at(self, x: float, y: float, *, click: bool = False) -> None:
        """Move the pointer to a point and click there if asked."""
        kinds = ["mouseMoved", *(["mousePressed", "mouseReleased"] if click else [])]
        for kind in kinds:
            button = {"button": "left", "clickCount": 1} if kind != "mouseMoved" else {}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the pointer at `start`, move it to `end` in two steps and release it there."""
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        pressed = {"button": "left", "buttons": 1, "clickCount": 1}
        self.point_at(*start)
        for kind, (x, y) in (
            ("mousePressed", start), ("mouseMoved", middle), ("mouseMoved", end),
            ("mouseReleased", end),
        ):  # fmt: skip
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **pressed)

    def click(self, selector: str) -> None:
        """Click in the middle of the first element that a CSS selector finds."""
        self.point_at(*self.middle(selector), click=True)

    def middle(self, selector: str) -> tuple[float, float]:
        """Scroll an element into view and return its middle."""
        one = f"document.querySelector({json.dumps(selector)})"
        self.value(f"{one}.scrollIntoView({{block: 'center', inline: 'center'}})")
        box = self.value(f"{one}.getBoundingClientRect().toJSON()")
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        until = time.monotonic() + PATIENCE
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < until, f"never true: {expression}"
            time.sleep(0.02)

    def insert(self, text: str) -> None:
        """Type a text into the element that has the focus."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, ctrl: bool = False, shift: bool = False) -> None:
        """Press and release a key, by its name in KeyboardEvent.key."""
        names: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": KEY_CODES[key]}
        modifiers = 2 * ctrl + 8 * shift
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            given = {"text": text} if kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, modifiers=modifiers, **names, **given)

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file in an <input type="file">."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def drop_file(self, selector: str, path: Path) -> None:
        """Drag a file over an element and drop it there."""
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        x, y = self.middle(selector)
        # Again where the page changes under the pointer.
        for kind in ("dragEnter", "dragOver", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def screenshot(self, path: Path) -> None:
        """Write a PNG of the whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """End the browser."""
        self._session = None
        self.call("Browser.close")
        self._process.wait(PATIENCE)
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        number = self._number
        answer = self._wait_for(lambda message: message.get("id") == number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while True:
            while b"\0" not in self._left:
                ready, _, _ = select.select([self._read], [], [], until - time.monotonic())
                read = os.read(self._read, 1 << 20) if ready else b""
                assert read, "Chromium does not answer"
                self._left += read
            line, _, self._left = self._left.partition(b"\0")
            message = json.loads(line)
            self._record(message.get("method"), message.get("params", {}))
            if wanted(message):
                return message

    def _record(self, event: str | None, params: dict[str, Any]) -> None:
        if event == "Page.lifecycleEvent" and params["name"] == "load":
            self._loaded.add(params["loaderId"])
        elif event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            thrown = details.get("exception", {}).get("description", "")
            self.errors.append(f"{details['text']} {thrown}")
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif event == "Runtime.consoleAPICalled" and params["type"] in (
            "error",
            "warning",
            "assert",
        ):
            self.errors.append(" ".join(str(a.get("value")) for a in params["args"]))


def _high(fd: int) -> int:
    """Move a descriptor above 3 and 4, which the browser reads from and writes to."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(fd)
    return moved
