"""One page with a model in it, which runs in the visitor's own browser."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import tempfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from dadkit.errors import DadkitError
from dadkit.export.metadata import read
from dadkit.export.onnx import OnnxExporter
from dadkit.export.writing import export_model
from dadkit.files import write_text
from dadkit.interfaces import DepthModel

__all__ = ["RUNTIME_VERSION", "DemoError", "build_page", "render_page", "web_file"]

RUNTIME_VERSION = "1.30.0"
"""The release of onnxruntime-web that pages are made with and tested with."""

_ADDRESS = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{RUNTIME_VERSION}/dist/"
_BUILDS = {
    "wasm": {
        "script": ("ort.wasm.min.js", "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81"),
        "mjs": ("ort-wasm-simd-threaded.mjs", "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b"),
        "wasm": ("ort-wasm-simd-threaded.wasm", "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"),
    },
    "webgpu": {
        "script": ("ort.webgpu.min.js", "7d65dad7eb4564ad98db9924a259af2e2c68ebfbdbf254fa5d728f1c5736e07a"),
        "mjs": ("ort-wasm-simd-threaded.asyncify.mjs", "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28"),
        "wasm": ("ort-wasm-simd-threaded.asyncify.wasm", "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da"),
    },
}
"""Of each build of onnxruntime-web the files that a page needs, with their SHA-256."""


class DemoError(DadkitError):
    """A page cannot be made; the message says what is missing and where to get it."""


def build_page(
    files: Sequence[Path], output: Path, *, runtime: Path | None = None, webgpu: bool = False, title: str = ""
) -> Path:
    """Write one self-contained HTML page that runs exported ONNX files in a browser.

    Args:
        files: one or two ``.onnx`` files that dadkit wrote.
        output: the page; it must not exist.
        runtime: a folder with onnxruntime-web, as ``npm install`` or ``npm pack`` gives it. It becomes part of the page, which
            then works offline and from the disk. None: the page loads it from a public server when it is opened.
        webgpu: the page holds the runtime for graphics cards too, 9 MB more, and uses it where the browser has one. A page that
            loads its runtime always can.
        title: heading; empty: the models' names.

    Raises:
        DemoError: the page exists, a file was not written by dadkit, or the runtime is missing or another version.
    """
    if output.exists():
        raise DemoError(f"{output} exists already; give another name, or remove it first")
    models = [_model(file) for file in files]
    if len({model["title"] for model in models}) < len(models):  # two precisions of one model, say
        models = [{**model, "title": file.stem} for model, file in zip(models, files, strict=True)]
    runtimes = {build: _linked(build) for build in _BUILDS}
    if runtime is not None:
        held = _BUILDS if webgpu else ("wasm",)
        runtimes = {build: {key: _packed(_part(runtime, *part)) for key, part in _BUILDS[build].items()} for build in held}
    where = "is part of this page" if runtime else "comes from jsdelivr.net"
    note = (
        f"Runs in this browser: onnxruntime-web {RUNTIME_VERSION} (MIT) {where}, and no picture leaves this machine. "
        "Made with dadkit."
    )
    write_text(output, render_page(models, title=title, note=note, runtimes=runtimes))
    return output


def render_page(
    models: Sequence[Mapping[str, Any]], *, title: str, note: str, runtimes: Mapping[str, Mapping[str, str]] | None = None
) -> str:
    """Returns the page's text.

    Args:
        models: title and facts of each, and its packed ``data``, or the ``url`` of a server that runs it.
        title: heading; empty: the models' titles.
        note: what is said at the end of the page.
        runtimes: of the builds of onnxruntime-web, ``wasm`` and ``webgpu``, the packed ``script``, ``mjs`` and ``wasm``, or the
            address (``src``, ``integrity``) to load them from; None where no model runs in the browser.
    """
    page = resources.files("dadkit.export").joinpath("demo.html").read_text(encoding="utf-8")
    words = {
        "@TITLE@": html.escape(title or " and ".join(model["title"] for model in models)),
        "@NOTE@": note,
        "@MODELS@": _script_safe(models),
        "@RUNTIMES@": _script_safe(runtimes),
    }
    for place, text in words.items():
        page = page.replace(place, text, 1 if place != "@TITLE@" else -1)
    return page


def web_file(model: DepthModel, folder: Path, **arguments: Any) -> Path:
    """``model`` as a checked ONNX file in ``folder``; ``arguments`` are those of :func:`export_model`."""
    return Path(export_model(model, folder / f"{model.spec.name}.onnx", **arguments).files[0])


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Returns where files of a page lie until it is written."""
    return tempfile.TemporaryDirectory(prefix="dadkit-demo-")


def _model(file: Path) -> dict[str, Any]:
    try:
        facts = read(OnnxExporter().metadata(file)) if file.suffix == ".onnx" and file.is_file() else None
    except Exception:  # the reader of protocol buffers has errors of its own
        facts = None
    if facts is None:
        raise DemoError(f"{file} is no ONNX file that dadkit wrote; make one with: dadkit export MODEL -o model.onnx")
    data = file.read_bytes()
    return {"title": facts["name"], "facts": facts, "megabytes": len(data) / 1e6, "data": _packed(data)}


def _linked(build: str) -> dict[str, str]:
    """Returns where a page finds a build's script, and the checksum that its browser holds it against."""
    name, digest = _BUILDS[build]["script"]
    return {"src": _ADDRESS + name, "integrity": "sha256-" + base64.b64encode(bytes.fromhex(digest)).decode()}


def _part(runtime: Path, name: str, digest: str) -> bytes:
    found = next((path for path in (runtime / "dist" / name, runtime / name) if path.is_file()), None)
    how = f"get it with: npm pack onnxruntime-web@{RUNTIME_VERSION} && tar xzf onnxruntime-web-{RUNTIME_VERSION}.tgz"
    if found is None:
        raise DemoError(f"there is no {name} in {runtime}; {how}, then --runtime package")
    data = found.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise DemoError(f"{found} is not that of onnxruntime-web {RUNTIME_VERSION}: its checksum differs; {how}")
    return data


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def _script_safe(value: Any) -> str:
    return json.dumps(value).replace("</", "<\\/")
