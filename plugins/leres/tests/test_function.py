"""The function against witnesses: a plain forward with the official in-place quirk, and timm's residual networks."""

from __future__ import annotations

import pytest
import torch
from dadkit_leres.model import LeReS
from dadkit_leres.network import ENCODERS, Encoder, Refine
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode


class Plain:
    """LeReS step by step from an official state dict: one function a layer, nothing shared with the package."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.state = {name.removeprefix("module.depth_model."): tensor for name, tensor in state.items()}

    def conv(self, name: str, x: torch.Tensor, stride: int = 1, padding: int = 0) -> torch.Tensor:
        weight = self.state[f"{name}.weight"]
        groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), stride, padding, groups=groups)

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        mean, var, weight, bias = (self.state[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
        view = (1, -1, 1, 1)
        return (x - mean.view(view)) / (var.view(view) + 1e-5).sqrt() * weight.view(view) + bias.view(view)

    def encoder(self, x: torch.Tensor) -> list[torch.Tensor]:
        root = "encoder_modules.encoder"
        x = F.max_pool2d(self.norm(f"{root}.bn1", self.conv(f"{root}.conv1", x, 2, 3)).clamp(min=0), 3, 2, 1)
        levels = []
        for layer in range(1, 5):
            block = 0
            while f"{root}.layer{layer}.{block}.conv1.weight" in self.state:
                name = f"{root}.layer{layer}.{block}"
                stride = 2 if layer > 1 and block == 0 else 1
                y = self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x)).clamp(min=0)
                y = self.norm(f"{name}.bn2", self.conv(f"{name}.conv2", y, stride, 1)).clamp(min=0)
                y = self.norm(f"{name}.bn3", self.conv(f"{name}.conv3", y))
                if f"{name}.downsample.0.weight" in self.state:
                    x = self.norm(f"{name}.downsample.1", self.conv(f"{name}.downsample.0", x, stride))
                x = (x + y).clamp(min=0)
                block += 1
            levels.append(x)
        return levels

    def ftb(self, name: str, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(f"{name}.conv1", x, padding=1)
        y = x.relu_()  # in place, as published: x itself is rectified from here on
        y = self.norm(f"{name}.conv_branch.2", self.conv(f"{name}.conv_branch.1", y, padding=1)).relu_()
        return (x + self.conv(f"{name}.conv_branch.4", y, padding=1)).relu_()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        up = torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        levels = self.encoder(x)
        y = up(self.conv("decoder_modules.conv1", self.ftb("decoder_modules.conv", levels[3]), padding=1))
        for step in (2, 1, 0):
            name = f"decoder_modules.ffm{step}"
            y = up(self.ftb(f"{name}.ftb2", self.ftb(f"{name}.ftb1", levels[step]) + y))
        name = "decoder_modules.outconv.adapt_conv"
        y = self.norm(f"{name}.1", self.conv(f"{name}.0", y, padding=1)).clamp(min=0)
        return up(self.conv(f"{name}.3", y, padding=1))


@pytest.mark.parametrize(("encoder", "size"), [("mini", (64, 96)), ("mini-next", (32, 64))])
def test_equals_a_plain_forward(build, official, encoder, size):
    model = build(encoder)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = Plain(official(model))(x)
        depth, _ = model.estimate(x)
    assert depth.shape == expected.shape == (2, 1, *size)
    assert (depth - expected).abs().max() < 1e-5 * expected.std()


def test_the_residual_is_rectified_in_place(randomise):
    layer = randomise(Refine(4, 6)).eval()
    x = torch.randn(1, 4, 5, 7)
    with torch.inference_mode():
        raw = layer.conv1(x)
        usual = F.relu(raw + layer.conv_branch(F.relu(raw)))
        assert torch.equal(layer(x), F.relu(F.relu(raw) + layer.conv_branch(F.relu(raw))))
        assert (layer(x) - usual).abs().max() > 0.1


@pytest.mark.parametrize(("name", "theirs"), [("resnet50", "resnet50"), ("resnext101", "resnext101_32x8d")])
def test_the_encoders_are_timms(name, theirs):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        ours = Encoder(ENCODERS[name]).state_dict()
        whole = timm.create_model(theirs, num_classes=1000).state_dict()
    shapes = {key: tuple(value.shape) for key, value in whole.items() if not key.startswith("fc.")}
    assert {key: tuple(value.shape) for key, value in ours.items()} == shapes


def test_the_encoder_computes_what_timms_does(randomise):
    timm = pytest.importorskip("timm")
    ours = randomise(Encoder(ENCODERS["resnet50"])).eval()
    theirs = timm.create_model("resnet50", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        for mine, reference in zip(ours(x), theirs(x), strict=True):
            assert (mine - reference).abs().max() < 1e-5 * reference.std()


def test_size_and_cost_of_the_lightweight_papers_teacher():
    """Its poster says 52.13 M parameters and 96.14 G multiply-adds at 448 x 448."""
    with torch.device("meta"):
        model = LeReS("resnet50").eval()
        x = torch.zeros(1, 3, 448, 448)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == 52.13
    with FlopCounterMode(display=False) as counter:
        model(x)
    assert abs(counter.get_total_flops() / 2e9 - 96.14) < 0.5
