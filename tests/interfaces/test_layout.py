"""Networks that say `channels_last`: their maps lie so on a CPU, and what they learn from is right."""

import pytest
import torch

import dadkit

NAMES = ["midas/tiny-conv", "topformer/tiny", "starter/tiny", "zipdepth/small", "tcmono/small", "timm/mobilenetv4-conv-small"]


def gradient(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    depth = model(images).depth
    (depth * torch.linspace(0, 1, depth.numel(), dtype=depth.dtype).view_as(depth)).mean().backward()
    return torch.cat([parameter.grad.flatten().double() for parameter in model.parameters() if parameter.grad is not None])


@pytest.mark.parametrize("name", NAMES)
def test_the_channels_of_a_pixel_lie_together_and_the_gradient_is_that_of_double_precision(name):
    torch.manual_seed(0)
    model = dadkit.load_student(name, weights="none").eval()  # statistics of a batch would magnify rounding
    images = torch.rand(2, 3, 64, 96)
    seen = []

    def look(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        seen.append(given[0].is_contiguous(memory_format=torch.channels_last))

    hooks = [
        module.register_forward_pre_hook(look)
        for module in model.modules()
        if isinstance(module, torch.nn.Conv2d) and module.groups == module.in_channels > 1
    ]
    found = gradient(model, images)
    assert sum(seen) > len(seen) / 2  # the last ones may follow a view or a map of one channel
    for hook in hooks:
        hook.remove()
    assert torch.equal(gradient(model, images), found)  # to the bit, whatever the threads do
    true = gradient(model.double(), images.double())
    assert float((found - true).norm() / true.norm()) < 1e-3
    model.channels_last = False
    assert float((gradient(model, images.double()) - true).norm() / true.norm()) < 1e-10
