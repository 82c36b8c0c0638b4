"""Models and runs: batches, equal frames, optional packages that are broken, labels that explode, runs that go on."""

import json
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.loading import load_model, load_student

from .conftest import MODEL, picture

RUN = """
name: p
student: {name: topformer/tiny, options: {native_size: 64}}
data: {labelled: [{name: pairs, options: {root: ROOT, encoding: npy, space: metric}}], workers: 0}
contexts: {name: whole, options: {view_size: 64}}
losses: {local_global: {weight: 0}, anchor: {warmup_maps: 1}}
optim: {lr: 1.0e-3}
iterations: 2
batch_size: 2
log_every: 1
sample_every: 100
report: false
"""


@pytest.fixture
def run(tmp_path, dadkit):
    """Writes pairs, of which the depth at ``huge`` holds 3e38, and trains on them with overrides."""
    for folder in ("images", "depth"):
        (tmp_path / "mine" / folder).mkdir(parents=True)
    ramp = np.linspace(1, 5, 72, dtype=np.float32)[:, None] + np.zeros((72, 96), np.float32)
    for index in range(4):
        Image.fromarray(picture(72, 96, index)).save(tmp_path / "mine" / "images" / f"{index}.png")
        np.save(tmp_path / "mine" / "depth" / f"{index}.npy", ramp)
    (tmp_path / "p.yaml").write_text(RUN.replace("ROOT", str(tmp_path / "mine")))

    def train(*overrides, huge=False):
        if huge:
            for index in range(4):
                np.save(tmp_path / "mine" / "depth" / f"{index}.npy", np.where(ramp > 3, np.float32(3e38), ramp))
        return dadkit("train", tmp_path / "p.yaml", f"output={tmp_path / 'runs'}", *overrides)

    return train


def test_07_and_09_a_mixed_batch_is_predicted_as_its_pictures_alone(tmp_path, dadkit):
    folder = tmp_path / "mixed"
    folder.mkdir()
    base = Image.fromarray(picture(48, 64))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        base.convert(mode).save(folder / f"{mode}.png")
    base.convert("CMYK").save(folder / "CMYK.jpg")
    Image.fromarray((picture(48, 64)[..., 0].astype(np.uint16)) * 257).save(folder / "16.png")
    Image.fromarray(picture(9, 7)).save(folder / "small.png")
    for kind in ("gif", "tiff"):  # of several pictures the first is taken
        base.convert("P").save(folder / f"moving.{kind}", save_all=True, append_images=[Image.new("P", base.size)])
    for size in (1, 4):
        torch.manual_seed(0)  # of the weights
        answer = dadkit("predict", folder, "-m", MODEL, "-f", "npy", "-o", tmp_path / str(size), "--batch-size", size)
        assert answer.code == 0, answer.err
    names = sorted(path.name for path in (tmp_path / "1").glob("*.npy"))
    assert len(names) == 11
    for name in names:
        one, four = (np.load(tmp_path / size / name) for size in ("1", "4"))
        np.testing.assert_allclose(one, four, rtol=1e-4, atol=1e-4 * np.abs(one).max())
    first = np.load(tmp_path / "1" / "P.npy")
    for kind in ("gif", "tiff"):
        found = np.load(tmp_path / "1" / f"moving.{kind}.npy")
        np.testing.assert_allclose(found, first, rtol=1e-4, atol=1e-4 * np.abs(first).max())


def test_12_a_broken_optional_package_is_not_looked_at(monkeypatch):
    class Broken(types.ModuleType):
        """Raises where anything is taken from it."""

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            raise RuntimeError("no CUDA here")

    monkeypatch.setitem(sys.modules, "xformers", Broken("xformers"))
    monkeypatch.setitem(sys.modules, "xformers.ops", Broken("xformers.ops"))
    assert load_model("dav2/tiny", weights="none").predict(torch.rand(3, 126, 168)).depth.isfinite().all()


def test_14_equal_frames_have_equal_depth():
    frame = torch.rand(3, 126, 168)
    depth = load_model("dav2/tiny-metric", weights="none", max_depth=10).predict([frame] * 3, batch_size=2).depth
    assert float((depth - depth[0]).abs().max()) <= 1e-5 * float(depth.abs().max())


def test_31_a_label_that_explodes_costs_an_iteration_and_is_named(run, tmp_path):
    metric = [
        "losses.labelled={normalizer: {name: none}}",
        "losses.gradient.weight=0",
        "student={name: dav2/tiny-metric, options: {max_depth: 10}}",
    ]
    answer = run(*metric, "contexts.options.view_size=56", huge=True)
    assert answer.code in (0, 1, 3)
    assert "Traceback" not in answer.err
    assert list((tmp_path / "runs").rglob("nonfinite.jsonl")) or "median depth" in answer.err


def test_37_a_finished_run_says_how_it_goes_on_and_goes_on_that_way(run, tmp_path):
    assert run().code == 0
    answer = run("iterations=4")
    assert answer.code != 0
    weights = "runs/p/stages/main/model.safetensors"
    assert weights in answer.err
    assert run("name=again", f"student.options.weights={tmp_path / weights}").code == 0


def test_37_a_batch_of_one_says_what_helps(run):
    answer = run("batch_size=1")
    assert answer.code == 0 or all(word in answer.err for word in ("batch_size", "accumulate"))


def test_54_a_relative_model_has_no_metres_to_evaluate(run, tmp_path, dadkit):
    options = [f"root={tmp_path / 'mine'}", "encoding=npy", "space=metric"]
    answer = dadkit("evaluate", "--model", MODEL, "-d", "pairs", "-p", "metric", *options, "--output", tmp_path / "e")
    assert answer.code == 2
    assert "answers in space 'disparity', but 'metric' is wanted" in answer.err
    assert not (tmp_path / "e" / "evaluation.json").exists()


@pytest.mark.slow  # two tracers
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_38_a_student_is_traced_by_torch_itself():
    """Its official network fails there, in the bicubic interpolation of its positions."""
    network, image = load_student("dav2/tiny", weights="none").eval().deployable((70, 84)), torch.rand(1, 3, 70, 84)
    with torch.no_grad():
        wanted = network(image)
        for traced in (torch.export.export(network, (image,)).module(), torch.jit.trace(network, image)):
            torch.testing.assert_close(traced(image), wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_39_metres_from_five_distances(tmp_path, dadkit):
    Image.fromarray(picture(120, 160)).save(tmp_path / "p.png")
    places = ["20,110,1.9", "80,90,2.9", "120,60,4.9", "60,30,7.1", "150,5,8.8"]
    (tmp_path / "known.csv").write_text("\n".join(["x,y,metres", *places]))
    command = ["calibrate", "starter/tiny", tmp_path / "p.png", "--points", tmp_path / "known.csv", "-o", tmp_path / "c.json"]
    answer = dadkit(*command, "--fov", 60)
    assert answer.code == 0, answer.err
    assert "metres = " in answer.err
    stored = json.loads((tmp_path / "c.json").read_text())
    assert [(point["x"], point["y"]) for point in stored["points"]] == [(20, 110), (80, 90), (120, 60), (60, 30), (150, 5)]
    german = "\n".join(["X;Y;Metres", *(place.replace(",", ";").replace(".", ",") for place in places)])
    (tmp_path / "known.csv").write_text(german, encoding="utf-16")
    assert dadkit(*command, "--fov", 60).code == 0
    assert json.loads((tmp_path / "c.json").read_text())["points"] == stored["points"]
    (tmp_path / "known.csv").write_text("x,y,mm\n1,2,3000")
    assert "the columns are image,x,y,metres" in dadkit(*command).err
