"""Files in the released layouts load wholly; anything missing, unexpected or misplaced is an error that says what to do."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from dadkit_genpercept import LICENSE, LOTUS_LICENSE
from dadkit_genpercept.files import empty_prompt
from dadkit_genpercept.model import GenPercept
from dadkit_genpercept.networks import vae_names
from safetensors.torch import load_file, save_file

from dadkit.errors import DadkitError


def equal(module, state):
    own = module.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[name], tensor) for name, tensor in state.items())


def test_save_and_load_round_trip(networks, teacher, images, tmp_path):
    unet, vae = networks
    model = teacher()
    assert equal(model.unet, unet.state_dict())
    assert equal(model.vae, vae.state_dict())
    assert model.spec.license == LICENSE
    model.unet.save_pretrained(tmp_path / "again" / "unet")
    again = teacher(weights=tmp_path / "again")
    assert torch.equal(again(images).depth, model(images).depth)


def test_pickled_files_and_files_given_by_name(networks, teacher, tmp_path):
    torch.save(networks[0].state_dict(), tmp_path / "diffusion_pytorch_model.bin")
    assert equal(teacher(weights=tmp_path / "diffusion_pytorch_model.bin").unet, networks[0].state_dict())
    assert equal(teacher(weights=tmp_path).unet, networks[0].state_dict())


def test_the_head_lies_beside_in_or_where_it_is_said_to(networks, teacher, head_file, head_state, unet_folder, tmp_path):
    assert equal(teacher("dpt").head, head_state)
    own = tmp_path / "elsewhere" / "genpercept-disparity-dpt-head"
    networks[0].save_pretrained(own / "unet")
    with pytest.raises(DadkitError, match=r"no dpt_head_identity.model\.safetensors in .* nor beside it; give the head's file"):
        teacher("dpt", weights=own)
    assert equal(teacher("dpt", weights=own, head=head_file).head, head_state)
    (own / "dpt_head_identity").mkdir()
    save_file(head_state, own / "dpt_head_identity" / "model.safetensors")
    model = teacher("dpt", weights=own)
    assert equal(model.head, head_state)
    assert model.vae.decoder is None
    with pytest.raises(DadkitError, match="holds a DPT head, so no map comes from the VAE: use genpercept/dpt"):
        teacher("vae", weights=own)


def test_under_a_head_the_unets_output_layer_is_optional(networks, teacher, head_file, unet_folder, images):
    whole = teacher("dpt")(images).depth
    state = {
        name: tensor for name, tensor in networks[0].state_dict().items() if "conv_out" not in name and "conv_norm" not in name
    }
    save_file(state, unet_folder / "diffusion_pytorch_model.safetensors")
    assert torch.equal(teacher("dpt")(images).depth, whole)
    with pytest.raises(DadkitError, match=r"4 missing: conv_norm_out[^\0]*belongs to a DPT head: use genpercept/dpt"):
        teacher("vae")


def test_a_fine_tuned_decoder_takes_both_its_parts(networks, teacher, randomise, tmp_path):
    unet, vae = networks
    folder = tmp_path / "genpercept-normal"
    unet.save_pretrained(folder / "unet")
    randomise(vae, 9)
    for name, part in (("vae_decoder", vae.decoder), ("vae_post_quant_conv", vae.post_quant_conv)):
        (folder / name).mkdir()
        if name == "vae_post_quant_conv":
            with pytest.raises(DadkitError, match=r"of a fine-tuned decoder's two parts .* holds only .*vae_decoder"):
                teacher(weights=folder)
        save_file(part.state_dict(), folder / name / "model.safetensors")
    model = teacher(weights=folder)
    assert equal(model.vae.decoder, vae.decoder.state_dict())
    assert equal(model.vae.post_quant_conv, vae.post_quant_conv.state_dict())
    assert not equal(model.vae.encoder, vae.encoder.state_dict())


def test_old_vae_files_are_read_as_diffusers_reads_them(networks, base, teacher):
    diffusers = pytest.importorskip("diffusers")
    file = base / "vae" / "diffusion_pytorch_model.safetensors"
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(file)
    old = {re.sub(r"to_(q|k|v|out\.0)", lambda match: names[match[0]], name): tensor for name, tensor in state.items()}
    assert sum("proj_attn" in name for name in old) == 4
    save_file(old, file, metadata={"format": "pt"})
    theirs = diffusers.AutoencoderKL.from_pretrained(base / "vae", low_cpu_mem_usage=False).state_dict()
    assert vae_names(old).keys() == theirs.keys()
    assert equal(teacher().vae, theirs)


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
@pytest.mark.parametrize("part", ["unet", "vae", "head"])
def test_a_file_that_fits_in_part_is_an_error(teacher, base, unet_folder, head_file, part, change):
    file = {
        "unet": unet_folder / "diffusion_pytorch_model.safetensors",
        "vae": base / "vae" / "diffusion_pytorch_model.safetensors",
        "head": head_file,
    }[part]
    state = load_file(file)
    name = sorted(state)[0]
    if change == "missing":
        del state[name]
    elif change == "unexpected":
        state["lora.up.weight"] = torch.zeros(1)
    else:
        state[name] = torch.zeros(3, 3)
    save_file(state, file)
    told = {
        "missing": f"1 missing: {name}",
        "unexpected": "1 unexpected: lora.up.weight",
        "shape": f"1 of another shape: {name}",
    }
    with pytest.raises(DadkitError, match=re.escape(told[change])) as error:
        teacher("dpt")
    assert error.value.exit_code == 2


def test_with_weights_on_the_hub_the_heads_file_must_be_named(teacher, networks, monkeypatch, head_file, unet_folder):
    monkeypatch.setattr(
        "dadkit_genpercept.networks.unet_file", lambda weights: unet_folder / "diffusion_pytorch_model.safetensors"
    )
    with pytest.raises(DadkitError, match=r"weights are on the hub, hf://a/b/c\.bin, so name the head's file too"):
        teacher("dpt", weights="hf://a/b/c.bin")
    assert teacher("dpt", weights="hf://a/b/c.bin", head=head_file).head is not None


def test_a_wrong_folder_is_an_error(teacher, tmp_path, unet_folder):
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(DadkitError, match=r"elsewhere does not hold a UNet \(diffusion_pytorch_model\.safetensors\).*nothing"):
        teacher(weights=tmp_path / "elsewhere")
    with pytest.raises(DadkitError, match=r"genpercept/vae: no weight file at .*nowhere"):
        teacher(weights=tmp_path / "nowhere")
    with pytest.raises(DadkitError, match=r"cannot read .*unet.config\.json .*base must be the folder of Stable"):
        teacher(base=tmp_path / "elsewhere")
    with pytest.raises(DadkitError, match=r"cannot read .*unet.config\.json"):
        teacher(base=unet_folder)


def test_a_base_without_vae_weights_is_an_error(teacher, base):
    (base / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(DadkitError, match=r"vae does not hold the VAE's weights .*it holds: config\.json"):
        teacher()


def test_marigolds_unet_is_said_to_be_one(teacher, base, unet_folder):
    config = json.loads((base / "unet" / "config.json").read_text())
    file = unet_folder / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    state["conv_in.weight"] = torch.zeros(32, 8, 3, 3)
    save_file(state, file)
    with pytest.raises(DadkitError, match="looks like Marigold's UNet, which takes 8 channels"):
        teacher()
    (base / "unet" / "config.json").write_text(json.dumps({**config, "in_channels": 8}))
    with pytest.raises(DadkitError, match=r"takes 8 channels and gives 4; GenPercept's and Lotus-D's take"):
        teacher()


@pytest.mark.parametrize("ending", ["npy", "safetensors"])
def test_embeddings_from_files(base, tmp_path, ending):
    rows = torch.randn(77, 32)
    file = tmp_path / f"e.{ending}"
    if ending == "npy":
        np.save(file, rows.numpy())
    else:
        save_file({"embedding": rows[None]}, file)
    assert torch.equal(empty_prompt(base, file, None), rows[None])
    assert torch.equal(empty_prompt(base, file, 2), rows[None, :2])


@pytest.mark.parametrize(
    ("array", "rows", "message"),
    [
        (np.zeros((2, 32)), 77, "has 2 rows, and text_rows asks for 77"),
        (np.zeros((3, 32)), None, r"must be \(2, C\) or \(77, C\), it is \(1, 3, 32\)"),
        (np.zeros(32), None, r"it is \(32,\)"),
        (np.array({"a": 1}), None, "cannot read the embedding"),
    ],
)
def test_bad_embeddings(base, tmp_path, array, rows, message):
    np.save(tmp_path / "e.npy", array, allow_pickle=True)
    with pytest.raises(DadkitError, match=message):
        empty_prompt(base, tmp_path / "e.npy", rows)


def test_an_embedding_of_another_width_is_an_error(teacher, tmp_path):
    np.save(tmp_path / "wide.npy", np.zeros((2, 768)))
    with pytest.raises(DadkitError, match="has 768 channels, the UNet takes 32"):
        teacher(embedding=tmp_path / "wide.npy")


def test_the_embedding_is_computed_from_the_text_encoder(with_text):
    transformers = pytest.importorskip("transformers")
    encoder = transformers.CLIPTextModel.from_pretrained(with_text / "text_encoder").eval()
    with torch.inference_mode():
        expected = encoder(torch.tensor([[2, 3]]))[0]
        padded = encoder(torch.tensor([[2, 3, *[0] * 75]]))[0]
    short, long = empty_prompt(with_text, None, None), empty_prompt(with_text, None, 77)
    assert torch.allclose(short, expected, atol=1e-6)
    assert torch.allclose(long, padded, atol=1e-6)
    assert torch.allclose(long[:, :2], short, atol=1e-5)


def test_without_transformers_the_embedding_must_be_a_file(with_text, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(DadkitError, match=r"computed with transformers, .*`pip install transformers`, or give"):
        empty_prompt(with_text, None, None)


def test_without_a_text_encoder_the_embedding_must_be_a_file(base):
    with pytest.raises(DadkitError, match=r"has no text_encoder and no tokenizer .*embedding: PATH"):
        empty_prompt(base, None, None)


def test_a_text_encoder_that_lacks_weights_is_an_error(with_text):
    file = with_text / "text_encoder" / "model.safetensors"
    state = load_file(file)
    del state[next(name for name in state if name.endswith("final_layer_norm.bias"))]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(DadkitError, match=r"lacks .*final_layer_norm\.bias"):
        empty_prompt(with_text, None, None)


def test_lotus_is_one_folder_and_told_from_the_others(networks, base, lotus, teacher, tmp_path):
    unet, folder = lotus
    model = GenPercept("lotus", space="depth", weights=folder)
    assert equal(model.unet, unet.state_dict())
    assert model.spec.license == LOTUS_LICENSE
    assert model.prompt.shape == (1, 2, 32)
    with pytest.raises(DadkitError, match="has class_embed_type projection; it looks like Lotus: use genpercept/lotus"):
        teacher(base=folder, weights=folder)
    with pytest.raises(DadkitError, match="hf://a/b is no local folder; Lotus is a folder with unet/, vae/"):
        GenPercept("lotus", space="depth", weights="hf://a/b")
    networks[0].save_pretrained(base / "unet")
    with pytest.raises(DadkitError, match="has class_embed_type None; it is no UNet of Lotus"):
        GenPercept("lotus", space="depth", weights=base)
    config = json.loads((base / "unet" / "config.json").read_text())
    (base / "unet" / "config.json").write_text(json.dumps({**config, "in_channels": 8}))
    with pytest.raises(DadkitError, match=r"takes 8 channels and gives 4; .*Lotus-G's, which begin with noise"):
        GenPercept("lotus", space="depth", weights=base)
