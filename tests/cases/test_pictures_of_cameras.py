"""Pictures as cameras write them."""

import json
import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.data import Images, Sample, SampleError
from dadkit.data.folders import AVIF, HEIC
from dadkit.data.images import decode, exif_focal
from dadkit.errors import DadkitError
from dadkit.evaluation import evaluate, load_protocol
from dadkit.interfaces import DepthModel, ModelSpec, SizePolicy
from dadkit.interfaces import model as interfaces_model
from dadkit.loading import pick_device
from dadkit.prediction.predict import predict_tiled
from dadkit.prediction.steady import Steady
from dadkit.spaces import Space

from .conftest import MODEL, picture


class Brightness(DepthModel):
    """Answers with the mean of the channels, times a factor that depends on the size, as affine models do."""

    def __init__(self, space=Space.DISPARITY):
        super().__init__()
        self.spec = ModelSpec(name="brightness", space=space, mean=(0, 0, 0), std=(1, 1, 1))

    def estimate(self, x):
        return x.mean(1, keepdim=True) * (x.shape[-1] / 64) + x.shape[-2] / 100, {}


def test_03_a_phones_folder_is_counted_where_it_is_not_read(tmp_path, dadkit):
    folder = tmp_path / "phone"
    folder.mkdir()
    image = Image.fromarray(picture(48, 64))
    image.save(folder / "IMG_0.jpg")
    for index in range(3):
        (folder / f"IMG_{index}.DNG").write_bytes(b"II*\0")
    image.save(folder / "download.jfif", "JPEG")
    image.save(folder / "stereo.mpo", save_all=True, append_images=[image.rotate(180)])
    assert torch.equal(decode(folder / "stereo.mpo"), decode(folder / "IMG_0.jpg"))
    if AVIF:
        image.save(folder / "a.avif")
    if HEIC:
        from pillow_heif import from_pillow

        from_pillow(image).save(folder / "h.HEIC")
    answer = dadkit("predict", folder, "-m", MODEL, "-o", tmp_path / "out", "-f", "npy")
    assert answer.code == 0
    assert "left out: 3 .dng" in answer.err
    assert len(list((tmp_path / "out").glob("*.npy"))) == 3 + bool(AVIF) + bool(HEIC)
    with pytest.warns(UserWarning, match=r"left out 3 \.dng"):
        Images(str(folder), min_size=1)


def test_47_twelve_bits_in_sixteen(tmp_path, dadkit):
    grey = picture(48, 64)[..., 0]
    Image.fromarray(grey.astype(np.uint16) * 16).save(tmp_path / "t12.png")
    Image.fromarray(7300 + grey.astype(np.uint16)).save(tmp_path / "t14.png")
    assert decode(tmp_path / "t12.png").max() < 20  # as 16 bits: nearly black
    np.testing.assert_allclose(decode(tmp_path / "t12.png", bits=12)[0], grey, atol=1)
    stretched = decode(tmp_path / "t14.png", bits="percentile")[0].numpy()
    assert stretched.min() == 0
    assert stretched.max() == 255
    assert np.corrcoef(stretched.ravel(), grey.ravel())[0, 1] > 0.999
    answer = dadkit("predict", tmp_path / "t14.png", "-m", MODEL, "-o", tmp_path / "out", "-f", "npy")
    assert "nearly constant: grey levels 28 to 29 of 255" in answer.err.replace("\n", " ")
    assert "--bits" in answer.err
    answer = dadkit("predict", tmp_path / "t14.png", "-m", MODEL, "-o", tmp_path / "out", "-f", "npy", "--bits", "percentile")
    assert answer.code == 0
    assert "nearly constant" not in answer.err
    assert dadkit("predict", tmp_path / "t14.png", "-m", MODEL, "-o", tmp_path / "o", "--bits", "20").code == 2
    assert len(Images(str(tmp_path / "t12.png").replace("t12.png", ""), min_size=1, bits="percentile")[0].image) == 3


def test_48_signed_bytes_are_no_picture(tmp_path):
    """Pillow would read -1 as 255, the brightest."""
    Image.fromarray(picture(8, 8)[..., 0]).save(tmp_path / "a.tif", tiffinfo={339: 2})
    with pytest.raises(SampleError, match="signed 8-bit"):
        decode(tmp_path / "a.tif")


def test_06_windows_paths_in_a_list(tmp_path, dadkit):
    (tmp_path / "sub").mkdir()
    Image.fromarray(picture(48, 64)).save(tmp_path / "sub" / "one.png")
    (tmp_path / "w.txt").write_bytes(b"\xef\xbb\xbf# list\r\nsub\\one.png\r\n")
    assert Images(str(tmp_path / "w.txt"), min_size=1).key(0) == "sub/one"
    assert dadkit("predict", tmp_path / "w.txt", "-m", MODEL, "-o", tmp_path / "out", "-f", "npy").code == 0
    assert (tmp_path / "out" / "sub" / "one.npy").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_05_names_that_are_no_text(tmp_path, dadkit):
    """Old disks and archives hold names in other encodings than UTF-8."""
    folder = tmp_path / "old"
    folder.mkdir()
    Image.fromarray(picture(48, 64)).save(tmp_path / "p.png")
    Path(os.fsdecode(os.fsencode(folder) + b"/gr\xfcn.png")).write_bytes((tmp_path / "p.png").read_bytes())
    command = ["predict", folder, "-m", MODEL, "-o", tmp_path / "o", "-f", "npy", "-f", "color"]
    assert dadkit(*command).code == 0
    assert sorted(os.listdir(os.fsencode(tmp_path / "o")))[1:] == [b"gr\xfcn.color.png", b"gr\xfcn.npy"]
    answer = dadkit(*command)
    assert "1 finished before" in answer.err
    assert dadkit("inspect", folder, "min_size=1", "-o", tmp_path / "look").code == 0
    assert "gr\\udcfcn" in (tmp_path / "look" / "inspection.html").read_text(encoding="utf-8")


@pytest.fixture
def exif_photo(tmp_path):
    exif = Image.Exif()
    exif[0x8769] = {0xA405: 26}
    exif[0x0112] = 6
    Image.fromarray(picture(48, 64)).save(tmp_path / "exif.jpg", exif=exif)
    Image.fromarray(picture(48, 64)).save(tmp_path / "plain.jpg")
    return tmp_path / "exif.jpg"


def test_13_focal_length_of_the_photograph(exif_photo, tmp_path, dadkit):
    assert exif_focal(exif_photo, (48, 64)) == pytest.approx(26 * 80 / 43.2666, rel=1e-4)  # the diagonal of 64 x 48 is 80
    command = ["predict", exif_photo, "-m", MODEL, "--align", "0.01,1", "--ply", "-f", "npy", "-o", tmp_path / "o"]
    answer = dadkit(*command)
    assert answer.code == 0, answer.err
    assert "focal length 48 pixels, from the EXIF data" in answer.err
    # Beside one that states none: that one fails alone, and says what to give.
    answer = dadkit(*command, tmp_path / "plain.jpg", "--no-resume")
    assert answer.code == 3
    assert "Give --focal PIXELS or --fov DEGREES" in answer.err.replace("\n", " ")
    assert "1 of 2 images could not be read or written" in answer.err


def test_13_focal_length_of_a_camera_with_lenses(tmp_path):
    """50 mm, 4000 pixels an inch: 7874 pixels at the recorded width of 6400, so 78.74 at 64; not where the picture was cut."""
    exif = Image.Exif()
    exif[0x8769] = {0x920A: 50.0, 0xA20E: 4000.0, 0xA210: 2, 0xA002: 6400, 0xA003: 4800}
    Image.fromarray(picture(48, 64)).save(tmp_path / "a.jpg", exif=exif)
    assert exif_focal(tmp_path / "a.jpg", (48, 64)) == pytest.approx(78.74, rel=1e-3)
    assert exif_focal(tmp_path / "a.jpg", (64, 48)) == pytest.approx(78.74, rel=1e-3)  # turned upright
    assert exif_focal(tmp_path / "a.jpg", (48, 48)) is None


@pytest.mark.parametrize("millimetres", [0, 1, 60000, math.nan, math.inf])
def test_13_a_focal_length_that_no_camera_has_is_not_taken(millimetres, tmp_path):
    exif = Image.Exif()
    exif[0x8769] = {0xA405: millimetres} if millimetres in (0, 1, 60000) else {0x920A: float(millimetres), 0xA20E: 4000.0}
    Image.fromarray(picture(48, 64)).save(tmp_path / "a.jpg", exif=exif)
    assert exif_focal(tmp_path / "a.jpg", (48, 64)) is None


def test_15_disparity_of_zero_has_no_place_in_a_cloud(tmp_path, dadkit):
    Image.fromarray(picture(48, 64)).save(tmp_path / "a.png")
    answer = dadkit(
        "predict", tmp_path / "a.png", "-m", MODEL, "--align", "-1,-100", "--fov", "60", "--ply", "-f", "npy", "-o", tmp_path
    )
    assert answer.code == 0
    assert "a.ply: all pixels have no metres and are left out" in answer.err.replace("\n", " ")
    for align in ("nan,1", "0,1", "1"):
        assert dadkit("predict", tmp_path / "a.png", "-m", MODEL, "--align", align, "--ply", "--fov", "60").code in (1, 2)


@pytest.mark.parametrize("size", [(200, 6000), (6000, 200), (90, 4000), (3, 900), (518, 4144)])
@pytest.mark.parametrize("mode", ["lower_bound", "upper_bound", "minimal"])
def test_08_a_panorama_is_bounded(size, mode):
    height, width = SizePolicy(size=518, multiple=14, mode=mode).target(*size)
    assert height * width <= 8 * 518**2 * 1.05
    assert height % 14 == width % 14 == 0


def test_08_ordinary_pictures_keep_their_official_size():
    assert SizePolicy(size=518, multiple=14).target(480, 640) == (518, 686)
    assert SizePolicy(size=518, multiple=14).target(518, 4144) == (518, 4144)


def test_08_tiles_agree_with_the_whole_where_the_network_sees_alike(tmp_path, dadkit):
    image = torch.from_numpy(picture(100, 300)).permute(2, 0, 1)
    model = Brightness()
    whole, tiled = model.predict(image), predict_tiled(model, image, 64, batch_size=3)
    # Each tile has a scale and shift of its own; fitted and blended they are the whole's.
    torch.testing.assert_close(tiled.depth, whole.depth, rtol=1e-3, atol=1e-3)
    Image.fromarray(picture(100, 300)).save(tmp_path / "pano.png")
    answer = dadkit("predict", tmp_path / "pano.png", "-m", MODEL, "-o", tmp_path / "o", "-f", "npy", "--tile", "64")
    assert answer.code == 0
    assert np.load(tmp_path / "o" / "pano.npy").shape == (100, 300)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.float16])
def test_10_models_of_other_precisions_answer(dtype):
    from dadkit import load_model

    model = load_model("midas/tiny-conv", weights="none")
    image = torch.rand(3, 64, 96)
    expected = model.predict(image).depth
    depth = model.to(dtype).predict(image).depth
    assert depth.dtype == torch.float32
    torch.testing.assert_close(depth, expected, rtol=0.1, atol=0.1 * float(expected.std()) + 1e-3)


def test_10_a_model_that_cannot_says_so_in_one_sentence():
    class Stubborn(Brightness):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def estimate(self, x):
            return torch.nn.functional.conv2d(x, torch.ones(1, 3, 1, 1)), {}

    with pytest.raises(DadkitError, match=r"brightness does not run in bfloat16 on cpu: .* Use float32"):
        Stubborn().bfloat16().predict(torch.rand(3, 16, 16))


class AppleTensor(torch.Tensor):
    """Refuses float64, as tensors on Apple's GPU do."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.Tensor.to and torch.device("mps") in args:
            return args[0]
        found = super().__torch_function__(function, types, args, kwargs or {})
        if isinstance(found, torch.Tensor) and found.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return found.as_subclass(torch.Tensor) if function is torch.Tensor.cpu else found


def test_49_apples_gpu_has_no_float64(monkeypatch):
    """What measures and aligns needs it, so predictions come to the CPU. No such GPU is here: the tensors pretend."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert str(pick_device("auto")) == "mps"
    assert str(pick_device("auto", apple=False)) == "cpu"  # training
    model = Brightness()
    weight = SimpleNamespace(device=torch.device("mps"), dtype=torch.float32, is_floating_point=lambda: True)
    monkeypatch.setattr(model, "parameters", lambda: iter([weight]))
    stacked = interfaces_model._stacked
    monkeypatch.setattr(interfaces_model, "_stacked", lambda images: stacked(images).as_subclass(AppleTensor))
    sample = Sample(torch.full((3, 32, 32), 90, dtype=torch.uint8), "a", torch.rand(1, 32, 32) + 1, None, Space.METRIC)
    with pytest.raises(TypeError, match="float64"):
        model.predict_batch(torch.rand(1, 3, 32, 32).as_subclass(AppleTensor)).depth.double()
    answer = model.predict(torch.rand(3, 32, 32))
    assert type(Steady(answer.space)(answer.depth[0])) is torch.Tensor
    assert evaluate(model, [sample], load_protocol("affine-disparity"), name="a").images


def test_08_memory_that_is_not_enough_is_one_sentence(monkeypatch):
    model = Brightness()
    monkeypatch.setattr(model, "estimate", lambda x: torch.empty(2**50, 2**10))
    with pytest.raises(DadkitError, match="not enough memory for 1 images of 16 x 32 at once; a smaller batch size"):
        model.predict(torch.rand(3, 32, 16))


def test_11_precision_stands_in_the_rows_name(tmp_path, dadkit):
    answer = dadkit(
        "evaluate", "-m", "topformer/tiny", "--precision", "bf16", "-o", tmp_path, "--no-report", "count=2", "size=64"
    )
    assert answer.code == 0, answer.err
    assert "topformer/tiny (bf16)" in answer.out
    results = json.loads((tmp_path / "evaluation.json").read_text())
    assert results["models"][0]["model"] == "topformer/tiny (bf16)"
    options = "midas/tiny-conv:weights=none,native_size=96"
    answer = dadkit("evaluate", "-m", options, "-o", tmp_path / "b", "--no-report", "count=1", "size=64")
    assert options in answer.out  # options that change the numbers stand in the name as they were given
    assert dadkit("predict", "x.png", "-m", MODEL, "--precision", "int8").code != 0


def test_50_no_model_is_the_starter(photos, tmp_path, dadkit):
    answer = dadkit("predict", photos / "p0.png", "-o", tmp_path / "o", "-f", "npy")
    assert answer.code == 0
    assert "model: starter/small" in answer.err
    assert "1 image in " in answer.err
    assert "images/s" in answer.err


def test_08_a_picture_above_the_limit_is_skipped_with_the_option_that_allows_it(tmp_path, dadkit):
    Image.fromarray(picture(48, 64)).save(tmp_path / "a.png")
    command = ("predict", tmp_path / "a.png", "-m", "starter/tiny", "-o", tmp_path / "out", "-f", "npy", "--max-megapixels")
    refused = dadkit(*command, 0.003)
    assert refused.code == 3
    assert "64 x 48 pixels are more than max_pixels = 3000" in refused.err
    assert "--max-megapixels 1 " in refused.err
    assert dadkit(*command, 0.004).code == 0
