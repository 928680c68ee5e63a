"""A real Chromium, driven over the WebDriver protocol with nothing but the standard library."""

import base64
import http.client
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

DEADLINE_S = 20.0
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class WebDriverError(AssertionError):
    """The driver refused a command; the text is its own."""


class Driver:
    """One chromedriver process; gives browsers."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.port = self._read_port()

    def _read_port(self) -> int:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := re.search(rb"successfully on port (\d+)", line.strip()):
                return int(found[1])
        raise WebDriverError("chromedriver did not start")

    def browser(self, profile: Path, *, dark: bool = False, javascript: bool = True) -> "Browser":
        flags = [*FLAGS, f"--user-data-dir={profile}"]
        if dark:
            flags.append("--force-dark-mode")
        options: dict[str, Any] = {"args": flags}
        if not javascript:
            options["prefs"] = {"profile.managed_default_content_settings.javascript": 2}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options}
        wanted["goog:loggingPrefs"] = {"browser": "ALL"}
        body = {"capabilities": {"alwaysMatch": wanted}}
        return Browser(self.port, self.call("POST", "/session", body)["sessionId"])

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return call(self.port, method, path, body)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(DEADLINE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


def call(port: int, method: str, path: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        value = json.loads(connection.getresponse().read())["value"]
    finally:
        connection.close()
    if isinstance(value, dict) and "error" in value:
        raise WebDriverError(f"{method} {path}: {value['error']}: {value['message'][:500]}")
    return value


class Browser:
    """One session."""

    def __init__(self, port: int, session: str) -> None:
        self._port = port
        self._path = f"/session/{session}"

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        return call(self._port, method, self._path + path, body)

    def open(self, url: str) -> None:
        self._call("POST", "/url", {"url": url})

    def resize(self, width: int, height: int) -> None:
        """The viewport, not the window: DevTools emulation."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def colour_scheme(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", {"features": features})

    def devtools(self, command: str, parameters: Any) -> Any:
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def run(self, script: str, *arguments: Any) -> Any:
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script: str, *arguments: Any) -> Any:
        return self._call("POST", "/execute/async", {"script": script, "args": list(arguments)})

    def text(self, selector: str) -> str:
        found = self._find(selector)
        return self._call("GET", f"/element/{found}/text")

    def click(self, selector: str) -> None:
        self._call("POST", f"/element/{self._find(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        self._call("POST", f"/element/{self._find(selector)}/value", {"text": text})

    def press(self, keys: str) -> None:
        actions = [
            a
            for key in keys
            for a in ({"type": "keyDown", "value": key}, {"type": "keyUp", "value": key})
        ]
        body = {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}
        self._call("POST", "/actions", body)

    def until_text(self, selector: str, wanted: str) -> str:
        """The text of ``selector`` once it contains ``wanted``."""
        end, seen = time.monotonic() + DEADLINE_S, ""
        while True:
            try:
                seen = self.text(selector)
            except WebDriverError as error:
                seen = str(error)
            if wanted in seen:
                return seen
            assert time.monotonic() < end, f"{selector} never showed {wanted!r}: {seen!r}"
            time.sleep(0.05)

    def screenshot(self, path: Path) -> None:
        """The whole page, however long it is."""
        size = self.devtools("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.devtools(
            "Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True}
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def console(self) -> list[str]:
        """Errors and CSP violations so far."""
        lines = self._call("POST", "/se/log", {"type": "browser"})
        return [line["message"] for line in lines if line["level"] in ("SEVERE", "WARNING")]

    def close(self) -> None:
        self._call("DELETE", "")

    def _find(self, selector: str) -> str:
        body = {"using": "css selector", "value": selector}
        return self._call("POST", "/element", body)[_ELEMENT]
