"""A tiny Stable Diffusion folder and GenPercept checkpoints in the released layouts, with random weights."""

from __future__ import annotations

import json

import pytest
import torch
from dadkit_genpercept.architecture import ARCHITECTURES, TASK
from dadkit_genpercept.model import GenPercept
from safetensors.torch import save_file
from torch import nn

torch.set_num_threads(1)

_WORDS = ["!", "a", "<|startoftext|>", "<|endoftext|>"]


@pytest.fixture
def randomise():
    """``randomise(module, seed)``: every parameter random and alive: matrices by fan-in, all others near their usual values."""

    def make(module: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                if parameter.ndim > 1:
                    parameter.copy_(noise * (1.5 / parameter[0].numel()) ** 0.5)
                else:
                    parameter.add_(0.2 * noise)
        return module

    return make


@pytest.fixture
def networks(randomise):
    """(UNet, VAE) of diffusers, tiny, in eval mode."""
    diffusers = pytest.importorskip("diffusers")
    tiny = ARCHITECTURES["tiny"]
    unet = randomise(diffusers.UNet2DConditionModel.from_config(dict(tiny.unet)), 1).eval()
    return unet, randomise(diffusers.AutoencoderKL.from_config(dict(tiny.vae)), 2).eval()


@pytest.fixture
def base(tmp_path, networks):
    """A folder like Stable Diffusion's: VAE with weights, UNet without, text encoder and tokenizer."""
    unet, vae = networks
    folder = tmp_path / "sd"
    vae.save_pretrained(folder / "vae")
    unet.save_config(folder / "unet")
    return folder


@pytest.fixture
def with_text(base):
    """The same folder with a text encoder and a tokenizer."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(4)
    config = transformers.CLIPTextConfig(
        vocab_size=len(_WORDS),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    transformers.CLIPTextModel(config).save_pretrained(base / "text_encoder")
    (base / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(_WORDS)}))
    (base / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(
        vocab=str(base / "vocab.json"), merges=str(base / "merges.txt"), pad_token="!", model_max_length=77
    )
    tokenizer.save_pretrained(base / "tokenizer")
    return base


@pytest.fixture
def embedding(tmp_path):
    """A file with a padded embedding of the empty prompt, (77, 32) in half precision, as GenPercept's first version has it."""
    import numpy as np

    path = tmp_path / "empty_text_embed.npy"
    np.save(path, np.random.default_rng(0).normal(size=(77, 32)).astype(np.float16))
    return path


@pytest.fixture
def unet_folder(tmp_path, networks):
    """``genpercept-models/unet_disparity_v2`` with the UNet's weights."""
    folder = tmp_path / "models" / "unet_disparity_v2"
    folder.mkdir(parents=True)
    save_file(networks[0].state_dict(), folder / "diffusion_pytorch_model.safetensors")
    return folder


@pytest.fixture
def teacher(base, unet_folder, embedding):
    """``teacher("vae", **options)``: GenPercept from these files."""

    def make(variant: str = "vae", **options: object) -> GenPercept:
        given = {"space": "disparity", "base": base, "weights": unet_folder, "embedding": embedding}
        return GenPercept(variant, architecture="tiny", **{**given, **options})

    return make


@pytest.fixture
def lotus(networks, randomise, with_text, tmp_path):
    """A Lotus-D model in the released layout: (its UNet, its folder)."""
    unet = type(networks[0]).from_config({**ARCHITECTURES["tiny"].unet, **TASK})
    randomise(unet, 5).eval().save_pretrained(with_text / "unet")
    return unet, with_text


@pytest.fixture
def head_state(randomise):
    """The state dict of a tiny DPT head."""
    from dadkit_genpercept.networks import DPTHead

    tiny = ARCHITECTURES["tiny"]
    return randomise(DPTHead(tiny.unet["block_out_channels"], tiny.head_width), 3).state_dict()


@pytest.fixture
def head_file(unet_folder, head_state):
    """The DPT head where the released layout has it: beside the UNet's folder."""
    path = unet_folder.parent / "dpt_head_identity" / "model.safetensors"
    path.parent.mkdir()
    save_file(head_state, path)
    return path


@pytest.fixture
def images():
    """(2, 3, 64, 128) in [0, 1]."""
    return torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(0))
