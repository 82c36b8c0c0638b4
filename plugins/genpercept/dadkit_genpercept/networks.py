"""UNet, VAE and DPT head, built from a configuration and filled from files, wholly or not at all.

The head is own code after Ranftl et al., Vision Transformers for Dense Prediction (ICCV 2021), with the parameter names of the
released files, which are transformers'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit.weights import WeightsError, assemble, compile_rules, load_strict, read_weights
from dadkit_genpercept.architecture import ARCHITECTURES, TASK
from dadkit_genpercept.files import decoder_files, head_file, network_config, unet_file, vae_file

__all__ = [
    "DPTHead",
    "build_head",
    "build_unet",
    "build_vae",
    "unet_names",
    "vae_names",
]


_HIDDEN = 32


class Upsample(nn.Module):
    """Each pixel doubled, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, 2h, 2w)."""
        answer: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return answer


class ResidualUnit(nn.Module):
    """``x + convolution2(relu(convolution1(relu(x))))``, without biases."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.convolution2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        y: Tensor = self.convolution2(F.relu(self.convolution1(F.relu(x))))
        return x + y


class FusionLayer(nn.Module):
    """Adds a finer map to the coarse one, refines, and doubles the size. The coarsest layer has nothing to add."""

    def __init__(self, channels: int, *, takes_skip: bool) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, channels, 1)
        if takes_skip:
            self.residual_layer1 = ResidualUnit(channels)
        self.residual_layer2 = ResidualUnit(channels)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """(B, C, h, w), and a map of the same shape or None -> (B, C, 2h, 2w)."""
        if skip is not None:
            x = x + self.residual_layer1(skip)
        # The official code doubles first. A 1x1 convolution commutes with that, and here touches a quarter of the pixels.
        x = self.projection(self.residual_layer2(x))
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


class FusionStage(nn.Module):
    """From coarse to fine."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FusionLayer(channels, takes_skip=index > 0) for index in range(count))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps from fine to coarse, each (B, C, …) of twice the next one's size -> (B, C, …) of twice the finest's size."""
        coarsest, *finer = reversed(maps)
        x: Tensor = self.layers[0](coarsest, None)
        for layer, skip in zip(self.layers[1:], finer, strict=True):
            x = layer(x, skip)
        return x


class Neck(nn.Module):
    """Brings all maps to one number of channels and fuses them."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, width, 3, padding=1, bias=False) for c in channels)
        self.fusion_stage = FusionStage(width, len(channels))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps from fine to coarse -> (B, width, …) of twice the finest's size."""
        answer: Tensor = self.fusion_stage([conv(x) for conv, x in zip(self.convs, maps, strict=True)])
        return answer


class Output(nn.Module):
    """Convolutions to one map of twice the size, without a last activation (their "identity" head)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Sequential(
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(width // 2, _HIDDEN, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_HIDDEN, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> (B, 1, 2h, 2w)."""
        answer: Tensor = self.head(F.relu(self.projection(x)))
        return answer


class DPTHead(nn.Module):
    """The UNet's four up-block maps to one unbounded map at the size of the network's input.

    Args:
        channels: of the maps from fine to coarse.
        width: channels of the fusion path.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.feature_upsample_0 = Upsample(channels[0])
        self.neck = Neck(channels, width)
        self.head = Output(width)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Four maps from fine to coarse, at strides 8, 8, 16, 32 of an input (64 h, 64 w) -> (B, 1, 64 h, 64 w)."""
        finest, *others = maps
        answer: Tensor = self.head(self.neck([self.feature_upsample_0(finest), *others]))  # strides 4, 8, 16, 32
        return answer


# From the names in released files to those of today's diffusers.
_WITHOUT_OUTPUT = compile_rules({r"(conv_norm_out|conv_out)\..+": None})
# The attention of files from before diffusers 0.17.
_OLD_ATTENTION = compile_rules(
    {
        rf"(.+\.attentions\.\d+)\.{old}\.(weight|bias)": rf"\1.{new}.\2"
        for old, new in {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}.items()
    }
)


def build_unet(architecture: str, base: Path | None, weights: str | Path | None, *, variant: str) -> UNet2DConditionModel:
    """Returns the UNet, from the configuration in ``base`` if that is given; under a DPT head without its last two layers."""
    task = TASK if variant == "lotus" else {}
    config = {**ARCHITECTURES[architecture].unet, **task} if base is None else network_config(base, "unet")
    unet = UNet2DConditionModel.from_config(dict(config))
    if (unet.config.in_channels, unet.config.out_channels) != (4, 4):
        raise WeightsError(
            f"genpercept/{variant}: the UNet in {base} takes {unet.config.in_channels} channels and gives "
            f"{unet.config.out_channels}; GenPercept's and Lotus-D's take and give 4 (Marigold's and Lotus-G's, which begin "
            "with noise, take 8)"
        )
    found = unet.config.class_embed_type
    if found != task.get("class_embed_type"):
        raise WeightsError(
            f"genpercept/{variant}: the UNet in {base} has class_embed_type {found}; "
            + ("it is no UNet of Lotus" if task else "it looks like Lotus: use genpercept/lotus")
        )
    if variant == "dpt":
        unet.conv_norm_out = None
        unet.conv_out = nn.Identity()
    if weights is not None:
        file = unet_file(weights)
        state = unet_names(_read(file, variant), variant=variant)
        load_strict(unet, state, source=file, hint=_unet_hint(state, variant))
    return unet


def build_vae(architecture: str, base: Path | None, weights: str | Path | None, *, variant: str) -> AutoencoderKL:
    """Returns the VAE with the weights in ``base``, or those of a fine-tuned decoder in ``weights``. A DPT head needs no
    decoder.
    """
    config = ARCHITECTURES[architecture].vae if base is None else network_config(base, "vae")
    vae = AutoencoderKL.from_config(dict(config))
    if base is not None:
        file = vae_file(base)
        load_strict(
            vae,
            vae_names(_read(file, variant)),
            source=file,
            hint=f"For genpercept/{variant}, base must be Stable Diffusion 2.1.",
        )
    if variant == "dpt":
        vae.decoder = None
        vae.post_quant_conv = None
    elif variant == "vae" and weights is not None and (files := decoder_files(weights)) is not None:
        load_strict(vae.decoder, vae_names(_read(files.decoder, variant)), source=files.decoder)
        load_strict(vae.post_quant_conv, _read(files.post_quant_conv, variant), source=files.post_quant_conv)
    return vae


def build_head(architecture: str, unet: UNet2DConditionModel, weights: str | Path | None, head: str | Path | None) -> DPTHead:
    """Returns the DPT head on the UNet's up blocks."""
    module = DPTHead(tuple(unet.config.block_out_channels), ARCHITECTURES[architecture].head_width)
    if weights is not None:
        file = head_file(weights, head)
        load_strict(module, _read(file, "dpt"), source=file, hint="It is not a head of genpercept/dpt for this UNet.")
    return module


def _read(file: str | Path, variant: str) -> dict[str, Tensor]:
    try:
        return read_weights(file)
    except WeightsError as error:
        raise WeightsError(f"genpercept/{variant}: {error}") from error


def _unet_hint(state: Mapping[str, Tensor], variant: str) -> str:
    first = state.get("conv_in.weight")
    if first is None:
        return "It does not look like a UNet of diffusers."
    if first.ndim == 4 and first.shape[1] == 8:
        return "It looks like Marigold's UNet, which takes 8 channels; that of genpercept/… takes 4."
    if variant == "vae" and "conv_out.weight" not in state:
        return "It has no output layer, so it belongs to a DPT head: use genpercept/dpt."
    return f"It is a UNet of diffusers, but genpercept/{variant} needs one of the configuration in base, unet/config.json."


def unet_names(state: Mapping[str, Tensor], *, variant: str) -> dict[str, Tensor]:
    """Returns a UNet file's names. Under a DPT head its last norm and convolution take no part, and are dropped if they are
    there.
    """
    return assemble(state, _WITHOUT_OUTPUT if variant == "dpt" else [])


def vae_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a VAE file's names, with the attention of old files renamed."""
    return assemble(state, _OLD_ATTENTION)
