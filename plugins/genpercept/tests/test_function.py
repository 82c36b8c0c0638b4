"""The function against witnesses: stock diffusers' pipeline parts and scheduler, and transformers' DPT neck and head."""

from __future__ import annotations

import copy

import pytest
import torch
from dadkit_genpercept.architecture import ARCHITECTURES, TASK
from dadkit_genpercept.files import empty_prompt
from dadkit_genpercept.model import GenPercept
from dadkit_genpercept.networks import DPTHead

SCALE = 0.18215


@torch.inference_mode()
def stock(networks, teacher, images):
    """One step of stock DDIM with beta 1.0 on the image's latent: (the clean sample's estimate, the UNet's answer)."""
    diffusers = pytest.importorskip("diffusers")
    unet, vae = networks
    scheduler = diffusers.DDIMScheduler(
        beta_start=1.0,
        beta_end=1.0,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        steps_offset=1,
    )
    scheduler.set_timesteps(1)
    (timestep,) = scheduler.timesteps.tolist()
    assert timestep == 1
    mean = vae.quant_conv(vae.encoder(images * 2 - 1)).chunk(2, dim=1)[0]
    answer = unet(mean * SCALE, timestep, encoder_hidden_states=teacher.prompt.expand(len(images), -1, -1)).sample
    return scheduler.step(answer, timestep, mean * SCALE).pred_original_sample, answer


def test_one_step_equals_stock_ddim(networks, teacher, images):
    model = teacher()
    clean, answer = stock(networks, model, images)
    assert torch.equal(clean, -answer)
    vae = networks[1]
    with torch.inference_mode():
        decoded = vae.decoder(vae.post_quant_conv(clean / SCALE)).mean(dim=1, keepdim=True)
    expected = (decoded.clip(-1, 1) + 1) / 2
    depth = model(images).depth
    assert expected.std() > 0.05
    assert (depth - expected).abs().max() < 1e-5


def test_taps_are_the_up_blocks_outputs_and_the_head_sees_them(networks, teacher, head_file, images):
    model = teacher("dpt")
    unet = networks[0]
    expected = []
    for block in unet.up_blocks:
        block.register_forward_hook(lambda _, __, output: expected.append(output))
    stock(networks, model, images)
    seen = []
    model.head.register_forward_pre_hook(lambda _, arguments: seen.extend(arguments[0]))
    features = model(images).features
    assert list(features) == ["up0", "up1", "up2", "up3"] == list(model.spec.features)
    for tap, hooked, count in zip(features.values(), expected, model.spec.features.values(), strict=True):
        assert tap.shape[1] == count
        assert (tap - hooked).abs().max() < 1e-5 * hooked.std()
    assert all(torch.equal(a, b) for a, b in zip(seen, reversed(list(features.values())), strict=True))
    assert [64 // tap.shape[2] for tap in features.values()] == [32, 16, 8, 8]


@torch.inference_mode()
def test_lotus_is_one_step_to_the_clean_sample(networks, lotus, images):
    # The official pipeline's steps on stock diffusers; its pipeline itself agrees to 1e-7 (benchmarks/official).
    unet, folder = lotus
    model = GenPercept("lotus", space="disparity", weights=folder)
    task = torch.tensor([1.0, 0.0])
    task = torch.cat([task.sin(), task.cos()]).expand(len(images), -1)
    vae = networks[1]
    latent = vae.encode(images * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
    prompt = empty_prompt(folder, None, 2).expand(len(images), -1, -1)
    answer = unet(latent, 999, encoder_hidden_states=prompt, class_labels=task).sample
    expected = (vae.decode(answer / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1).mean(1, keepdim=True)
    depth = model(images).depth
    assert expected.std() > 0.05
    assert (depth - expected).abs().max() < 1e-5
    model.task.copy_(model.task.roll(1))
    assert (model(images).depth - expected).abs().max() > 1e-3


def test_the_head_is_transformers_neck_and_head(randomise):
    transformers = pytest.importorskip("transformers")
    from transformers.models.dpt.modeling_dpt import DPTDepthEstimationHead, DPTNeck

    channels, width = (8, 16, 24, 32), 256  # transformers builds its projection for 256 only
    ours = randomise(DPTHead(channels, width))
    head_state = ours.state_dict()
    config = transformers.DPTConfig(
        neck_hidden_sizes=list(channels),
        fusion_hidden_size=width,
        add_projection=True,
        head_in_index=-1,
        use_batch_norm_in_fusion_residual=False,
        use_bias_in_fusion_residual=False,
    )
    theirs = torch.nn.ModuleDict({"neck": DPTNeck(config), "head": DPTDepthEstimationHead(config)})
    theirs["neck"].reassemble_stage = None
    theirs["head"].head[5] = torch.nn.Identity()
    rest = {name: tensor for name, tensor in head_state.items() if not name.startswith("feature_upsample_0.")}
    missing, unexpected = theirs.load_state_dict(rest, strict=False)
    assert not unexpected
    assert all(name.startswith("neck.fusion_stage.layers.0.residual_layer1.") for name in missing)
    maps = [torch.randn(2, c, 64 // s, 128 // s) for c, s in zip(channels, (8, 8, 16, 32), strict=True)]
    with torch.inference_mode():
        doubled = torch.nn.functional.interpolate(maps[0], scale_factor=2, mode="nearest")
        finest = torch.nn.functional.conv2d(
            doubled, head_state["feature_upsample_0.conv.weight"], head_state["feature_upsample_0.conv.bias"], padding=1
        )
        expected = theirs["head"](theirs["neck"]([finest, *maps[1:]]))[:, None]
        answer = ours(maps)
    assert answer.shape == (2, 1, 64, 128)
    assert (answer - expected).abs().max() < 1e-5 * expected.std()


def test_the_released_heads_size():
    with torch.device("meta"):
        head = DPTHead((320, 640, 1280, 1280), 256)
    assert round(sum(p.numel() for p in head.parameters()) / 1e6, 2) == 18.47


def test_the_released_networks_sizes():
    diffusers = pytest.importorskip("diffusers")
    real = ARCHITECTURES["sd21"]
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(dict(real.unet))
        vae = diffusers.AutoencoderKL.from_config(dict(real.vae))
        lotus = diffusers.UNet2DConditionModel.from_config({**real.unet, **TASK})
    millions = [round(sum(p.numel() for p in network.parameters()) / 1e6, 1) for network in (unet, vae, lotus)]
    assert millions == [865.9, 83.7, 867.6]


def test_the_head_is_scaled_image_by_image(teacher, head_file, images):
    model = teacher("dpt")
    depth = model(torch.cat([images[:1], images[1:] * 0.2])).depth
    assert torch.allclose(depth.amin((1, 2, 3)), torch.zeros(2), atol=1e-6)
    assert torch.allclose(depth.amax((1, 2, 3)), torch.ones(2), atol=1e-6)
    assert torch.allclose(model(images[:1]).depth, depth[:1], atol=1e-5)


def test_a_constant_map_is_zero(teacher, head_file, images):
    model = teacher("dpt")
    torch.nn.init.zeros_(model.head.head.head[4].weight)
    assert model(images).depth.eq(0).all()


@pytest.mark.parametrize("variant", ["vae", "dpt"])
@pytest.mark.parametrize("memory", ["sequential", "tiled"])
def test_saving_memory_does_not_change_the_answer(teacher, head_file, images, variant, memory):
    usual, saving = teacher(variant)(images), teacher(variant, memory=memory)(images)
    assert torch.allclose(saving.depth, usual.depth, atol=1e-5)
    for name, tap in usual.features.items():
        assert (saving.features[name] - tap).abs().max() < 1e-4 * tap.std()


def test_tiles_are_for_images_larger_than_the_vaes_own_size(teacher):
    torch.manual_seed(0)
    large = torch.rand(1, 3, 192, 192)
    usual, tiled = teacher()(large).depth, teacher(memory="tiled")(large).depth
    assert not torch.equal(usual, tiled)


def test_bfloat16(teacher, images):
    model = teacher(precision="bf16")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    depth = model(images).depth
    assert depth.dtype == torch.float32
    assert (depth - teacher()(images).depth).abs().mean() < 0.03


def test_text_matters_and_its_rows_too(teacher, images):
    whole, short = teacher(), teacher(text_rows=2)
    assert whole.prompt.shape == (1, 77, 32)
    assert torch.equal(short.prompt, whole.prompt[:, :2])
    assert not torch.allclose(whole(images).depth, short(images).depth, atol=1e-4)


def test_any_size_and_predict(teacher):
    model = teacher(native_size=128)
    for size in ((64, 64), (75, 101), (1, 70)):
        prediction = model(torch.rand(1, 3, *size))
        assert prediction.depth.shape == (1, 1, *size)
        assert prediction.depth.isfinite().all()
    assert model.spec.native.target(480, 640) == (128, 128)
    assert model.spec.native.target(240, 640) == (64, 128)
    assert teacher(native_size=0).spec.native.target(480, 640) == (512, 640)
    assert model.predict(torch.rand(3, 50, 80)).depth.shape == (1, 1, 50, 80)


def test_deep_copies_are_equal_and_apart(teacher, head_file, images):
    model = teacher("dpt")
    twin = copy.deepcopy(model)
    before = model(images).depth
    assert torch.equal(twin(images).depth, before)
    torch.nn.init.zeros_(twin.unet.conv_in.weight)
    assert torch.equal(model(images).depth, before)
    assert not torch.equal(twin(images).depth, before)


def test_a_teacher_is_frozen(teacher, images):
    model = teacher().train()
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert not model(images.requires_grad_()).depth.requires_grad
