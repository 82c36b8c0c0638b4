"""Files in the official layouts, made here with random tensors."""

from __future__ import annotations

import pytest
import torch
from dadkit_topformer.model import TopFormerDepth
from dadkit_topformer.network import TopFormer
from dadkit_topformer.options import Options
from dadkit_topformer.sizes import SIZES

from dadkit.errors import DadkitError


@pytest.fixture
def save(tmp_path):
    def write(state: object, name: str = "weights.pth"):
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return write


def random_encoder(size: str, injection: str, seed: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    state = TopFormer(SIZES[size], injection=injection, drop_path=0).state_dict()
    return {k: torch.rand_like(v) if v.is_floating_point() else torch.tensor(7) for k, v in state.items()}


def imagenet(size: str) -> dict[str, torch.Tensor]:
    head = {f"head.bn.{leaf}": torch.rand(4) for leaf in ("weight", "bias", "running_mean", "running_var")}
    return {**random_encoder(size, "none"), **head, "head.l.weight": torch.rand(4, 4), "head.l.bias": torch.rand(4)}


def ade20k(size: str) -> dict[str, torch.Tensor]:
    head = {
        "linear_fuse.conv.weight": torch.rand(4, 4, 1, 1),
        "linear_fuse.bn.weight": torch.rand(4),
        "conv_seg.bias": torch.rand(4),
    }
    backbone = {f"backbone.{k}": v for k, v in random_encoder(size, "official").items()}
    return {**backbone, **{f"decode_head.{k}": v for k, v in head.items()}}


def loaded_equals(model: TopFormerDepth, state: dict[str, torch.Tensor], *parts: str) -> bool:
    own = {k: v for k, v in model.backbone.state_dict().items() if k.startswith(parts)}
    return bool(own) and all(torch.equal(v, state[k]) for k, v in own.items())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("injection", ["all", "official", "none"])
def test_imagenet_files_fill_the_encoder(save, size, injection):
    state = imagenet(size)
    model = TopFormerDepth(size, weights=save({"model": state}), injection=injection)
    assert loaded_equals(model, state, "tpm.", "trans.")


def test_averaged_weights_come_first(save):
    wanted = imagenet("tiny")
    others = {k: torch.zeros_like(v) for k, v in wanted.items()}
    path = save({"model": others, "state_dict": others, "state_dict_ema": wanted, "epoch": 299})
    assert loaded_equals(TopFormerDepth("tiny", weights=path), wanted, "tpm.", "trans.")


def test_ade20k_files_fill_the_injection_where_it_fits(save):
    path = save({"state_dict": ade20k("tiny"), "meta": {"epoch": 12}})
    state = random_encoder("tiny", "official")
    assert loaded_equals(TopFormerDepth("tiny", weights=path, injection="official"), state, "tpm.", "trans.", "SIM.")
    torch.manual_seed(8)
    model = TopFormerDepth("tiny", weights=path, injection="all")
    torch.manual_seed(8)
    fresh = TopFormerDepth("tiny", injection="all")
    assert loaded_equals(model, state, "tpm.", "trans.")
    assert loaded_equals(model, fresh.backbone.state_dict(), "SIM.")


@pytest.mark.parametrize("injection", ["all", "official", "none"])
def test_trained_students_come_back_whole(save, build, injection):
    model = build("tiny", injection=injection, widths=(8, 8, 16, 16))
    back = TopFormerDepth("tiny", weights=save(model.state_dict()), injection=injection, widths=(8, 8, 16, 16))
    assert all(torch.equal(v, back.state_dict()[k]) for k, v in model.state_dict().items())
    with pytest.raises(DadkitError, match="needs the options that it was trained with"):
        TopFormerDepth("tiny", weights=save(model.state_dict()), injection=injection)


def test_the_encoder_alone_of_a_trained_student(save, build):
    trained = build("tiny", widths=(8, 8, 16, 16))
    path = save(trained.state_dict())
    torch.manual_seed(8)
    model = TopFormerDepth("tiny", weights=path, init="encoder")  # other widths: the decoder does not matter
    torch.manual_seed(8)
    fresh = TopFormerDepth("tiny")
    assert loaded_equals(model, trained.backbone.state_dict(), "tpm.", "trans.", "SIM.")
    assert all(torch.equal(v, model.decoder.state_dict()[k]) for k, v in fresh.decoder.state_dict().items())
    assert not model.head_is_trained
    assert TopFormerDepth("tiny", weights=path, widths=(8, 8, 16, 16)).head_is_trained


@pytest.mark.parametrize(
    ("options", "message"),
    [({"init": "encoder"}, "needs weights: PATH"), ({"init": "none", "weights": "x.pth"}, "leave out one")],
)
def test_init_and_weights_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_wrong_size_says_which_size_it_is(save):
    with pytest.raises(DadkitError) as error:
        TopFormerDepth("tiny", weights=save({"state_dict": imagenet("base")}))
    message = str(error.value)
    assert "looks like TopFormer base: use topformer/base" in message
    assert "unexpected: backbone.tpm.layer10.conv.0.c.weight" in message
    assert "head.bn" not in message
    assert error.value.exit_code == 2


def test_a_foreign_file_is_said_to_be_one(save):
    with pytest.raises(DadkitError, match=r"2 unexpected: conv1\.weight, fc\.bias[^\0]*does not look like a TopFormer"):
        TopFormerDepth("tiny", weights=save({"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}))


@pytest.mark.parametrize(
    "gone", ["tpm.layer3.conv.2.bn.running_mean", "trans.transformer_blocks.1.mlp.dwconv.bias", "SIM.2.global_act.conv.weight"]
)
def test_a_missing_name_is_an_error(save, gone):
    state = ade20k("tiny")
    del state[f"backbone.{gone}"]
    with pytest.raises(DadkitError, match=f"1 missing: backbone.{gone}"):
        TopFormerDepth("tiny", weights=save(state), injection="official")


def test_batch_counters_may_be_missing(save):
    state = {k: v for k, v in imagenet("tiny").items() if not k.endswith("num_batches_tracked")}
    assert loaded_equals(
        TopFormerDepth("tiny", weights=save(state)), imagenet("tiny"), "tpm.stem.0.c", "trans.transformer_blocks.0.attn.to_q.c"
    )
