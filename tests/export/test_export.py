"""`dadkit export`: the file does what the model does, says what it is, and gets its name only then."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import dadkit
from dadkit.export import ExportError, export_model, writing
from dadkit.export.mends import mend
from dadkit.export.photographs import cropped, photographs
from dadkit.interfaces import Exporter
from dadkit.testing.toy import ToyExporter, ToyStudent

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def toy_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("toy") / "toy.onnx"
    return export_model(ToyStudent(), path, source={"component": "toy"})


def test_the_graph_has_names_that_stay_and_says_what_it_is(toy_file):
    session = onnxruntime.InferenceSession(str(toy_file.files[0]))
    (image,), (depth,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape) == ("image", ["batch", 3, "height", "width"])
    assert (depth.name, depth.shape) == ("depth", ["batch", 1, "height", "width"])
    facts = json.loads(session.get_modelmeta().custom_metadata_map["dadkit"])
    assert facts == json.loads(json.dumps(toy_file.metadata))
    assert (facts["space"], facts["size_multiple"], facts["size"]) == ("disparity", 4, None)
    assert facts["source"] == {"component": "toy"}
    rows = facts["check"]["rows"]
    assert len({tuple(row["size"]) for row in rows}) == 3
    assert sum(row["size"][0] != row["size"][1] for row in rows) == 2
    assert facts["check"]["worst"] < 1e-5


def test_bytes_of_a_camera_give_the_same_map(tmp_path):
    model = ToyStudent().eval()
    (path,) = export_model(model, tmp_path / "bytes.onnx", input="uint8", size=(24, 32)).files
    picture = cropped(photographs()[0], (24, 32))
    session = onnxruntime.InferenceSession(str(path))
    (found,) = session.run(None, {"image": picture.permute(0, 2, 3, 1).numpy()})
    with torch.no_grad():
        assert np.allclose(found, model(picture.float() / 255).depth.numpy(), atol=1e-5)


@pytest.fixture
def toy_format(monkeypatch):
    """`export_model(…, to="toy")` writes with this class instead of a registered one."""

    def use(exporter: type[Exporter]):
        monkeypatch.setattr(writing, "build", lambda kind, name, options: exporter(**(options or {})))

    return use


class Lying(ToyExporter):
    def open(self, path, *, threads=0):
        run = super().open(path)
        return lambda images: run(images) * (1 if images.shape[0] == 1 else 1.01)


class NearlyTrue(ToyExporter):
    """Farther than the limit, near enough to ask for the model's own rounding, which is far smaller."""

    def open(self, path, *, threads=0):
        run = super().open(path)
        return lambda images: run(images) + 3e-4 * np.ptp(run(images))


class NotANumber(ToyExporter):
    def open(self, path, *, threads=0):
        run = super().open(path)
        return lambda images: run(images) + np.float32("nan")


@pytest.mark.parametrize("exporter", [Lying, NearlyTrue, NotANumber])
def test_a_file_that_answers_otherwise_gets_no_name(tmp_path, toy_format, exporter):
    toy_format(exporter)
    with pytest.raises(ExportError, match=r"more than the limit of 0\.0001; nothing was written"):
        export_model(ToyStudent(), tmp_path / "toy.pt2", to="toy")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_says_why(tmp_path, toy_format):
    toy_format(ToyExporter)
    (tmp_path / "there.pt2").write_text("mine")
    for name, options, message in (
        ("there.pt2", {}, "exists already"),
        ("toy.onnx", {}, "writes .pt2 files"),
        ("toy.pt2", {"size": (15, 32)}, "takes multiples of 4, not 15x32"),
        ("toy.pt2", {"pictures": [tmp_path / "nothing"]}, "cannot be read"),
    ):
        with pytest.raises(dadkit.errors.DadkitError, match=message):
            export_model(ToyStudent(), tmp_path / name, to="toy", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["there.pt2"]
    assert (tmp_path / "there.pt2").read_text() == "mine"


def test_a_network_that_counts_its_batch_is_refused_with_a_reason(tmp_path, toy_format):
    toy_format(ToyExporter)

    class Counting(ToyStudent):
        def estimate(self, x):
            depth, features = super().estimate(x)
            return depth.reshape(len(x), 1, *depth.shape[-2:]), features

    with pytest.raises(ExportError, match="the model cannot be written as toy; a file of one size may work"):
        export_model(Counting(), tmp_path / "toy.pt2", to="toy")


def test_the_command_prints_the_check_and_the_licence(tmp_path, dadkit, monkeypatch):
    monkeypatch.setattr("dadkit.loading.load_model", lambda name, **options: ToyStudent())
    answer = dadkit("export", "toy/student", "-o", tmp_path / "toy.onnx", "--size", "16x24")
    assert answer.code == 0, answer.err
    assert answer.out.count("16x24") == 3
    assert "wrote" in answer.err
    assert "licence:" in answer.err
    assert "HEIGHTxWIDTH" in dadkit("export", "toy/student", "-o", tmp_path / "x.onnx", "--size", "16by20").err


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["topformer/tiny", "topformer/tiny:injection=none", "dav2/tiny", "midas/tiny", "midas/tiny-conv", "zipdepth/base"]
)
def test_the_students_export_at_any_size(tmp_path, name):
    """Half a minute each: the translation to ONNX is slow. Others are of the same parts: `benchmarks/deploy.py --agreement`."""
    from dadkit.cli.arguments import split_model

    torch.manual_seed(0)
    component, options = split_model(name)
    model = dadkit.load_student(component, **options)
    with torch.no_grad():  # the norms of random weights know no activations, which then grow until float32 is too coarse
        for turn in range(10):
            views = [photographs()[0][:, 20 * i : 20 * i + 400, 30 * turn : 30 * turn + 200] for i in range(4)]
            model.train()(torch.cat([cropped(view, (224, 224)) for view in views]).float() / 255)
    result = export_model(model, tmp_path / "student.onnx")
    assert result.metadata["size"] is None
    assert result.agreement.worst < 1e-4
    # The network's own grid, at which the position embedding is taken as it is.
    own = model.spec.native.target(256, 256)
    image = torch.rand(1, 3, *own)
    run = onnxruntime.InferenceSession(str(result.files[0])).run
    with torch.no_grad():
        wanted = model.eval()(image).depth
    assert np.allclose(run(None, {"image": image.numpy()})[0], wanted.numpy(), atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize(("size", "in_blocks"), [(None, True), ((24, 32), True), ((6, 8), False)])
def test_a_convolution_to_one_channel_is_computed_in_blocks_where_they_fit(size, in_blocks):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(5, 1, 3, padding=1))
    image = torch.rand(2, 3, *(size or (12, 20)))
    wanted = network(image)
    mend(network, size or (12, 16))
    assert (type(network[-1]) is not torch.nn.Conv2d) == in_blocks
    torch.testing.assert_close(network(image), wanted)
