"""The page of a demo with the models of this machine behind it, on loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from dadkit.data.images import decode, exif_camera
from dadkit.errors import DadkitError, SampleError
from dadkit.export.demo import render_page
from dadkit.export.metadata import describe
from dadkit.interfaces import DepthModel, ExportRequest

__all__ = ["DemoServer"]

_LARGEST = 64_000_000  # bytes of a picture
_LOOPBACK = ("127.0.0.1", "localhost")


class DemoServer(ThreadingHTTPServer):
    """Serves the page at ``/``, and the map of a picture that is sent to ``/models/NUMBER``.

    It listens on 127.0.0.1 and refuses requests that name another host, so no page of another site reaches it by a name that
    points here. One picture is computed at a time.

    Args:
        models: title and model, in the order of the page.
        port: 0 takes a free one.
        title: heading of the page; empty: the models' names.

    Raises:
        DadkitError: the port is in use.
    """

    daemon_threads = True

    def __init__(self, models: Sequence[tuple[str, DepthModel]], *, port: int = 0, title: str = "") -> None:
        self.models = [model for _, model in models]
        self.turn = threading.Lock()
        rows: list[dict[str, Any]] = []
        for number, (name, model) in enumerate(models):
            facts = describe(model, ExportRequest(model.spec.size_multiple), {"component": model.spec.name})
            rows.append({"title": name, "facts": facts, "url": f"models/{number}"})
        note = "The models run on the machine that serves this page, and no picture leaves it. Made with dadkit."
        self.page = render_page(rows, title=title, note=note).encode()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise DadkitError(f"port {port} cannot be used: {error.strerror or error}; give another one: --port") from error

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://127.0.0.1:{self.server_port}/"

    def map_of(self, number: int, picture: bytes) -> tuple[np.ndarray, float]:
        """Returns the float32 map (H, W) of an encoded picture, and the milliseconds that the model took."""
        image = decode(picture).float() / 255
        with self.turn:
            begun = time.perf_counter()
            model, size = self.models[number], (image.shape[-2], image.shape[-1])
            camera = exif_camera(picture, size) if model.spec.takes_camera else None
            depth = model.predict(image, cameras=camera).depth[0, 0].cpu()
            taken = 1e3 * (time.perf_counter() - begun)
        array: np.ndarray = np.ascontiguousarray(depth.numpy(), dtype="<f4")
        return array, taken


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the pictures of visitors are not logged."""

    def do_GET(self) -> None:
        """The page."""
        if not self._from_here():
            return
        if self.path == "/":
            self._answer(200, "text/html; charset=utf-8", self.server.page)
        else:
            self._answer(404, "text/plain", b"there is nothing here")

    def do_POST(self) -> None:
        """The map of the picture in the body: float32, little endian, row by row; its size and time are in the header."""
        if not self._from_here():
            return
        kind, _, number = self.path.strip("/").partition("/")
        length = int(self.headers.get("Content-Length") or 0)
        if kind != "models" or not number.isdecimal() or int(number) >= len(self.server.models):
            self._answer(404, "text/plain", b"there is no such model")
        elif not 0 < length <= _LARGEST:
            self._answer(413, "text/plain", b"a picture of at most 64 MB is expected")
        else:
            try:
                depth, taken = self.server.map_of(int(number), self.rfile.read(length))
            except (SampleError, DadkitError) as error:
                self._answer(422, "text/plain; charset=utf-8", str(error).encode())
            else:
                facts = json.dumps({"height": depth.shape[0], "width": depth.shape[1], "ms": taken})
                self._answer(200, "application/octet-stream", depth.tobytes(), facts)

    def _from_here(self) -> bool:
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host")
        origin = self.headers.get("Origin")
        if host in _LOOPBACK and (
            origin is None or origin in (f"http://{name}:{self.server.server_port}" for name in _LOOPBACK)
        ):
            return True
        self._answer(403, "text/plain", b"this page answers to this machine only")
        return False

    def _answer(self, code: int, kind: str, body: bytes, facts: str = "") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if facts:
            self.send_header("X-Map", facts)
        self.end_headers()
        self.wfile.write(body)
