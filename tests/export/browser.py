"""A headless Chromium, driven by chromedriver's HTTP interface and nothing else."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def is_installed() -> bool:
    return bool(shutil.which("chromedriver") and shutil.which("chromium"))


class Browser:
    def __init__(self, port: int, downloads: Path, size: tuple[int, int], webgpu: bool) -> None:
        self.root = f"http://127.0.0.1:{port}"
        flags = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={size[0]},{size[1]}"]
        flags += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a webcam, without a question
        flags += ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        if webgpu:  # by SwiftShader, which is software
            flags += ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
        chrome = {
            "binary": shutil.which("chromium"),
            "args": flags,
            "prefs": {
                "download.default_directory": str(downloads),
                "profile.default_content_setting_values.automatic_downloads": 1,
            },
        }
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": chrome}}}
        self.root += f"/session/{self.call('POST', '/session', wanted)['sessionId']}"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()[:500]) from error

    def open(self, page: Path | str) -> None:
        self.call("POST", "/url", {"url": page if isinstance(page, str) else page.as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, id: str) -> str:
        return self.run("return document.getElementById(arguments[0]).textContent", id)

    def give(self, id: str, text: str) -> None:
        found = self.call("POST", "/element", {"using": "css selector", "value": f"#{id}"})[ELEMENT]
        self.call("POST", f"/element/{found}/value", {"text": text})

    def wait(self, id: str, part: str, seconds: float = 60) -> str:
        end = time.monotonic() + seconds
        while part not in (text := self.text(id)):
            assert time.monotonic() < end, f"{id} says {text!r}, not {part!r}"
            time.sleep(0.05)
        return text

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))


@contextmanager
def browser(downloads: Path, size: tuple[int, int] = (1200, 900), *, webgpu: bool = False) -> Iterator[Browser]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        session = Browser(port, downloads, size, webgpu)
        yield session
        session.call("DELETE", "")
    finally:
        driver.terminate()
        driver.wait()
