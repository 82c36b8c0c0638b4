"""`dadkit demo`: a page that does in a browser what the model does, and asks nobody for anything."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.export import export_model
from dadkit.export.demo import DemoError, build_page
from dadkit.testing.toy import ToyStudent

sys.path.insert(0, str(Path(__file__).parent))
from browser import browser, is_installed

pytest.importorskip("onnxruntime")
RUNTIME = os.environ.get("DADKIT_WEB_RUNTIME", "")


def toy():
    torch.manual_seed(0)
    return ToyStudent().eval()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return export_model(toy(), tmp_path_factory.mktemp("file") / "toy.onnx").files[0]


def test_what_a_page_needs_is_said(file, tmp_path, dadkit):
    (tmp_path / "ort.wasm.min.js").write_text("other")
    for runtime, message in ((tmp_path / "nowhere", "npm pack onnxruntime-web"), (tmp_path, "its checksum differs")):
        with pytest.raises(DemoError, match=message):
            build_page([file], tmp_path / "page.html", runtime=runtime)
    with pytest.raises(DemoError, match="no ONNX file that dadkit wrote"):
        build_page([tmp_path / "ort.wasm.min.js"], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
    assert "--runtime FOLDER" in dadkit("demo", file, "-o", tmp_path / "page.html").err


def test_a_page_that_is_online_anyway_names_its_scripts_with_their_checksums(file, tmp_path, dadkit):
    answer = dadkit("demo", file, "-o", tmp_path / "page.html", "--online", "--title", "Depth <of> Toys")
    assert answer.code == 0, answer.err
    page = (tmp_path / "page.html").read_text()
    assert page.count("https://") == page.count('"integrity": "sha256-') == 2  # WebAssembly or WebGPU, as the browser can
    assert "<title>Depth &lt;of&gt; Toys</title>" in page
    assert "@MODELS@" not in page
    assert "exists already" in dadkit("demo", file, "-o", tmp_path / "page.html", "--online").err
    shutil.copy(file, tmp_path / "twin.onnx")
    page = build_page([file, tmp_path / "twin.onnx"], tmp_path / "two.html").read_text()
    assert "<title>toy and twin</title>" in page  # one network's name would not tell them apart


@pytest.mark.slow
@pytest.mark.skipif(not (RUNTIME and is_installed()), reason="needs chromium, chromedriver, and DADKIT_WEB_RUNTIME")
def test_a_visitor_gets_the_models_own_numbers(file, tmp_path):
    shutil.copy(file, tmp_path / "twin.onnx")
    page = build_page([file, tmp_path / "twin.onnx"], tmp_path / "page.html", runtime=Path(RUNTIME))
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    (tmp_path / "text.png").write_text("no picture")
    with torch.no_grad():
        wanted = toy()(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255).depth[0, 0].numpy()
    with browser(tmp_path) as tab:
        tab.open(page)
        tab.wait("status", "ready")
        tab.give("file", str(tmp_path / "text.png"))
        tab.wait("status", "text.png cannot be read as a picture")
        tab.give("file", str(tmp_path / "photo.png"))
        assert tab.wait("status", "ms at 64 × 48").count("ms") == 2  # both models
        # The slider uncovers the right pane from its left edge on.
        tab.run("const s = document.getElementById('slider'); s.value = 20; s.dispatchEvent(new Event('input'))")
        assert "20%" in tab.run("return document.getElementById('right').style.clipPath")
        for button in ("npy", "png"):
            tab.run("document.getElementById(arguments[0]).click()", button)
            end = time.monotonic() + 20
            while not (tmp_path / f"depth.{button}").exists():
                assert time.monotonic() < end, sorted(path.name for path in tmp_path.iterdir())
                time.sleep(0.05)
        assert np.allclose(np.load(tmp_path / "depth.npy"), wanted, atol=1e-5)
        picture = Image.open(tmp_path / "depth.png")
        low, scale = (
            float(word) for word in picture.text["Comment"].split(";")[0].removeprefix("value = ").split(" + pixel * ")
        )
        assert np.allclose(low + scale * np.asarray(picture).astype(float), wanted, atol=2e-5 * np.ptp(wanted) + 1e-6)
        tab.run("document.getElementById('points').click()")
        colours = tab.run(
            "const g = state.cloud.gl, p = new Uint8Array(4 * g.drawingBufferWidth * g.drawingBufferHeight);"
            "g.readPixels(0, 0, g.drawingBufferWidth, g.drawingBufferHeight, g.RGBA, g.UNSIGNED_BYTE, p);"
            "return new Set(p).size"
        )
        assert colours > 50
        tab.run("document.getElementById('points').click(); state.maps = []; document.getElementById('webcam').click()")
        tab.wait("webcam", "Stop")
        assert "640 × 480" in tab.wait("status", "ms at")  # the browser's pretended camera, at a legal size
        tab.run("document.getElementById('webcam').click()")
        tab.wait("webcam", "Webcam")
        others = "return performance.getEntriesByType('resource').map(r => r.name).filter(n => !/^(blob|data):/.test(n))"
        assert tab.run(others) == []


@pytest.mark.slow
@pytest.mark.skipif(not (RUNTIME and is_installed()), reason="needs chromium, chromedriver, and DADKIT_WEB_RUNTIME")
def test_a_page_uses_webgpu_where_there_is_one(file, tmp_path):
    """Numbers of both ways are the model's. Software that pretends to be a graphics card is used only when asked for."""
    page = build_page([file], tmp_path / "page.html", runtime=Path(RUNTIME), webgpu=True)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    with torch.no_grad():
        wanted = toy()(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255).depth[0, 0].numpy()
    for webgpu, part, place in ((False, "", "WebAssembly"), (True, "", "WebAssembly"), (True, "#webgpu", "WebGPU")):
        with browser(tmp_path, webgpu=webgpu) as tab:
            tab.open(page.as_uri() + part)
            tab.wait("status", "ready")
            assert f"MB, {place}," in tab.text("about")
            tab.give("file", str(tmp_path / "photo.png"))
            tab.wait("status", "ms at 64 × 48")
            found = np.array(tab.run("return Array.from(state.maps[0].depth)")).reshape(wanted.shape)
            assert np.allclose(found, wanted, atol=1e-4 * np.ptp(wanted))
