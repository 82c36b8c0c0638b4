"""Depth files in every encoding, validity, and the layouts of image/depth pairs."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.data import DepthPairs, SampleError
from dadkit.data.depth_files import SUFFIXES, read_depth, usable
from dadkit.errors import DataError
from dadkit.prediction.outputs import write_exr
from dadkit.spaces import Space

WIDE = [encoding for encoding in SUFFIXES if encoding not in ("png8", "carla24")]
"""Encodings that give stored numbers of 16 bits back as they are."""

EXR = pytest.mark.skipif(find_spec("OpenEXR") is None, reason="needs OpenEXR")

STORED = np.array([[0, 1, 256], [20480, 65535, 300]], dtype=np.uint16)


def write_pfm(path: Path, values: np.ndarray, order: str = "<") -> None:
    height, width = values.shape
    scale = "-1.0" if order == "<" else "1.0"
    path.write_bytes(f"Pf\n{width} {height}\n{scale}\n".encode() + values[::-1].astype(order + "f4").tobytes())


def write(path: Path, encoding: str, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Callable[[], Any]] = {
        "png16": lambda: Image.fromarray(values.astype(np.uint16)).save(path),
        "tiff": lambda: Image.fromarray(values.astype(np.uint16)).save(path),
        "exr": lambda: write_exr(path, values.astype(np.float32), space="metric", model="m"),
        "npy": lambda: np.save(path, values),
        "npz": lambda: np.savez(path, depth=values),
        "pfm": lambda: write_pfm(path, values),
    }
    writers[encoding]()


@pytest.mark.parametrize("encoding", [pytest.param(e, marks=EXR if e == "exr" else ()) for e in WIDE])
def test_every_encoding_gives_the_stored_numbers_back(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / f"d{SUFFIXES[encoding][0]}"
    write(path, encoding, STORED)
    found = read_depth(path, encoding)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, STORED)


def test_pfm_is_bottom_up_in_either_byte_order(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3) + 0.25
    for order in "<>":
        write_pfm(tmp_path / "d.pfm", values, order)
        np.testing.assert_array_equal(read_depth(tmp_path / "d.pfm", "pfm"), values)
    raw = (tmp_path / "d.pfm").read_bytes()
    assert np.frombuffer(raw[-12:], dtype=">f4").tolist() == [0.25, 1.25, 2.25]  # the top row stands last


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int32", ">f4"])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (1, 4, 5)])
def test_arrays_of_any_real_dtype_and_one_channel(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.arange(20).reshape(shape).astype(dtype)
    np.save(tmp_path / "d.npy", values)
    np.testing.assert_array_equal(read_depth(tmp_path / "d.npy", "npy"), np.arange(20).reshape(4, 5))


def test_npz_with_several_arrays_needs_a_name(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez_compressed(path, depth=np.ones((2, 2)), mask=np.zeros((2, 2)))
    with pytest.raises(SampleError, match="holds 2 arrays, depth, mask: say which"):
        read_depth(path, "npz")
    assert read_depth(path, "npz", array="depth").sum() == 4
    with pytest.raises(SampleError, match="no array 'disp', only depth, mask"):
        read_depth(path, "npz", array="disp")


def test_files_that_are_not_what_was_declared(tmp_path: Path) -> None:
    def refused(encoding: str, message: str, write_it: Callable[[Path], Any]) -> None:
        path = tmp_path / "d.x"
        write_it(path)
        with pytest.raises(SampleError, match=message):
            read_depth(path, encoding)

    eight_bits = Image.fromarray(np.zeros((4, 4), np.uint8))
    refused("png16", "declared as png16, but it is PNG with pixels of mode 'L'", lambda p: eight_bits.save(p, "PNG"))
    refused("png16", "it is TIFF", lambda p: Image.fromarray(STORED).save(p, "TIFF"))
    refused("png16", "cannot be read as png16", lambda p: p.write_bytes(b"hello"))

    def cut_png(path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 65535, (64, 64)).astype(np.uint16)
        Image.fromarray(noise).save(path, "PNG")
        path.write_bytes(path.read_bytes()[:4000])

    refused("png16", "truncated", cut_png)

    def save(path: Path, array: Any) -> None:
        with path.open("wb") as handle:
            np.save(handle, array)

    refused("npy", "one real number a pixel", lambda p: save(p, np.zeros((4, 4, 3))))
    refused("npy", "one real number a pixel", lambda p: save(p, np.zeros((4, 4), complex)))
    refused("npy", "one real number a pixel", lambda p: save(p, np.array(["a"])))
    refused("npy", "cannot be read as npy", lambda p: save(p, np.array([{}], dtype=object)))
    refused("npy", "cannot be read as npy", lambda p: p.write_bytes(b""))

    def cut_npy(path: Path) -> None:
        save(path, np.zeros((100, 100)))
        path.write_bytes(path.read_bytes()[:1000])

    refused("npy", "cannot be read as npy", cut_npy)
    refused("npy", "it is an archive", lambda p: np.savez(p.open("wb"), a=np.zeros(3)))
    refused("npz", "it is no archive", lambda p: save(p, np.zeros((4, 4))))
    refused("pfm", "begins with b'PF'", lambda p: p.write_bytes(b"PF\n1 1\n-1\n" + b"\0" * 12))
    refused("pfm", "2 x 2, but 12 bytes", lambda p: p.write_bytes(b"Pf\n2 2\n-1\n" + b"\0" * 12))
    refused("pfm", "cannot be read as pfm", lambda p: p.write_bytes(b"Pf\nwide\n"))
    with pytest.raises(SampleError, match="does not exist"):
        read_depth(tmp_path / "gone.npy", "npy")
    with pytest.raises(ValueError, match="unknown depth encoding 'bmp'"):
        read_depth(tmp_path / "d.bmp", "bmp")


def test_validity_is_finite_positive_in_range_and_not_marked() -> None:
    inf, nan = float("inf"), float("nan")
    stored = np.array([[nan, inf, -inf, -1.0, 0.0, 0.5, 1.0, 2.0, 8.0, 9.0]])
    depth, valid = usable(stored)
    assert valid[0, 0].tolist() == [False] * 5 + [True] * 5
    assert depth[0, 0].tolist() == [0, 0, 0, 0, 0, 0.5, 1, 2, 8, 9]
    _, valid = usable(stored, min_depth=1.0, max_depth=8.0, invalid=(2.0,))
    assert valid[0, 0].tolist() == [False] * 6 + [True, False, True, False]
    depth, valid = usable(stored, scale=0.5, max_depth=2.0)  # limits are in units of depth
    assert depth[0, 0, 5:].tolist() == [0.25, 0.5, 1.0, 0.0, 0.0]
    assert (depth.dtype, valid.dtype, depth.shape) == (torch.float32, torch.bool, (1, 1, 10))


@pytest.mark.parametrize("sky", [float("inf"), 9.0, 0.0])
def test_sky_is_infinitely_far_and_valid(sky: float) -> None:
    stored = np.array([[float("nan"), 0.0, 3.0, 9.0, float("inf")]])
    depth, valid = usable(stored, max_depth=5.0, sky=sky)
    assert valid[0, 0].tolist() == [False, sky == 0, True, sky == 9, sky == float("inf")]
    assert torch.equal(depth.isinf(), valid & (torch.tensor(stored)[None] != 3))


@pytest.fixture
def pairs_at(tmp_path: Path, picture) -> Callable[..., Path]:
    """Writes mirrored folders of images and depth in an encoding."""

    def make(*names: str, encoding: str = "png16", at: str = "set", size: tuple[int, int] = (40, 60), suffix: str = "") -> Path:
        root = tmp_path / at
        for number, name in enumerate(names):
            image = root / "images" / name
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(*size, seed=number)).save(image)
            values = 1000 + number + np.arange(size[0] * size[1]).reshape(size) % 500
            path = root / "depth" / name
            write(path.with_name(path.stem + suffix + SUFFIXES[encoding][0]), encoding, values)
        return root

    return make


@pytest.mark.parametrize("encoding", WIDE)
def test_mirrored_folders(encoding: str, pairs_at) -> None:
    root = pairs_at("b.jpg", "sub/a.png", encoding=encoding)
    dataset = DepthPairs(root, encoding=encoding, space="metric", scale=0.001)
    assert len(dataset) == 2
    assert [dataset.key(i) for i in range(2)] == ["b", "sub/a"]
    sample = dataset[1]
    assert sample.key == "sub/a"
    assert sample.space is Space.METRIC
    assert sample.image.shape == (3, 40, 60)
    assert sample.depth.shape == sample.valid.shape == (1, 40, 60)
    assert sample.depth[0, 0, :2].tolist() == pytest.approx([1.001, 1.002])
    assert sample.valid.all()
    assert sample.intrinsics is None
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[1].depth, sample.depth)


def test_one_folder_with_a_suffix(tmp_path: Path, picture) -> None:
    for name in ("x_depth_map", "y"):
        Image.fromarray(picture(8, 9)).save(tmp_path / f"{name}.png")
        Image.fromarray(np.full((8, 9), 5, np.uint16)).save(tmp_path / f"{name}_depth.png")
    options = {"encoding": "png16", "space": "depth", "images": ".", "depths": "."}
    dataset = DepthPairs(tmp_path, **options, depth_suffix="_depth")
    assert [dataset.key(i) for i in range(len(dataset))] == ["x_depth_map", "y"]
    assert dataset[0].depth.unique().tolist() == [5]
    with pytest.raises(DataError, match="say by depth_suffix"):
        DepthPairs(tmp_path, **options)


@pytest.mark.parametrize("separator", ["\t", ",", " , "])
def test_list_files(separator: str, pairs_at) -> None:
    root = pairs_at("my photo.jpg", "b.jpg", encoding="npy")
    text = f"# image{separator}depth\nimages/my photo.jpg{separator}depth/my photo.npy\n\nimages/b.jpg{separator}depth/b.npy\n"
    (root / "train.csv").write_text(text)
    dataset = DepthPairs(root / "train.csv", encoding="npy", space="disparity")
    assert [dataset.key(i) for i in range(2)] == ["images/my photo", "images/b"]
    assert dataset[0].depth[0, 0, 0] == 1000
    assert dataset[1].space is Space.DISPARITY


def test_lists_with_mistakes_are_refused(pairs_at) -> None:
    root = pairs_at("a.jpg", encoding="npy")
    listing = root / "train.txt"
    for text, message in {
        "images/a.jpg\n": r"line 1: expected 2 paths separated by tab, comma, semicolon or blanks, got 1",
        "images/a.jpg\tdepth/a.npy\textra\n": "got 3",
        "images/a.jpg,\n": "expected 2 paths",
        "images/a.jpg\tdepth/b.npy\n": r"1 of the 1 pairs .* first line 1: 'depth/b\.npy'",
        "": "names no file",
    }.items():
        listing.write_text(text)
        with pytest.raises(DataError, match=message):
            DepthPairs(listing, encoding="npy", space="metric")


def test_missing_folders_and_files_are_named(pairs_at, tmp_path: Path) -> None:
    root = pairs_at("a.jpg", "b.jpg", encoding="npy")
    (root / "depth" / "b.npy").unlink()
    with pytest.raises(
        DataError, match=r"1 of the 2 images in .*images have no depth, first b\.jpg \(looked for .*depth/b\.npy"
    ):
        DepthPairs(root, encoding="npy", space="metric")
    with pytest.raises(DataError, match=r"the folder .*gt does not exist"):
        DepthPairs(root, encoding="npy", space="metric", depths="gt")
    with pytest.raises(DataError, match="does not exist"):
        DepthPairs(tmp_path / "nowhere", encoding="npy", space="metric")
    (tmp_path / "images").mkdir()
    (tmp_path / "depth").mkdir()
    with pytest.raises(DataError, match="no images in"):
        DepthPairs(tmp_path, encoding="npy", space="metric")


def test_contradicting_options_are_refused(pairs_at) -> None:
    root = pairs_at("a.jpg")
    for options, message in (
        ({"encoding": "png16", "space": "metric"}, "needs a scale"),
        ({"encoding": "png16", "space": "metric", "scale": 0.0}, "positive"),
        ({"encoding": "png16", "space": "disparity", "sky": 0.0}, "no number in a disparity"),
        ({"encoding": "bmp", "space": "metric"}, "unknown depth encoding"),
    ):
        with pytest.raises(DataError, match=message):
            DepthPairs(root, **options)
    with pytest.raises(ValueError, match="'meters' is not a valid Space"):
        DepthPairs(root, encoding="npy", space="meters")


def test_different_sizes_name_both_files(pairs_at, picture) -> None:
    root = pairs_at("a.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(40, 60)).save(root / "images" / "a.jpg", exif=exif)
    options = {"encoding": "png16", "space": "depth"}
    with pytest.raises(SampleError, match=r"images/a\.jpg is 40 x 60, .*depth/a\.png is 60 x 40; .*upright: false"):
        DepthPairs(root, **options)[0]
    assert DepthPairs(root, **options, upright=False)[0].image.shape == (3, 40, 60)
    Image.fromarray(picture(20, 30)).save(root / "images" / "a.jpg")
    with pytest.raises(SampleError, match=r"is 30 x 20, .* is 60 x 40; resize: nearest"):
        DepthPairs(root, **options)[0]


def test_unreadable_halves_and_maps_without_depth_are_sample_errors(pairs_at) -> None:
    root = pairs_at("a.jpg", "b.jpg", "c.jpg", encoding="npy")
    (root / "images" / "a.jpg").write_bytes(b"")
    (root / "depth" / "b.npy").write_bytes(b"")
    np.save(root / "depth" / "c.npy", np.full((40, 60), np.nan))
    dataset = DepthPairs(root, encoding="npy", space="metric", scale=0.001)
    for index, message in enumerate((r"a\.jpg: the file is empty", r"b\.npy: cannot be read", r"c\.npy: no pixel has a valid")):
        with pytest.raises(SampleError, match=message):
            dataset[index]


def test_options_reach_the_pixels(pairs_at) -> None:
    root = pairs_at("a.jpg")
    dataset = DepthPairs(
        root, encoding="png16", space="metric", scale=0.001, min_depth=1.1, max_depth=1.3, invalid=[1200, 1201], sky=1499
    )
    sample = dataset[0]
    raw = 1000 + np.arange(40 * 60).reshape(40, 60) % 500
    expected = (raw >= 1100) & (raw <= 1300) & (raw != 1200) & (raw != 1201)
    np.testing.assert_array_equal(sample.valid[0].numpy(), expected | (raw == 1499))
    np.testing.assert_array_equal(sample.depth[0].isinf().numpy(), raw == 1499)


def test_intrinsics_for_all_or_by_key(pairs_at) -> None:
    root = pairs_at("a.jpg", "b.jpg", encoding="npy")
    options = {"encoding": "npy", "space": "metric", "scale": 0.001}
    (root / "k.txt").write_text("# fx fy cx cy\n500 510\n30.5 20\n")
    expected = torch.tensor([[500, 0, 30.5], [0, 510, 20], [0, 0, 1]])
    assert torch.equal(DepthPairs(root, **options, intrinsics="k.txt")[1].intrinsics, expected)
    camera = {"fx": 1, "fy": 2, "cx": 3, "cy": 4}
    (root / "k.json").write_text(json.dumps(camera))
    assert DepthPairs(root, **options, intrinsics="k.json")[0].intrinsics[0].tolist() == [1, 0, 3]
    (root / "k.json").write_text(json.dumps({"a": camera, "b": camera | {"fx": 7}}))
    assert DepthPairs(root, **options, intrinsics="k.json")[1].intrinsics[0, 0] == 7
    (root / "k.json").write_text(json.dumps({"a": camera}))
    with pytest.raises(DataError, match="hold nothing for 1 of the 2 samples, first 'b'"):
        DepthPairs(root, **options, intrinsics="k.json")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("k.txt", "1 2 3", "found 3 numbers"),
        ("k.txt", "one two three four", "no four numbers"),
        ("k.json", "{", "no four numbers"),
        ("k.json", "[1, 2, 3, 4]", "must be an object"),
        ("k.json", '{"fx": 1, "fy": 1}', "need the numbers fx, fy, cx, cy"),
        ("k.json", '{"fx": 0, "fy": 1, "cx": 1, "cy": 1}', "fx, fy > 0"),
        ("gone.txt", None, "cannot read the intrinsics"),
    ],
)
def test_bad_intrinsics_are_refused(pairs_at, name: str, text: str | None, message: str) -> None:
    root = pairs_at("a.jpg", encoding="npy")
    if text is not None:
        (root / name).write_text(text)
    with pytest.raises(DataError, match=message):
        DepthPairs(root, encoding="npy", space="metric", intrinsics=name)
