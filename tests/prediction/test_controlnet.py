"""Conditions for diffusion models: near is white, whatever space the map is in."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.prediction.outputs import condition
from dadkit.spaces import Space, SpaceError

METRES = torch.linspace(1, 8, 33).expand(1, 47, 33)  # near at the left


@pytest.mark.parametrize(
    ("space", "depth"), [(Space.METRIC, METRES), (Space.DEPTH, 3 * METRES - 5), (Space.DISPARITY, 2 / METRES + 7)], ids=str
)
def test_near_is_white_in_every_space(space, depth):
    picture = condition(depth, space=space)
    assert picture.shape == (48, 32, 3)
    assert (picture == picture[..., :1]).all()
    assert (picture[:, 0].min(), picture[:, -1].max()) >= (245, 0)
    assert (np.diff(picture[0, :, 0].astype(int)) <= 0).all()
    if space is not Space.DEPTH:  # in metres and in disparity it is the same picture
        assert np.array_equal(picture, condition(METRES, space=Space.METRIC))


def test_what_is_no_depth_is_far_and_a_constant_map_is_grey():
    depth = METRES.clone()
    depth[:, :, :16] = torch.tensor([float("nan"), float("inf"), 0.0, -1.0]).repeat(4)
    picture = condition(depth, space=Space.METRIC)
    assert picture[:, :14].max() == 0
    assert picture[:, 18:].max() > 200
    valid = METRES > 4
    assert condition(METRES, space=Space.METRIC, valid=valid)[:, :10].max() == 0
    for constant in (torch.full((1, 32, 32), 2.0), torch.full((1, 32, 32), float("nan"))):
        assert (condition(constant, space=Space.METRIC) == 128).all()


def test_presets_cut_what_is_rare_and_zoe_is_linear_in_metres():
    depth = torch.linspace(1, 8, 100).expand(1, 48, 100).clone()
    depth[:, 0, 0] = 0.01  # a speckle: its disparity takes the whole range
    plain, robust = (condition(depth, space=Space.METRIC, preset=name) for name in ("controlnet", "controlnet-robust"))
    assert plain[10:].max() < 10
    assert (robust[10:, 4].min(), robust[10:].min()) > (200, -1)
    ramp = torch.linspace(1, 8, 128).expand(1, 48, 128)
    zoe = condition(ramp, space=Space.METRIC, preset="controlnet-zoe")[10, :, 0].astype(int)
    assert (zoe[0], zoe[-1]) == (255, 0)
    steps = -np.diff(zoe[4:104])
    assert steps.max() - steps.min() <= 1
    assert np.array_equal(zoe, condition(3 * ramp - 2, space=Space.DEPTH, preset="controlnet-zoe")[10, :, 0])
    with pytest.raises(SpaceError, match="linear in depth"):
        condition(ramp, space=Space.DISPARITY, preset="controlnet-zoe")


@pytest.mark.slow  # diffusers takes seconds to import
def test_the_example_feeds_a_pipeline_of_diffusers(tmp_path, dadkit):
    diffusers = pytest.importorskip("diffusers")
    generate = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "controlnet" / "generate.py"))["generate"]
    torch.manual_seed(0)
    small = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "cross_attention_dim": 8}
    down, up = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
    unet = diffusers.UNet2DConditionModel(**small, down_block_types=down, up_block_types=up, attention_head_dim=4)
    net = diffusers.ControlNetModel(
        **small, down_block_types=down, attention_head_dim=4, conditioning_embedding_out_channels=(4, 8)
    )
    for layer in (*net.controlnet_down_blocks, net.controlnet_cond_embedding.conv_out):
        torch.nn.init.normal_(layer.weight)  # they begin with zeros, which would not look at the condition
    pipeline = diffusers.StableDiffusionControlNetPipeline(
        vae=diffusers.AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
        ),
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        controlnet=net,
        scheduler=diffusers.DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)

    photo, words = tmp_path / "photo.png", torch.zeros(1, 4, 8)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(photo)
    answer = dadkit("predict", photo, "--model", "starter/tiny", "-o", tmp_path / "depth", "-f", "controlnet")
    assert answer.code == 0, answer.err

    def run(scale: float):
        settings = {"num_inference_steps": 1, "generator": torch.Generator().manual_seed(0)}
        settings |= {"prompt_embeds": words, "negative_prompt_embeds": words, "controlnet_conditioning_scale": scale}
        return np.asarray(generate(pipeline, tmp_path / "depth" / "photo.controlnet.png", **settings)).astype(int)

    picture = run(1.0)
    assert picture.shape == (48, 64, 3)
    assert np.abs(picture - run(0.0)).max() > 0


def test_predict_writes_them(tmp_path, dadkit):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    answer = dadkit("predict", tmp_path / "a.png", "--model", "topformer/tiny", "-o", tmp_path / "out", "-f", "controlnet")
    assert answer.code == 0, answer.err
    picture = Image.open(tmp_path / "out" / "a.controlnet.png")
    assert (picture.size, picture.mode) == ((96, 64), "RGB")
    assert np.asarray(picture).min() == 0
    relative = dadkit("predict", tmp_path / "a.png", "--model", "topformer/tiny", "-o", tmp_path / "no", "-f", "controlnet-zoe")
    assert "linear in depth" in relative.err
    assert not (tmp_path / "no").exists()
