"""Whether a released file is what its name says: SHA-256 sums that the name itself or its publisher states."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

__all__ = ["RELEASED", "checksum_problem"]

RELEASED: Mapping[str, str] = MappingProxyType(
    {
        # Depth Anything V2, as the Hugging Face hub records the files.
        "depth_anything_v2_vits.pth": "715fade13be8f229f8a70cc02066f656f2423a59effd0579197bbf57860e1378",
        "depth_anything_v2_vitb.pth": "0d2b7002e62d39d655571c371333340bd88f67ab95050c03591555aa05645328",
        "depth_anything_v2_vitl.pth": "a7ea19fa0ed99244e67b624c72b8580b7e9553043245905be58796a608eb9345",
        "depth_anything_v2_metric_hypersim_vits.pth": "b782898d8a3e8be1f639de33837ed85e9b4b73e40f8f5e5cd99067588d722545",
        "depth_anything_v2_metric_hypersim_vitb.pth": "9dc9e274c5eff55c6daf27b660c0ced0eca4e8593a6da90cdcb04d2b4d3f3fa2",
        "depth_anything_v2_metric_hypersim_vitl.pth": "6f82ff2bc543ac02ddff4aa31fa363676a8305dd3ccf04e80e2af115a044cb6d",
        "depth_anything_v2_metric_vkitti_vits.pth": "9203e538d35255c90dda4b7fedb47ff33fe725497bcca3b1e53b3a65ee63f0cb",
        "depth_anything_v2_metric_vkitti_vitb.pth": "4dad67a7cc10b462bca48e6b8569c762b8eb3c1adada170a3851a6d3ba37bb3e",
        "depth_anything_v2_metric_vkitti_vitl.pth": "239b1054a369e66da2576e9a118d6d7c12d90dc8ebe609579a9a09cd8e05fe38",
        # Depth Anything V1.
        "depth_anything_vits14.pth": "59afe57cfd9f4284deaf5b753d954723d7136ae842fba3e068ba03537ca1e60e",
        "depth_anything_vitb14.pth": "64ae214ae4e27424b644c49464c0aa243016f6f753d95097c8eb9ad0b9cb2d9b",
        "depth_anything_vitl14.pth": "6c6a383e33e51c5fdfbf31e7ebcda943973a9e6a1cbef1564afe58d7f2e8fe63",
        # DINOv2.
        "dinov2_vits14_pretrain.pth": "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
        "dinov2_vitb14_pretrain.pth": "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
        "dinov2_vitl14_pretrain.pth": "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
        "dinov2_vitg14_pretrain.pth": "baf8467e50af277596bbbafa06887c177ee899ab46033649c383577d7e9309d3",
        # MiDaS: its older names end in the first eight digits.
        "dpt_large_384.pt": "2f21e586477d90cb9624c7eef5df7891edca49a1c4795ee2cb631fd4daa6ca69",
        "midas_v21_small_256.pt": "70d6b9c891758c67f974a6097fb0c608c7ee67fb81ac3e5588847d5596d56fca",
    }
)
"""Name of a released file -> its SHA-256."""

# dpt_large-midas-2f21e586.pt: the way of torch.hub. Eight digits that are a date are a date.
_IN_NAME = re.compile(r"-(?!(?:19|20)\d{6}\.)([0-9a-f]{8,64})\.(?:pth|pt|safetensors|bin)$")


def checksum_problem(file: Path) -> str | None:
    """What is wrong with a file whose SHA-256 its name, or its publisher, states; None = nothing, or no checksum is stated.

    Only files of such names are read for it.
    """
    known = RELEASED.get(file.name)
    in_name = _IN_NAME.search(file.name)
    wanted = known or (in_name[1] if in_name else None)
    if wanted is None:
        return None
    with file.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found.startswith(wanted):
        return None
    states = "the released file of that name has" if known else "its name says"
    return (
        f"{file} has the SHA-256 {found[:16]}…, and {states} {wanted[:16]}{'…' if len(wanted) > 16 else ''}: a damaged or "
        "incomplete download, or other weights under that name. Download it again; if it is your own, give it another name"
    )
