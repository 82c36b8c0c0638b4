"""Cards say what a run wrote down; a push reaches a hub that runs on this machine; transformers reads what was pushed."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from dadkit.cli import app
from dadkit.loading import load_model
from dadkit.publishing import prepare, push

RUN = """
name: mine
student: {name: topformer/tiny}
teachers: [{name: dav2/tiny, options: {weights: none}}]
data: {unlabelled: [{name: procedural, options: {count: 4, size: 80}}], workers: 0}
contexts: {name: shared, options: {view_size: 64}}
losses: {local_global: {weight: 0}}
batch_size: 2
iterations: 1
evaluation: {data: {name: procedural, options: {split: test, count: 2, size: 64}}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "mine.yaml").write_text(RUN)
    result = CliRunner().invoke(app, ["train", str(folder / "mine.yaml"), f"output={folder}"])
    assert result.exit_code == 0, result.output
    return folder / "mine"


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the hub, on loopback: it remembers requests and files."""
    requests, files = [], {}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, content):
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            requests.append(("GET", self.path, None))
            self.answer({"siblings": [], "id": "me/mine", "sha": "0" * 40})

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            requests.append(("POST", self.path, body))
            if "/preupload/" in self.path:
                named = [file["path"] for file in json.loads(body)["files"]]
                self.answer({"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in named]})
            elif "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                self.answer({"commitUrl": f"{here()}/me/mine/commit/{'1' * 40}", "commitOid": "1" * 40})
            else:
                self.answer({"url": f"{here()}/me/mine", "name": "me/mine", "errors": [], "warnings": []})

    def here():
        return f"http://127.0.0.1:{server.server_port}"

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", here())
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", here())
    monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    yield requests, files
    server.shutdown()
    server.server_close()


@pytest.mark.slow  # it trains a step
def test_the_card_of_a_run(run, dadkit):
    answer = dadkit("card", run)
    assert answer.code == 0, answer.err
    head = yaml.safe_load(answer.out.split("---")[1])
    assert head["pipeline_tag"] == "depth-estimation"
    assert head["license"] == "apache-2.0"
    measured = {row["type"]: row["value"] for row in head["model-index"][0]["results"][0]["metrics"]}
    row = next(r for r in json.loads((run / "evaluation.json").read_text())["models"] if r["model"] == "student")
    assert measured["abs_rel"] == pytest.approx(row["mean"]["abs_rel"], abs=1e-4)
    for words in (
        f"{row['interval']['abs_rel']['low']:.4f} to",
        "| `dav2/tiny` | Apache-2.0 |",
        "1 optimiser steps",
        "rendered scenes",
    ):
        assert words in answer.out, words
    assert str(run.parent) not in answer.out


@pytest.mark.slow  # it trains a step and translates to ONNX
def test_what_is_pushed_is_read_by_transformers_and_by_dadkit(run, hub, tmp_path):
    transformers = pytest.importorskip("transformers")
    requests, files = hub
    folder = prepare(str(run), tmp_path / "hub", repository="me/mine")
    assert push(folder.path, "me/mine").endswith("/me/mine/commit/" + "1" * 40)
    made = next(json.loads(body) for method, path, body in requests if path == "/api/repos/create")
    assert made.get("visibility") == "private" or made.get("private") is True  # as older releases of the client say
    assert files.keys() == set(folder.files)
    there = tmp_path / "there"
    for name, content in files.items():
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_bytes(content)
    model = load_model(run)
    torch.testing.assert_close(
        load_model(there / "dadkit" / "model.safetensors").state_dict(), model.state_dict(), rtol=0, atol=0
    )
    deployed, image = load_model(there / "model.onnx"), torch.rand(1, 3, 64, 96)
    torch.testing.assert_close(deployed(image).depth, model(image).depth, rtol=1e-4, atol=1e-5)
    assert deployed.facts["source"]["component"] == "topformer/tiny"
    pipe = transformers.pipeline("depth-estimation", model=str(there), trust_remote_code=True)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 192, 3), dtype=np.uint8))
    with torch.inference_mode():
        wanted = model.estimate(pipe.image_processor(picture, return_tensors="pt")["pixel_values"])[0]
        found = pipe.model(**pipe.image_processor(picture, return_tensors="pt")).predicted_depth
        wanted = model.brought_to(wanted, tuple(found.shape[-2:]))[:, 0]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert pipe(picture)["predicted_depth"].shape[-2:] == (128, 192)


def test_in_transformers_larger_is_nearer(tmp_path, dadkit):
    transformers = pytest.importorskip("transformers")
    data = pytest.importorskip("skimage.data", reason="scikit-image carries the real stereo pair")
    assert dadkit("convert", "starter/tiny", tmp_path / "hf", "--to", "hf").code == 0
    left, _, disparity = data.stereo_motorcycle()
    pipe = transformers.pipeline("depth-estimation", model=str(tmp_path / "hf"), trust_remote_code=True)
    found = pipe(Image.fromarray(left))["predicted_depth"].numpy()
    valid = np.isfinite(disparity)
    assert np.corrcoef(found[valid], disparity[valid])[0, 1] > 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["card", "starter/tiny", "-o", "there.md"], "exists already"),
        (["push", "starter/tiny", "mine", "--dry-run", "-o", "new"], "ORG/NAME"),
        (["push", "starter/tiny", "me/mine", "--dry-run"], "give -o FOLDER"),
    ],
)
def test_refusals(tmp_path, monkeypatch, dadkit, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.md").write_text("mine")
    answer = dadkit(*words)
    assert answer.code != 0
    assert message in answer.err
    assert (tmp_path / "there.md").read_text() == "mine"


def test_a_hub_that_cannot_be_reached_is_named(tmp_path, monkeypatch, dadkit):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
    answer = dadkit("push", "starter/tiny", "me/mine", "--no-onnx")
    assert answer.code != 0
    assert "the hub did not take me/mine" in answer.err
    assert not list(tmp_path.iterdir())
