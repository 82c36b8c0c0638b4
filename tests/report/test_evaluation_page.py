"""The page of an evaluation: complete, self-contained, and rendered by a real browser without a complaint."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.data import ProceduralScenes
from dadkit.errors import DadkitError, DataError
from dadkit.evaluation import EvaluationPlan, evaluate_run, load_protocol
from dadkit.interfaces import DepthModel, ModelSpec, convert
from dadkit.report.evaluation import FIGURES, check_figures, write_evaluation_report
from dadkit.report.figures import alignment_figure, centre, crops_figure, normalisation_figure, qualitative_figure
from dadkit.spaces import Space

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Ramp(DepthModel):
    """Disparity from the row, and a little from the brightness."""

    def __init__(self, share: float, space: Space = Space.DISPARITY, license: str = "Apache-2.0"):
        super().__init__()
        self.spec = ModelSpec(name="ramp", space=space, mean=(0, 0, 0), std=(1, 1, 1), license=license)
        self.share = share

    def estimate(self, x):
        rows = torch.linspace(0, 1, x.shape[-2]).view(1, 1, -1, 1)
        return rows + self.share * x.mean(1, keepdim=True) + 0.1, {}


MODELS = {"ramp <a>": Ramp(0.0), "ramp b": Ramp(0.5, license="CC-BY-NC-4.0")}
PLAN = EvaluationPlan(
    load_protocol("affine-disparity"), "procedural", {"split": "test", "count": 6, "size": [48, 64]}, trivial=True
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    photos = folder / "photos"
    photos.mkdir()
    for name, size in (("wide.jpg", (60, 30)), ("tall.png", (30, 60))):
        pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / name)
    (photos / "broken.jpg").write_bytes(b"no image")
    evaluate_run(PLAN, folder, MODELS)
    return write_evaluation_report(folder, PLAN, MODELS, figures=list(FIGURES), qualitative=photos)


def test_the_page_is_complete_and_self_contained(page):
    text = page.read_text()
    results = json.loads((page.parent / "evaluation.json").read_text())
    for model in results["models"]:
        assert f"{model['mean']['abs_rel']:.4f}" in text
        interval = model["interval"]["abs_rel"]
        assert f"{interval['low']:.4f} – {interval['high']:.4f}" in text
    for words in (
        "scale and shift by least squares, in disparity",
        "1/100",
        "ramp &lt;a&gt;",
        "vertical ramp",
        "ramp b, worst",
        "CC-BY-NC-4.0",
        "Local against global alignment",
        "Whole image against central region",
        "Normalisation of the true disparity",
        "On other images",
        "images won",
    ):
        assert words in text, words
    assert text.count("data:image/jpeg;base64,") >= 4 + 3
    assert text.count("<svg") == 2
    assert not re.findall(r'(?:src|href)="(?!data:)(?!#)[^"]*"', text)
    assert "ramp <a>" not in text


@pytest.mark.skipif(BROWSER is None, reason="there is no browser to look with")
def test_a_browser_renders_it_without_errors(page, tmp_path):
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,1600"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=2000"]
    shot = tmp_path / "shot.png"
    seen = subprocess.run(
        [BROWSER, *options, f"--screenshot={shot}", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in seen.stderr, seen.stderr
    picture = np.asarray(Image.open(shot).convert("RGB"))
    assert picture.shape == (1600, 1200, 3)
    assert picture.std() > 20  # not a blank page, and coloured maps on it
    assert (np.ptp(picture.astype(int), axis=2) > 60).mean() > 0.01
    dom = subprocess.run(
        [BROWSER, *options, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    assert dom.count("<img") >= 7
    # The check can fail: a page that wants something from outside is complained about.
    bad = tmp_path / "bad.html"
    bad.write_text(page.read_text().replace("</body>", '<img src="https://example.invalid/x.png"></body>'))
    complaint = subprocess.run(
        [BROWSER, *options, "--dump-dom", bad.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" in complaint.stderr


def test_figures_that_a_protocol_cannot_have_are_refused():
    with pytest.raises(DadkitError, match="aligns nothing"):
        check_figures(["alignment"], load_protocol("metric"))
    with pytest.raises(DadkitError, match="pairs of points"):
        check_figures(["crops"], load_protocol("da-2k"))
    check_figures(["crops", "normalisation"], load_protocol("metric"))


def test_local_alignment_fits_the_region_better_than_global():
    class Bent(Ramp):
        """Right in the centre up to scale and shift, wrong around it."""

        def estimate(self, x):
            disparity = truth.expand(x.shape[0], -1, -1, -1).clone()
            rows, columns = centre(*x.shape[-2:])
            bent = disparity.sqrt() * 3
            bent[..., rows, columns] = 2 * disparity[..., rows, columns] + 5
            return bent, {}

    sample = ProceduralScenes(count=3, size=(48, 64), split="test")[0]
    truth, _ = convert(sample.depth, sample.valid, Space.METRIC, Space.DISPARITY)
    picture, values = alignment_figure(sample, {"bent": Bent(0)}, load_protocol("affine-disparity"))
    globally, locally = values["bent"]
    assert locally < 1e-5 < globally
    assert picture.ndim == 3


def test_pictures_of_the_other_figures(tmp_path):
    sample = ProceduralScenes(count=3, size=(48, 64), split="test")[1]
    assert crops_figure(sample, MODELS).shape[0] > 2 * 200
    metric = crops_figure(sample, {"metric": Ramp(0.2, Space.METRIC)})
    assert metric.shape[2] == 3
    disparity, _ = convert(sample.depth, sample.valid, Space.METRIC, Space.DISPARITY)
    assert normalisation_figure(disparity, sample.image).shape[1] > 5 * 300
    with pytest.raises(DataError, match="no readable image"):
        qualitative_figure(tmp_path, MODELS)


def test_pictures_of_a_model_that_needs_cameras_are_drawn_without_one_too(tmp_path):
    plain, canonical = Ramp(0.2, Space.METRIC), Ramp(0.2, Space.METRIC)
    canonical.spec = replace(canonical.spec, canonical_focal=50.0)
    sample = ProceduralScenes(count=3, size=(48, 64), split="test")[1]
    Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    drawn = [
        (crops_figure(replace(sample, intrinsics=None), {"m": model}), qualitative_figure(tmp_path, {"m": model}))
        for model in (plain, canonical)
    ]
    assert all(np.array_equal(one, other) for one, other in zip(*drawn, strict=True))
    camera = torch.tensor([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])  # twice the canonical one: the metres are twice as many
    known, twice, protocol = replace(sample, intrinsics=camera), plain, load_protocol("metric")
    twice.estimate = lambda x: (2 * Ramp(0.2).estimate(x)[0], {})
    values = [alignment_figure(known, {"m": model}, protocol)[1]["m"] for model in (canonical, twice)]
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_failures_are_on_the_page(tmp_path):
    class Sometimes(Ramp):
        def estimate(self, x):
            depth, features = super().estimate(x)
            depth[0] = torch.nan  # the first of each batch
            return depth, features

    models = {"sometimes": Sometimes(0.1)}
    (found,) = evaluate_run(replace(PLAN, trivial=False), tmp_path, models)
    assert found.failed
    text = write_evaluation_report(tmp_path, PLAN, models).read_text()
    assert "not finite" in text
    assert found.failed[0] in text
