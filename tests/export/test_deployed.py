"""An exported file is a model: loaded, predicted with, evaluated, copied, like any other."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import dadkit
from dadkit.errors import DadkitError
from dadkit.export import export_model
from dadkit.export.onnx import OnnxExporter
from dadkit.labelling.answers import TeacherAnswers
from dadkit.testing.toy import ToyStudent

pytest.importorskip("onnxruntime")


def toy():
    torch.manual_seed(0)
    return ToyStudent().eval()


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (36, 48, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module", params=["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def file(request, tmp_path_factory):
    pytest.importorskip(request.param)
    path = tmp_path_factory.mktemp(request.param) / f"toy.{'onnx' if request.param == 'onnx' else 'xml'}"
    return export_model(toy(), path, to=request.param).files[0]


def test_it_predicts_what_the_model_predicts(file, picture):
    model, deployed = toy(), dadkit.load_model(file)
    assert (deployed.spec.space, deployed.spec.size_multiple) == (model.spec.space, model.spec.size_multiple)
    wanted = model.predict([picture, picture], batch_size=2).depth
    assert torch.allclose(deployed.predict([picture, picture], batch_size=2).depth, wanted, atol=1e-5)
    # A worker gets a copy, which opens the file again.
    for twin in (copy.deepcopy(deployed), pickle.loads(pickle.dumps(deployed))):
        assert torch.allclose(twin.predict(picture).depth, wanted[:1], atol=1e-5)


def test_commands_take_it(file, picture, tmp_path, dadkit):
    answer = dadkit("predict", picture, "--model", file, "-o", tmp_path / "out", "-f", "npy")
    assert answer.code == 0, answer.err
    wanted = toy().predict(picture).depth[0, 0].numpy()
    assert np.allclose(np.load(tmp_path / "out" / "photo.npy"), wanted, atol=1e-5)
    assert "computes in its own precision" in dadkit("predict", picture, "--model", file, "--precision", "bf16").err
    answer = dadkit("evaluate", "--model", file, "-o", tmp_path / "evaluation", "split=test", "count=2", "size=64")
    assert answer.code == 0, answer.err


def test_labels_have_the_size_that_it_sees_and_name_its_weights(file, tmp_path):
    def ask(path):
        return TeacherAnswers(str(path), {}, None, "fp32", "cpu")

    answers = ask(file)
    assert answers.sees(3000, 4000) == toy().spec.native.target(3000, 4000)
    twin = tmp_path / file.name
    for part in file.parent.glob(f"{file.stem}.*"):
        shutil.copy(part, tmp_path)
    assert ask(twin).about["sha256"] == answers.about["sha256"]
    if file.suffix == ".onnx":
        OnnxExporter().annotate(twin, {"weights": "others"})
    else:
        weights = twin.with_suffix(".bin")
        weights.write_bytes(weights.read_bytes() + b"others")
    assert ask(twin).about["sha256"] != answers.about["sha256"]


def test_signals_are_handled_after_it_was_used(file, picture):
    code = (
        "import faulthandler, os, signal, sys\n"
        "faulthandler.enable()  # gives signal handlers a stack of their own, as pytest does\n"
        "import dadkit\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('handled', flush=True))\n"
        "first, second = (dadkit.load_model(sys.argv[1]) for _ in range(2))\n"
        "for model in (first, second):\n"
        "    model.predict(sys.argv[2])\n"
        "del model, first, second  # in this order, each puts back the stack that it found\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, file, picture], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_a_file_of_one_size_and_of_bytes_sees_every_picture_at_it(tmp_path, picture):
    model = toy()
    path = export_model(model, tmp_path / "one.onnx", size=(24, 32), input="uint8").files[0]
    deployed = dadkit.load_model(path)
    answer = deployed.predict([picture, picture], batch_size=2).depth
    assert answer.shape == (2, 1, 36, 48)
    assert torch.equal(answer[0], answer[1])
    assert TeacherAnswers(str(path), {}, None, "fp32", "cpu").sees(3000, 4000) == (24, 32)


def test_files_of_others_are_told_from_models(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", [value], [helper.make_tensor_value_info("y", 1, [1])]
    )
    onnx.save(helper.make_model(graph), tmp_path / "foreign.onnx")
    with pytest.raises(DadkitError, match="was not written by dadkit"):
        dadkit.load_model(tmp_path / "foreign.onnx")
    (tmp_path / "page.onnx").write_text("<!DOCTYPE html><html>")
    with pytest.raises(DadkitError, match="cannot be read as a model: a web page"):
        dadkit.load_model(tmp_path / "page.onnx")
    (tmp_path / "model.xyz").write_text("?")
    with pytest.raises(DadkitError, match="is no model"):
        dadkit.load_model(tmp_path / "model.xyz")
