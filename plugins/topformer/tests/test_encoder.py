"""The encoder: sizes, names, and its attention without a scale."""

from __future__ import annotations

import re

import pytest
import torch
from dadkit_topformer.network import Attention, Injection, TopFormer
from dadkit_topformer.sizes import SIZES
from torch.nn import functional as F

MILLIONS = {"tiny": (1.294, 1.370, 1.390), "small": (2.808, 2.968, 3.035), "base": (4.683, 4.958, 5.063)}


def encoder(size: str, injection: str = "official", drop_path: float = 0.0) -> TopFormer:
    return TopFormer(SIZES[size], injection=injection, drop_path=drop_path)


def millions(*modules: torch.nn.Module) -> float:
    return round(sum(p.numel() for module in modules for p in module.parameters()) / 1e6, 3)


@pytest.mark.parametrize("size", SIZES)
def test_published_parameter_counts(size):
    without, with_injection, with_head = MILLIONS[size]
    assert millions(encoder(size, "none")) == without
    assert millions(encoder(size)) == with_injection
    # The segmentation head that the published 1.4, 3.1 and 5.1 M include: fuse (depth-wise for tiny) and 150 classes.
    c = SIZES[size].injected
    fuse = torch.nn.Conv2d(c, c, 1, groups=c if size == "tiny" else 1, bias=False)
    assert millions(encoder(size), fuse, torch.nn.BatchNorm2d(c), torch.nn.Conv2d(c, 150, 1)) == with_head


@pytest.mark.parametrize("size", SIZES)
def test_official_names(size):
    norm = r"bn\.(weight|bias|running_mean|running_var|num_batches_tracked)"
    conv_bn = rf"(c\.weight|{norm})"
    pattern = re.compile(
        rf"tpm\.stem\.0\.{conv_bn}"
        rf"|tpm\.layer1\.conv\.[02]\.{conv_bn}"
        rf"|tpm\.layer([2-9]|10)\.conv\.[024]\.{conv_bn}"
        rf"|trans\.transformer_blocks\.[0-3]\.attn\.(to_q|to_k|to_v|proj\.1)\.{conv_bn}"
        rf"|trans\.transformer_blocks\.[0-3]\.mlp\.(fc1|fc2)\.{conv_bn}"
        r"|trans\.transformer_blocks\.[0-3]\.mlp\.dwconv\.(weight|bias)"
        rf"|SIM\.[123]\.(local_embedding|global_embedding|global_act)\.(conv\.weight|{norm})"
    )
    names = list(encoder(size).state_dict())
    assert [name for name in names if not pattern.fullmatch(name)] == []
    residuals = 9 if size == "tiny" else 10
    # 6 entries a convolution with batch norm: stem, layer1's two, three a residual, six a block and its dwconv, nine of SIM.
    assert len(names) == 6 * (1 + 2 + 3 * (residuals - 1) + 4 * 6 + 9) + 4 * 2


def test_levels_and_tokens():
    model = encoder("small")
    levels, overall = model(torch.rand(2, 3, 160, 224))
    assert [tuple(level.shape) for level in levels] == [(2, 24, 40, 56), (2, 192, 20, 28), (2, 192, 10, 14), (2, 192, 5, 7)]
    assert overall.shape == (2, 296, 3, 4)


@pytest.mark.parametrize("injection", ["official", "all", "none"])
def test_declared_channels(injection):
    model = encoder("tiny", injection)
    levels, _ = model(torch.rand(2, 3, 64, 64))
    assert tuple(level.shape[1] for level in levels) == model.outputs


def test_attention_is_a_plain_softmax_without_scale():
    torch.manual_seed(0)
    layer = Attention(24, heads=3).eval()
    x = torch.randn(2, 24, 5, 4)
    with torch.inference_mode():
        q = layer.to_q(x).reshape(2, 3, 16, 20)
        k = layer.to_k(x).reshape(2, 3, 16, 20)
        v = layer.to_v(x).reshape(2, 3, 32, 20)
        weights = torch.softmax(torch.einsum("bhcn,bhcm->bhnm", q, k), dim=-1)
        expected = layer.proj(torch.einsum("bhnm,bhcm->bhcn", weights, v).reshape(2, 96, 5, 4))
        assert torch.allclose(layer(x), expected, atol=1e-5)
        scaled = torch.softmax(torch.einsum("bhcn,bhcm->bhnm", q, k) / 4, dim=-1)
        usual = layer.proj(torch.einsum("bhnm,bhcm->bhcn", scaled, v).reshape(2, 96, 5, 4))
        assert (layer(x) - usual).abs().max() > 0.01


def test_injection_is_gate_and_shift():
    torch.manual_seed(0)
    layer = Injection(6, 8).eval()
    local, overall = torch.randn(2, 6, 9, 7), 3 * torch.randn(2, 6, 3, 2)
    with torch.inference_mode():
        gate = F.interpolate(F.relu6(layer.global_act(overall) + 3) / 6, (9, 7), mode="bilinear")
        shift = F.interpolate(layer.global_embedding(overall), (9, 7), mode="bilinear")
        assert torch.allclose(layer(local, overall), layer.local_embedding(local) * gate + shift, atol=1e-5)


def test_random_blocks_start_as_the_identity():
    torch.manual_seed(0)
    model = encoder("tiny").eval()
    x = torch.randn(1, 208, 3, 4)
    assert torch.equal(model.trans(x), x)


def test_drop_path_skips_images_in_training_only():
    torch.manual_seed(0)
    model = encoder("tiny", drop_path=0.5)
    x = torch.rand(8, 3, 64, 64)
    model.eval()
    assert torch.equal(model(x)[1], model(x)[1])
    block = model.trans.transformer_blocks[3].train()
    # A dropped image keeps zero, a kept one is divided by the probability of keeping.
    ones = block._dropped(torch.ones(2000, 1, 1, 1)).flatten()
    assert set(ones.tolist()) == {0.0, 2.0}
    assert 0.4 < (ones > 0).float().mean() < 0.6
    first = model.trans.transformer_blocks[0].train()
    assert torch.equal(first._dropped(ones), ones)
