"""`dadkit predict`'s work: which files, which formats, what happens to bad ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.data.depth_files import own_space, read_depth
from dadkit.errors import DadkitError, DataError
from dadkit.interfaces import CameraError, DepthModel, ModelSpec
from dadkit.prediction import find_inputs, predict_files
from dadkit.prediction.outputs import write_prediction
from dadkit.spaces import Space


class Brightness(DepthModel):
    def __init__(self):
        super().__init__()
        self.spec = ModelSpec(name="brightness", space=Space.DISPARITY, mean=(0, 0, 0), std=(1, 1, 1))

    def estimate(self, x):
        return x.mean(1, keepdim=True), {}


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in {"a.jpg": (64, 48), "b.png": (64, 48), "deep/a.jpg": (33, 21)}.items():
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(folder / name)
    (folder / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:300])
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.mark.parametrize("batch_size", [1, 4])
def test_every_format_of_every_image(photos, tmp_path, batch_size):
    out = tmp_path / "out"
    written, failures = predict_files(Brightness(), [photos], out, name="brightness", batch_size=batch_size)
    assert [Path(f.path).name for f in failures] == ["broken.jpg"]
    assert sorted(str(p.relative_to(out)) for p in written) == sorted(
        stem + end for stem in ("a", "b", "deep/a") for end in (".npy", ".png", ".color.png", ".side.png")
    )
    raw = np.load(out / "deep" / "a.npy")
    assert raw.shape == (21, 33)
    assert raw.dtype == np.float32
    truth = np.asarray(Image.open(photos / "deep" / "a.jpg")).mean(2) / 255
    np.testing.assert_allclose(raw, truth, atol=1e-5)
    decoded = read_depth(out / "deep" / "a.png", "png16")
    assert own_space(out / "deep" / "a.png") == "disparity"
    np.testing.assert_allclose(decoded, raw, atol=np.ptp(raw) / 65534)
    assert np.asarray(Image.open(out / "deep" / "a.color.png")).shape == (21, 33, 3)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_photograph_without_a_camera_fails_alone_where_metres_need_one(tmp_path, batch_size):
    class Ruler(Brightness):
        def __init__(self):
            super().__init__()
            self.spec = ModelSpec(name="ruler", space=Space.METRIC, canonical_focal=50.0)

    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26
    Image.new("RGB", (40, 30), "grey").save(tmp_path / "phone.jpg", exif=exif)
    Image.new("RGB", (40, 30), "grey").save(tmp_path / "plain.jpg")
    files, out = [tmp_path / "phone.jpg", tmp_path / "plain.jpg"], tmp_path / "out"
    written, (failure,) = predict_files(Ruler(), files, out, name="r", formats=["npy"], batch_size=batch_size)
    assert [path.name for path in written] == ["phone.npy"]
    assert "its camera is unknown, and ruler has metres only with one: give --focal PIXELS or --fov" in failure.reason
    with pytest.raises(CameraError, match="its camera is unknown"):
        predict_files(Ruler(), files[1:], out, name="r", formats=["npy"])


def test_invalid_pixels_are_nan_in_every_raw_format(tmp_path):
    depth = torch.arange(6.0).view(1, 2, 3)
    valid = torch.tensor([[[True, True, False], [True, True, True]]])
    image = torch.zeros(3, 2, 3, dtype=torch.uint8)
    write_prediction(tmp_path / "x", image, depth, space=Space.METRIC, valid=valid, formats=["npy", "png16"], model="m")
    assert np.isnan(np.load(tmp_path / "x.npy")[0, 2])
    decoded = read_depth(tmp_path / "x.png", "png16")
    assert own_space(tmp_path / "x.png") == "metric"
    assert np.isnan(decoded[0, 2])
    np.testing.assert_allclose(decoded[1], [3, 4, 5], atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 7.25, -3.0])
def test_a_constant_map_survives_the_png(tmp_path, value):
    depth = torch.full((1, 4, 4), value)
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    write_prediction(tmp_path / "x", image, depth, space=Space.DEPTH, valid=None, formats=["png16"], model="m")
    assert (read_depth(tmp_path / "x.png", "png16") == value).all()


def test_same_stem_with_two_endings_does_not_collide(tmp_path):
    for name in ("a.jpg", "a.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert [str(job.stem) for job in find_inputs([tmp_path]).images] == ["a.jpg", "a.png"]
    assert len(find_inputs([tmp_path, tmp_path / "a.png", tmp_path / "a.png"]).images) == 2  # one file is one image


def test_a_pattern_that_no_shell_expanded(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.jpg", "a.jpg", "c[1].jpg", "deep/d.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    for pattern, stems in {"*.jpg": ["a", "b", "c[1]"], "c[1].jpg": ["c[1]"], "**/d.*": ["d"]}.items():
        assert [str(job.stem) for job in find_inputs([f"{tmp_path}/{pattern}"]).images] == stems
    with pytest.raises(DataError, match=r"no_\*.jpg does not exist"):
        find_inputs([tmp_path / "no_*.jpg"])


def test_missing_path_and_empty_folder_say_so(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        find_inputs([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images in"):
        find_inputs([tmp_path / "empty"])


def test_a_failing_writer_leaves_no_file_behind(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    with pytest.raises(DadkitError, match="No space left"):
        write_prediction(tmp_path / "x", image, torch.ones(1, 4, 4), space="depth", valid=None, formats=["npy"], model="m")
    assert list(tmp_path.iterdir()) == []
