"""The adapter answers what transformers answers, with the same processor, before and after."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.spaces import Space

SQUARE = {"depth_anything": 56, "depth_anything_metric": 56, "dpt": 64, "glpn": 64, "depth_pro": 128, "dpt_dinov2": 56}
SAY = {
    "dpt_dinov2": {"space": "depth"},
    "depth_pro_without_view": {"space": "depth"},
    "prompt_depth_anything": {"space": "depth"},
}


def photo(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth enough for resizing to mean something."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def tensor(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 255


@torch.inference_mode()
def official(model, processor, picture: Image.Image) -> dict[str, torch.Tensor]:
    outputs = model(**processor(images=picture, return_tensors="pt"))
    size = [(picture.height, picture.width)]
    more = {"source_sizes": size} if type(model).__name__.startswith("Zoe") else {}
    return processor.post_process_depth_estimation(outputs, target_sizes=size, **more)[0]


@pytest.mark.parametrize("name", SQUARE)
def test_forward_at_the_processors_size_is_transformers(adapted, name):
    teacher, model, processor = adapted(name, **SAY.get(name, {}))
    picture = photo(SQUARE[name], SQUARE[name])
    expected = official(model, processor, picture)["predicted_depth"]
    prediction = teacher(tensor(picture))
    assert prediction.depth.shape == (1, 1, *expected.shape)
    assert expected.std() > 1e-3 * expected.abs().mean()
    # Depth Pro inverts at the end, and the farther, the coarser are its floats.
    assert torch.allclose(prediction.depth[0, 0], expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


def test_zoedepth_without_its_padding_is_transformers(adapted):
    teacher, model, processor = adapted("zoedepth")
    picture = photo(64, 96)
    with torch.inference_mode():
        pixels = processor(images=picture, return_tensors="pt", do_pad=False)["pixel_values"]
        expected = model(pixel_values=pixels).predicted_depth
    depth = teacher(tensor(picture)).depth
    assert (depth[:, 0] - expected).abs().max() < 1e-4 * expected.std()


@pytest.mark.parametrize("name", [*SQUARE, "zoedepth", "depth_pro_without_view", "prompt_depth_anything", "tipsv2_dpt"])
@pytest.mark.parametrize("size", [(50, 70), (80, 64)])
def test_predict_is_transformers_with_its_own_processor(adapted, name, size):
    teacher, model, processor = adapted(name, **SAY.get(name, {}))
    picture = photo(*size)
    expected = official(model, processor, picture)
    prediction = teacher.predict(picture)
    assert prediction.depth.shape == (1, 1, *size)
    assert torch.allclose(prediction.depth[0, 0], expected["predicted_depth"], rtol=1e-4, atol=1e-5)
    if name == "depth_pro":
        assert prediction.intrinsics[0, 0, 0] == pytest.approx(float(expected["focal_length"]), rel=1e-5)


def test_lists_of_images_are_predicted_together(adapted):
    teacher, _, _ = adapted("depth_anything")
    pictures = [photo(50, 70, seed) for seed in range(3)]
    together = teacher.predict(pictures, batch_size=2).depth
    alone = torch.cat([teacher.predict(picture).depth for picture in pictures])
    assert (together - alone).abs().max() < 1e-4 * alone.abs().max()


@pytest.mark.parametrize("name", ["dpt", "depth_anything", "glpn", "zoedepth", "depth_pro", "tipsv2_dpt"])
def test_forward_takes_any_shape(adapted, name):
    teacher, _, _ = adapted(name)
    x = tensor(photo(75, 130)).repeat(2, 1, 1, 1)
    prediction = teacher(x)
    assert prediction.depth.shape == (2, 1, 75, 130)
    assert prediction.depth.isfinite().all()
    assert not prediction.depth.requires_grad
    assert prediction.features == {}
    assert (teacher(x[:1]).depth - prediction.depth[:1]).abs().max() < 1e-4 * prediction.depth.abs().max()


def test_dpt_on_a_wide_image_is_the_network_on_that_grid(adapted):
    """A square grid of the same tokens is another answer; transformers itself cannot be asked."""
    teacher, model, _ = adapted("dpt")
    wide = tensor(photo(64, 128))
    pixels = (wide - 0.5) / 0.5
    with torch.inference_mode():
        states = model.dpt(pixels, output_hidden_states=True).hidden_states[1:]
        grid = model.neck.reassemble_stage(list(states), 4, 8)
        fused = model.neck.fusion_stage([conv(x) for conv, x in zip(model.neck.convs, grid, strict=True)])
        expected = model.head(fused)
    depth = teacher(wide).depth
    assert (depth[:, 0] - expected).abs().max() < 1e-4 * expected.std()
    assert not teacher.model.neck._forward_pre_hooks


def test_depth_pro_answers_in_metres_with_a_camera(adapted):
    teacher, model, _ = adapted("depth_pro")
    picture = photo(128, 128)
    x = tensor(picture)
    with torch.inference_mode():
        outputs = model(pixel_values=(x - 0.5) / 0.5)
    prediction = teacher(x)
    degrees = float(outputs.field_of_view)
    assert 20 < degrees < 120
    focal = 64 / math.tan(math.radians(degrees) / 2)
    camera = torch.tensor([[focal, 0, 64], [0, focal, 64], [0, 0, 1]])
    assert torch.allclose(prediction.intrinsics[0], camera, rtol=1e-4)
    expected = torch.nn.functional.interpolate(outputs.predicted_depth[:, None] * 128 / focal, (128, 128), mode="bilinear")
    assert torch.allclose(prediction.depth, 1 / expected.clamp(1e-4, 1e4), rtol=1e-4)
    # Other sizes: the camera follows the image's pixels; both sides are squeezed into the network's square.
    wide = torch.nn.functional.interpolate(x, (64, 256), mode="bilinear")
    assert teacher(wide).intrinsics[0, 0, 2] == 128
    assert teacher(wide).intrinsics[0, 1, 2] == 32


def test_depth_pro_takes_a_known_camera_in_place_of_its_estimate(adapted):
    teacher, _, _ = adapted("depth_pro")
    x = tensor(photo(128, 128))
    own = teacher(x)
    unknown = torch.full((3, 3), torch.nan)
    camera = torch.tensor([[100.0, 0, 60], [0, 100, 64], [0, 0, 1]])
    assert teacher.spec.takes_camera
    both = teacher(x.repeat(2, 1, 1, 1), torch.stack([camera, unknown]))
    assert torch.equal(both.intrinsics[0], camera)
    assert torch.allclose(both.depth[1], own.depth[0], rtol=1e-4)
    # Metres grow with the focal length, as far as Depth Pro's own limits are not met.
    inside = (own.depth > 1e-3) & (own.depth < 1e3)
    ratio = (both.depth[:1] / own.depth)[inside]
    assert torch.allclose(ratio, (100 / own.intrinsics[0, 0, 0]).expand_as(ratio), rtol=1e-3)
    known = teacher.predict(x[0], cameras=camera)
    assert torch.equal(known.intrinsics[0], camera)


def test_spaces(adapted):
    spaces = {
        name: adapted(name)[0].spec.space
        for name in ("depth_anything", "depth_anything_metric", "dpt", "zoedepth", "glpn", "tipsv2_dpt")
    }
    assert spaces == {
        "depth_anything": Space.DISPARITY,
        "depth_anything_metric": Space.METRIC,
        "dpt": Space.DISPARITY,
        "zoedepth": Space.METRIC,
        "glpn": Space.METRIC,
        "tipsv2_dpt": Space.METRIC,
    }


def test_declared_sizes_and_statistics(adapted):
    found = {name: adapted(name)[0].spec for name in ("depth_anything", "dpt", "zoedepth", "glpn", "depth_pro")}
    assert {name: spec.size_multiple for name, spec in found.items()} == {
        "depth_anything": 14,
        "dpt": 32,
        "zoedepth": 32,
        "glpn": 32,
        "depth_pro": 1,
    }
    assert found["depth_anything"].native.target(480, 640) == (56, 70)
    assert found["dpt"].native.target(480, 640) == (64, 64)
    assert found["glpn"].native.target(480, 650) == (480, 640)
    assert found["glpn"].mean == (0, 0, 0)
    assert found["glpn"].std == (1, 1, 1)
    assert found["depth_pro"].mean == (0.5, 0.5, 0.5)
    assert {spec.license for spec in found.values()} == {"unknown"}


def test_a_processor_with_other_scales_is_honoured(saved):
    from dadkit_hf.model import AutoDepth

    folder, model, processor = saved("depth_anything")
    processor.rescale_factor = 1 / 127.5
    processor.save_pretrained(folder)
    picture = photo(56, 56)
    expected = official(model, processor, picture)["predicted_depth"]
    depth = AutoDepth(folder)(tensor(picture)).depth
    assert (depth[0, 0] - expected).abs().max() < 1e-4 * expected.std()


def test_deep_copies_and_precisions(adapted):
    teacher, _, _ = adapted("dpt")
    x = tensor(photo(64, 96))
    before = teacher(x).depth
    twin = copy.deepcopy(teacher)
    assert torch.equal(twin(x).depth, before)
    assert (twin.double()(x.double()).depth - before).abs().max() < 1e-3 * before.std()
    with torch.autocast("cpu", torch.bfloat16):
        assert teacher(x).depth.dtype == torch.float32
    assert torch.equal(teacher(x).depth, before)
    assert not any(p.requires_grad for p in teacher.train().parameters())
    assert not teacher.model.training
