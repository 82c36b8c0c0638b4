"""The mapping of names, against official files written down from the architectures."""

from __future__ import annotations

import pytest
import torch
from dadkit_midas.keys import layout, looks_like, places, to_model
from dadkit_midas.model import Midas
from dadkit_midas.sizes import SIZES

from dadkit.weights import WeightsError

RELEASED = [name for name, size in SIZES.items() if size.official]
COUNTS = {
    # name -> (names in the file, parameters in millions), as the official code counts them
    "dpt-beit-large-512": (487, 345.014),
    "dpt-beit-large-384": (487, 344.339),
    "dpt-beit-base-384": (283, 111.532),
    "dpt-swin2-large-384": (477, 213.412),
    "dpt-swin2-base-384": (477, 102.379),
    "dpt-swin2-tiny-256": (273, 41.701),
    "dpt-swin-large-384": (414, 213.407),
    "dpt-next-vit-large-384": (962, 72.261),
    "dpt-levit-224": (465, 50.631),
    "dpt-large-384": (368, 344.055),
    "dpt-hybrid-384": (368, 123.147),
    "v21-384": (666, 105.363),
    "v21-small-256": (482, 21.321),
}
COMPUTED = ("running_mean", "running_var", "num_batches_tracked", "_index", "_idxs", "_mask")


def meta(shapes):
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def shapes_of(state):
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def on_meta(name):
    with torch.device("meta"):
        return Midas(name)


@pytest.mark.parametrize("name", RELEASED)
def test_official_files_have_the_published_counts(name, official_shapes):
    shapes = official_shapes(SIZES[name])
    learnt = [torch.Size(shape).numel() for key, shape in shapes.items() if not key.endswith(COMPUTED)]
    assert (len(shapes), round(sum(learnt) / 1e6, 3)) == COUNTS[name]


@pytest.mark.parametrize("name", RELEASED)
def test_mapping_is_a_bijection_onto_the_models_names(name, official_shapes):
    size = SIZES[name]
    shapes = official_shapes(size)
    used = [place for place in places(shapes, size).values() if place is not None]
    assert len({place.name for place in used}) == len(used)
    assert shapes_of(to_model(meta(shapes), size)) == shapes_of(on_meta(name).state_dict())


@pytest.mark.parametrize("name", RELEASED)
def test_what_is_left_out_takes_no_part(name, official_shapes):
    size = SIZES[name]
    left = [key for key, place in places(official_shapes(size), size).items() if place is None]
    coarsest = f"scratch.refinenet{len(size.channels)}.resConfUnit1."
    after = tuple(f"pretrained.model.{part}." for part in ("norm", "fc_norm", "head", "head_dist", "proj_head"))
    tail = tuple(f"pretrained.model.blocks.{n}.m." for n in range(22, 28)) if size.family == "levit" else ()
    assert left
    assert all(key.startswith((coarsest, *after, *tail)) or key.endswith(COMPUTED) for key in left)


def test_levit_blocks_and_swin_reductions_by_example(official_shapes):
    found = places(official_shapes(SIZES["dpt-levit-224"]), SIZES["dpt-levit-224"])
    b = "pretrained.model.blocks"
    assert found[f"{b}.3.m.2.c.weight"].name == "backbone.stages.0.blocks.1.mlp.ln2.linear.weight"
    assert found[f"{b}.8.q.1.bn.bias"].name == "backbone.stages.1.downsample.attn_downsample.q.ln.bn.bias"
    assert found[f"{b}.9.m.0.c.weight"].name == "backbone.stages.1.downsample.mlp.ln1.linear.weight"
    assert found[f"{b}.10.m.attention_biases"].name == "backbone.stages.1.blocks.0.attn.attention_biases"
    assert found[f"{b}.20.m.proj.1.c.weight"].name == "backbone.stages.2.blocks.0.attn.proj.ln.linear.weight"
    found = places(official_shapes(SIZES["dpt-swin2-tiny-256"]), SIZES["dpt-swin2-tiny-256"])
    assert found["pretrained.model.layers.0.downsample.norm.bias"].name == "backbone.layers.1.downsample.norm.bias"


def test_own_names_stay_as_they_are(mini, sizes):
    state = meta(shapes_of(on_meta(mini).state_dict()))
    assert layout(state) == "ours"
    assert to_model(state, sizes[mini]).keys() == state.keys()


@pytest.mark.parametrize("name", RELEASED)
def test_looks_like_every_released_model(name, official_shapes):
    assert looks_like(meta(official_shapes(SIZES[name]))) == name


def test_looks_like_nothing_known():
    assert looks_like(meta({"conv.weight": (3, 3)})) is None


def test_two_tensors_for_one_place():
    size = SIZES["dpt-large-384"]
    twice = meta(
        {"dpt.embeddings.projection.bias": (1024,), "dpt.embeddings.patch_embeddings.projection.bias": (1024,), "neck.x": ()}
    )
    with pytest.raises(WeightsError, match=r"holds 'backbone\.patch_embed\.proj\.bias' twice"):
        to_model(twice, size)
