"""`dadkit demo MODEL`: the page on loopback, with models of this machine behind it."""

from __future__ import annotations

import io
import json
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dadkit.errors import DadkitError
from dadkit.export.serve import DemoServer
from dadkit.loading import load_model

sys.path.insert(0, str(Path(__file__).parent))
from browser import browser, is_installed


@pytest.fixture
def server():
    models = [("one", load_model("starter/tiny")), ("two", load_model("topformer/tiny")), ("three", load_model("starter/tiny"))]
    with DemoServer(models) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))


def ask(server, path, body=None, **headers):
    request = urllib.request.Request(server.address + path, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_the_map_is_the_models_own(server):
    data = io.BytesIO()
    picture().save(data, "PNG")
    status, headers, body = ask(server, "models/0", data.getvalue())
    assert status == 200
    facts = json.loads(headers["X-Map"])
    found = np.frombuffer(body, "<f4").reshape(facts["height"], facts["width"])
    np.testing.assert_array_equal(found, load_model("starter/tiny").predict(picture()).depth[0, 0].numpy())
    assert facts["ms"] > 0


def test_what_it_refuses(server):
    assert ask(server, "models/0", b"no picture")[0] == 422
    assert ask(server, "models/7", b"x")[0] == 404
    assert ask(server, "etc/passwd")[0] == 404
    assert ask(server, "", Host="evil.example:80")[0] == 403
    assert ask(server, "models/0", b"x", Origin="http://evil.example")[0] == 403
    with pytest.raises(DadkitError, match="give another one: --port"):
        DemoServer([("x", load_model("starter/tiny"))], port=server.server_port)


def test_the_page_names_the_models_and_nothing_elsewhere(server):
    status, _, body = ask(server, "")
    assert status == 200
    for words in ("one and two and three", '"url": "models/2"', "CC-BY-NC-4.0"):
        assert words in body.decode()
    assert "https://" not in body.decode()


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(), reason="needs chromium and chromedriver")
def test_a_visitor_compares_two_models(server, tmp_path):
    picture().save(tmp_path / "photo.png")
    (tmp_path / "text.png").write_text("no picture")
    with browser(tmp_path) as tab:
        tab.open(server.address)
        tab.wait("status", "ready")
        tab.give("file", str(tmp_path / "text.png"))
        tab.wait("status", "text.png cannot be read as a picture")
        tab.give("file", str(tmp_path / "photo.png"))
        assert tab.wait("status", "ms at 90 × 60").count("ms") == 2  # those of the two panes
        tab.run("const s = document.getElementById('rightpane'); s.selectedIndex = 3; s.dispatchEvent(new Event('change'))")
        tab.wait("status", "three: ")
        others = "return performance.getEntriesByType('resource').map(r => new URL(r.name).host)"
        assert set(tab.run(others)) <= {f"127.0.0.1:{server.server_port}"}
