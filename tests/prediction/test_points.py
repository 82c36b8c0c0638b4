"""Points, float formats, videos: read back by other means than they were written by."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.data.depth_files import read_depth
from dadkit.errors import DadkitError, DataError
from dadkit.interfaces import DepthModel, ModelSpec
from dadkit.prediction import CloudError, Lens, predict_files, predict_video, write_prediction
from dadkit.prediction.camera import metres, unproject
from dadkit.prediction.outputs import triangles, write_exr, write_glb, write_ply
from dadkit.spaces import Space


class Brightness(DepthModel):
    def __init__(self, space=Space.DISPARITY):
        super().__init__()
        self.spec = ModelSpec(name="brightness", space=space, mean=(0, 0, 0), std=(1, 1, 1))

    def estimate(self, x):
        return x.mean(1, keepdim=True) + 0.5, {}


DEPTH = torch.tensor([[[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]]])
IMAGE = torch.arange(18, dtype=torch.uint8).view(3, 2, 3)


def read_ply(path):
    header, _, data = path.read_bytes().partition(b"end_header\n")
    count = int(header.split(b"element vertex ")[1].split()[0])
    vertices = np.array([struct.unpack_from("<3f3B", data, 15 * i) for i in range(count)])
    assert len(data) == 15 * count
    return vertices[:, :3], vertices[:, 3:]


def read_glb(path):
    data = path.read_bytes()
    magic, version, length = struct.unpack_from("<III", data)
    assert (magic, version, length) == (0x46546C67, 2, len(data))
    size, kind = struct.unpack_from("<II", data, 12)
    assert kind == 0x4E4F534A
    assert size % 4 == 0
    scene = json.loads(data[20 : 20 + size])
    binary_size, kind = struct.unpack_from("<II", data, 20 + size)
    assert kind == 0x004E4942
    binary = data[28 + size :]
    assert len(binary) == binary_size == scene["buffers"][0]["byteLength"]
    types = {5126: "<f4", 5121: "u1", 5125: "<u4"}
    arrays = []
    for accessor in scene["accessors"]:
        view = scene["bufferViews"][accessor["bufferView"]]
        width = {"VEC3": 3, "VEC4": 4, "SCALAR": 1}[accessor["type"]]
        raw = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        arrays.append(np.frombuffer(raw, types[accessor["componentType"]]).reshape(accessor["count"], width))
    return scene, arrays


def test_unprojection_by_hand():
    points = unproject(DEPTH[0].double().numpy(), Lens(focal=2.0))
    for v in range(2):
        for u in range(3):
            z = float(DEPTH[0, v, u])
            assert points[v, u].tolist() == pytest.approx([(u + 0.5 - 1.5) / 2 * z, (v + 0.5 - 1) / 2 * z, z])
    k = torch.tensor([[5.0, 0, 0], [0, 7, 1], [0, 0, 1]])
    assert unproject(DEPTH[0].double().numpy(), Lens(), k)[1, 2].tolist() == pytest.approx([2.5 / 5 * 4, 0.5 / 7 * 4, 4])


def test_field_of_view_and_focal_length_are_the_same_camera():
    lens = Lens(fov=90.0)
    assert lens.pixels(640) == pytest.approx(320)
    assert Lens(fov=70.0).pixels(100) == pytest.approx(50 / math.tan(math.radians(35)))
    depth = np.full((4, 640), 2.0)
    np.testing.assert_allclose(unproject(depth, lens), unproject(depth, Lens(focal=320.0)))


def test_ply_holds_the_valid_points_in_their_colours(tmp_path):
    valid = torch.tensor([[[True, True, False], [True, True, True]]])
    written = write_prediction(
        tmp_path / "x", IMAGE, DEPTH, space=Space.METRIC, valid=valid, formats=["ply"], model="m", lens=Lens(focal=2.0)
    )
    points, colors = read_ply(written[0])
    assert len(points) == 5
    assert points[0].tolist() == pytest.approx([-0.5, -0.25, 1])
    assert colors[0].tolist() == [0, 6, 12]


def test_glb_is_cut_at_edges_and_turned_to_gltfs_axes(tmp_path):
    depth = torch.ones(1, 3, 4)
    depth[..., 2:] = 5.0  # a wall behind
    image = torch.full((3, 3, 4), 7, dtype=torch.uint8)
    points = unproject(depth[0].double().numpy(), Lens(fov=60.0))
    write_glb(tmp_path / "x.glb", points, image.permute(1, 2, 0).numpy())
    scene, (positions, colors, faces) = read_glb(tmp_path / "x.glb")
    assert len(positions) == 12
    assert faces.max() == 11
    assert len(faces) == 3 * 2 * 2 * 2  # 2 x 2 squares remain of 2 x 3, two triangles each
    corner = points[0, 0] * [1, -1, -1]
    assert positions[0].tolist() == pytest.approx(corner.tolist())
    assert scene["accessors"][0]["min"] == pytest.approx(positions.min(0).tolist())
    assert colors[0].tolist() == [7, 7, 7, 255]
    assert positions[0, 1] > 0 > positions[0, 2]  # up and in front


def test_triangles_leave_out_what_is_not_finite():
    depth = np.ones((3, 3))
    depth[1, 1] = np.nan
    assert len(triangles(depth, 1.1)) == 2  # only those at two corners do not touch the centre
    assert len(triangles(np.ones((3, 3)), 1.1)) == 8
    # Every triangle faces the camera: its normal points to -z in image axes.
    u, v = np.meshgrid(np.arange(3), np.arange(3))
    corners = np.stack([u, v, np.ones((3, 3))], -1).reshape(-1, 3)[triangles(np.ones((3, 3)), 1.1)]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normals[:, 2] < 0).all()


@pytest.mark.parametrize(
    ("space", "lens", "message"),
    [
        (Space.DISPARITY, Lens(focal=500.0), r"scale and shift are unknown.*--align a,b with metres = 1 / \(a \* value \+ b\)"),
        (Space.DEPTH, Lens(focal=500.0), r"metres = a \* value \+ b"),
        (Space.METRIC, Lens(), "not in which direction it looks. Give --focal"),
    ],
)
def test_points_are_refused_with_the_reason(tmp_path, space, lens, message):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    with pytest.raises(CloudError, match=message):
        predict_files(Brightness(space), [tmp_path / "a.png"], tmp_path / "out", name="m", formats=["ply"], lens=lens)
    assert not list((tmp_path / "out").glob("a*"))


@pytest.mark.parametrize("options", [{"focal": 1.0, "fov": 2.0}, {"focal": 0.0}, {"fov": 180.0}, {"align": (0.0, 1.0)}])
def test_lenses_that_contradict_themselves(options):
    with pytest.raises(CloudError):
        Lens(**options)


def test_aligned_disparity_becomes_metres():
    disparity = torch.tensor([[[0.0, 0.5, 1.0, -2.0]]])
    found = metres(disparity, Space.DISPARITY, Lens(align=(1.0, 0.5)))
    np.testing.assert_allclose(found, [[2.0, 1.0, 1 / 1.5, np.nan]])
    near = metres(disparity, Space.DISPARITY, Lens(align=(1.0, 0.5), beyond=1.0))
    np.testing.assert_allclose(near, [[np.nan, 1.0, 1 / 1.5, np.nan]])
    np.testing.assert_allclose(metres(disparity, Space.DEPTH, Lens(align=(2.0, 1.0))), [[1, 2, 3, np.nan]])


def test_float_formats_are_read_back_by_others(tmp_path):
    values = torch.rand(1, 5, 7, generator=torch.Generator().manual_seed(0))
    valid = torch.ones_like(values, dtype=torch.bool)
    valid[0, 2, 3] = False
    image = torch.zeros(3, 5, 7, dtype=torch.uint8)
    write_prediction(
        tmp_path / "x", image, values, space=Space.DEPTH, valid=valid, formats=["pfm", "npz", "exr", "npy"], model="m"
    )
    expected = np.where(valid[0], values[0], np.nan)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), expected)
    np.testing.assert_array_equal(read_depth(tmp_path / "x.pfm", "pfm"), expected)
    with np.load(tmp_path / "x.npz") as archive:
        np.testing.assert_array_equal(archive["depth"], expected)
        assert str(archive["space"]) == "depth"


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 2)])
def test_exr_is_read_by_openexr(tmp_path, size):
    exr = pytest.importorskip("OpenEXR")
    values = np.random.default_rng(0).random(size).astype(np.float32)
    values[0, 0] = np.nan
    write_exr(tmp_path / "x.exr", values, space="metric", model="µ")
    file = exr.File(str(tmp_path / "x.exr"), separate_channels=True)
    np.testing.assert_array_equal(file.channels()["Z"].pixels, values)
    assert file.header()["dadkitSpace"] == "metric"


@pytest.fixture
def film(tmp_path):
    """Ten frames that grow brighter, 64 x 48, 10 a second."""
    av = pytest.importorskip("av")
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(10):
            picture = np.full((48, 64, 3), 20 + 20 * number, np.uint8)
            picture[:, :8] = 230  # the same near stripe in all
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("batch_size", [1, 4])
def test_videos_keep_order_size_rate_and_limits(film, tmp_path, batch_size):
    av = pytest.importorskip("av")
    done = []
    written = predict_video(
        Brightness(),
        film,
        tmp_path / "out" / "film",
        name="m",
        formats=["side", "npy"],
        batch_size=batch_size,
        progress=lambda n, total: done.append((n, total)),
    )
    assert written == [tmp_path / "out" / "film.side.mp4", tmp_path / "out" / "film"]
    assert done[-1] == (10, 10)
    with av.open(str(written[0])) as container:
        assert container.streams.video[0].average_rate == 10
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 10
    assert frames[0].shape == (48, 128, 3)
    left = [frame[:, 16:60].mean() for frame in frames]
    assert left == sorted(left)
    stripe = np.array([frame[8:40, 64:70].mean((0, 1)) for frame in frames])
    # The stripe is equally near in all frames, so that it has one colour: limits are not chosen frame by frame.
    assert np.ptp(stripe, axis=0).max() < 12
    levels = [np.load(tmp_path / "out" / "film" / f"{i:06d}.npy")[:, 16:].mean() for i in range(10)]
    assert levels == sorted(levels)


def test_what_is_no_video(tmp_path, monkeypatch):
    pytest.importorskip("av")
    (tmp_path / "a.mp4").write_bytes(b"not a film")
    with pytest.raises(DataError, match=r"cannot read .* as a video"):
        predict_video(Brightness(), tmp_path / "a.mp4", tmp_path, name="m", formats=["color"])
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(DadkitError, match=r"pip install 'dadkit\[video\]'"):
        predict_video(Brightness(), tmp_path / "a.mp4", tmp_path, name="m", formats=["color"])


def test_the_stereo_pair_as_points(tmp_path):
    data = pytest.importorskip("skimage.data", reason="scikit-image carries the real stereo pair")
    left, _, disparity = data.stereo_motorcycle()
    disparity = torch.from_numpy(disparity.copy()).float()[None]
    baseline, focal, offset = 0.193001, 994.978, 31.086
    lens = Lens(focal=focal, align=(1 / (baseline * focal), offset / (baseline * focal)))
    valid = torch.isfinite(disparity)
    points = unproject(np.where(valid[0], metres(disparity, Space.DISPARITY, lens), np.nan), lens)
    write_ply(tmp_path / "motorcycle.ply", points, left)
    found, _ = read_ply(tmp_path / "motorcycle.ply")
    assert len(found) == int(valid.sum())
    assert 2.1 < found[:, 2].min() < found[:, 2].max() < 5.03
