"""The function itself against transformers' DPT, with the weights read from transformers' own files."""

from __future__ import annotations

import re

import pytest
import torch
from dadkit_midas.keys import layout, to_model
from dadkit_midas.model import Midas
from dadkit_midas.sizes import SIZES

transformers = pytest.importorskip("transformers")


def backbone_config(size):
    of = size.backbone
    if size.family == "beit":
        return transformers.BeitConfig(
            image_size=size.native,
            hidden_size=of["width"],
            num_hidden_layers=of["depth"],
            num_attention_heads=of["heads"],
            intermediate_size=4 * of["width"],
            layer_norm_eps=1e-6,
            use_relative_position_bias=True,
            reshape_hidden_states=False,
            out_features=[f"stage{tap + 1}" for tap in of["taps"]],
            add_fpn=False,
        )
    if size.family == "swin2":
        return transformers.Swinv2Config(
            image_size=size.native,
            embed_dim=of["width"],
            depths=of["depths"],
            num_heads=of["heads"],
            window_size=of["window"],
            pretrained_window_sizes=of.get("pretrained_windows", (0, 0, 0, 0)),
            out_features=[f"stage{k}" for k in (1, 2, 3, 4)],
        )
    if size.family == "hybrid":
        return transformers.BitConfig(
            global_padding="same",
            layer_type="bottleneck",
            depths=of["layers"],
            hidden_sizes=of["stages"],
            embedding_size=64,
            out_features=["stage1", "stage2", "stage3"],
            embedding_dynamic_padding=True,
        )
    return None


def transformers_model(size):
    of = size.backbone
    own = {}
    if size.family in ("vit", "hybrid"):
        own = {
            "hidden_size": of["width"],
            "num_hidden_layers": of["depth"],
            "num_attention_heads": of["heads"],
            "intermediate_size": 4 * of["width"],
            "layer_norm_eps": 1e-6,
            "image_size": size.native,
            "backbone_out_indices": [0, 1, *of["taps"]][-4:],
        }
    if size.family == "hybrid":
        own |= {
            "is_hybrid": True,
            "neck_ignore_stages": [0, 1],
            "backbone_featmap_shape": [1, of["stages"][-1], size.native // 16, size.native // 16],
        }
    config = transformers.DPTConfig(
        **own,
        backbone_config=backbone_config(size),
        readout_type="project",
        neck_hidden_sizes=list(size.channels),
        fusion_hidden_size=size.widths[0],
    )
    return transformers.DPTForDepthEstimation(config).eval()


CASES = [
    ("mini-vit", 64, 64),
    ("mini-vit", 96, 96),
    ("mini-vit", 160, 160),  # without a backbone of its own, transformers takes squares only
    ("mini-hybrid", 64, 64),
    ("mini-beit", 64, 64),
    ("mini-beit", 96, 64),
    ("mini-beit", 32, 128),
    ("mini-swin2", 128, 128),
]


@pytest.mark.parametrize(("name", "height", "width"), CASES)
def test_equals_transformers_with_its_own_files(name, height, width, sizes, randomise, tmp_path):
    torch.manual_seed(0)
    size = sizes[name]
    theirs = transformers_model(size)
    randomise(theirs)
    torch.nn.init.constant_(theirs.head.head[4].bias, 3.0)
    theirs.save_pretrained(tmp_path / "folder")
    torch.save(theirs.state_dict(), tmp_path / "memory.pth")
    model = Midas(name, weights=tmp_path / "folder").eval()
    x = torch.randn(2, 3, height, width)
    with torch.inference_mode():
        expected = theirs(x).predicted_depth
        depth, _ = model.estimate(x)
    assert expected.std() > 0.05
    assert (expected > 0).float().mean() > 0.5
    assert (depth[:, 0] - expected).abs().max() < 2e-5 * expected.abs().max()
    memory = Midas(name, weights=tmp_path / "memory.pth").state_dict()
    assert all(torch.equal(memory[key], tensor) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "name",
    ["dpt-large-384", "dpt-hybrid-384", "dpt-beit-large-512", "dpt-beit-base-384", "dpt-swin2-tiny-256", "dpt-swin2-large-384"],
)
def test_mapping_covers_the_real_models(name):
    size = SIZES[name]
    with torch.device("meta"):
        theirs, ours = transformers_model(size).state_dict(), Midas(name).state_dict()
    assert layout(theirs) == "huggingface"
    mapped = to_model(theirs, size)
    assert {key: t.shape for key, t in mapped.items()} == {key: t.shape for key, t in ours.items()}


def test_files_of_the_hub_lack_the_unit_that_takes_no_part_and_have_beits_older_names():
    """As the files were converted: with transformers 4, from official ones."""
    size = SIZES["dpt-beit-base-384"]
    with torch.device("meta"):
        theirs, ours = transformers_model(size).state_dict(), Midas("dpt-beit-base-384").state_dict()
    older = {}
    for key, tensor in theirs.items():
        if "layers.0.residual_layer1" in key:
            continue
        name = re.sub(r"^backbone\.(beit\.)?", "backbone.", key)
        name = re.sub(r"^backbone\.layers\.", "backbone.encoder.layer.", name)
        name = re.sub(
            r"attention\.([qkv])_proj",
            lambda m: f"attention.attention.{ {'q': 'query', 'k': 'key', 'v': 'value'}[m[1]] }",
            name,
        )
        name = name.replace("attention.o_proj", "attention.output.dense").replace(".mlp.fc1", ".intermediate.dense")
        name = name.replace(".mlp.fc2", ".output.dense").replace(
            "relative_position_bias.rel", "attention.attention.relative_position_bias.rel"
        )
        older[name] = tensor
        if name.endswith("bias_table"):
            older[name.replace("bias_table", "index")] = torch.empty(577, 577, device="meta")
    assert "backbone.encoder.layer.3.attention.attention.query.weight" in older
    mapped = to_model(older, size)
    assert {key: t.shape for key, t in mapped.items()} == {key: t.shape for key, t in ours.items()}
