"""A frozen model that is too large to lie whole beside the student: each process keeps a part of its weights (torch's FSDP2).

The weights of a block are gathered from all processes just before it runs, and let go of when it has run. So at any time a
process holds its part of the model, what belongs to no block, and the block or two that are running.

Gathering takes all processes at once, while each has its own mind about whom to ask and when: teachers are drawn per image, a
process may have no image of a kind, answers to patches are not wanted of mixed images, rank 0 alone draws samples. So they ask
in rounds (:class:`Rounds`): each says which model it wants to ask, and all run the models that anybody wants, with an empty
image where they want nothing themselves.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dadkit.interfaces import FeatureEncoder, Prediction, Teacher, known_cameras
from dadkit.training.distributed import Ranks
from dadkit.training.soundness import StageError

__all__ = ["Rounds", "ShardedEncoder", "ShardedTeacher", "find_blocks"]

DEVICES = ("cpu", "cuda")
SMALLEST = 1e-3
"""Blocks with a smaller part of a model's weights are not worth messages of their own."""

Model = TypeVar("Model", Teacher, FeatureEncoder, Teacher | FeatureEncoder)


class Rounds:
    """The models of a stage whose weights are spread over the processes, and how these agree on when to run them.

    Args:
        ranks: the processes; several.
        device: this one's.

    Raises:
        StageError: torch cannot do it on such a device.
    """

    def __init__(self, ranks: Ranks, device: torch.device) -> None:
        if device.type not in DEVICES:
            raise StageError(f"shard_teachers works on {' and '.join(DEVICES)}, not on {device.type}; leave it out")
        from torch.distributed.device_mesh import DeviceMesh

        self.ranks, self.device = ranks, device
        self._models: list[nn.Module] = []
        self._turns = max(ranks.gather(int(os.environ.get("LOCAL_WORLD_SIZE", ranks.count))))
        # Their own group: on that of the gradients, processes might send the two kinds in different orders.
        group = dist.new_group(backend="nccl" if device.type == "cuda" else "gloo")
        assert isinstance(group, dist.ProcessGroup)
        self._mesh = DeviceMesh.from_group(group, device.type)

    def load(self, build: Callable[[], Model]) -> Model:
        """Build a model and keep this process's part of it, on the device.

        The processes of a machine take turns, so that its memory holds one whole model at a time, and the device one block.

        Returns:
            What asks the model in rounds; the model itself if there is nothing in it to be spread.
        """
        built: Model | None = None
        for turn in range(self._turns):
            if turn == self.ranks.local:
                built = build()
                if blocks := find_blocks(built):
                    self._spread(built, blocks)
                    self._models.append(built)
            self.ranks.gather(None)
        assert built is not None
        if not self._models or self._models[-1] is not built:
            return built
        ask = self._asking(len(self._models) - 1)
        return cast(Model, ShardedTeacher(built, ask) if isinstance(built, Teacher) else ShardedEncoder(built, ask))

    def check(self) -> None:
        """Refuse a stage in which there is nothing to spread."""
        if not self._models:
            raise StageError(
                "shard_teachers: none of the stage's frozen models is made of repeated blocks, so nothing can be spread; "
                "leave it out"
            )

    def close(self) -> None:
        """Take part in what others still ask, until nobody asks any more. All processes call it."""
        while self._round(None, None)[0]:
            pass

    def _spread(self, model: nn.Module, blocks: list[nn.Module]) -> None:
        from torch.distributed.fsdp import fully_shard

        scalars = {parameter for parameter in model.parameters() if parameter.ndim == 0}  # there is nothing to cut
        for parameter in scalars:
            parameter.data = parameter.data.to(self.device)
        for module in (*blocks, model):
            fully_shard(module, mesh=self._mesh, reshard_after_forward=True, ignored_params=scalars)

    def _asking(self, index: int) -> Callable[[Tensor], object]:
        return lambda images: self._round(index, images)[1]

    def _round(self, index: int | None, images: Tensor | None) -> tuple[bool, object]:
        """Goes through one round. Returns whether anybody asked, and the answer to this process's question if it has one."""
        own: tuple[int, tuple[int, int]] | None = None
        if index is not None and images is not None:
            own = (index, (images.shape[-2], images.shape[-1]))
        asked: dict[int, tuple[int, int]] = {}
        for question in self.ranks.gather(own):
            if question is not None:
                asked.setdefault(question[0], question[1])
        answer = None
        for model in sorted(asked):
            # Not in inference mode, which FSDP2's buffers, kept from one pass to the next, would carry to other places.
            with torch.inference_mode(False), torch.no_grad():
                if model == index and images is not None:
                    answer = self._run(model, images.clone())
                else:
                    self._run(model, torch.zeros(1, 3, *asked[model], device=self.device))
        return bool(asked), answer

    def _run(self, index: int, images: Tensor) -> object:
        model = self._models[index]
        try:
            return model(images)
        except RuntimeError as error:
            if "DTensor" not in str(error):
                raise
            raise StageError(
                f"{cast(Teacher, model).spec.name} uses the weights of its blocks without calling them, so they cannot be "
                f"spread: {str(error).splitlines()[0]}. Leave shard_teachers out"
            ) from error


class ShardedTeacher(Teacher):
    """A teacher whose weights are spread over the processes; ``ask`` gets the whole batch."""

    def __init__(self, model: Teacher, ask: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.model, self.spec, self.fov, self._ask = model, model.spec, model.fov, ask

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Not to be called: weights are gathered around :meth:`forward` only."""
        raise NotImplementedError(f"{self.spec.name} is spread over several processes; call it, in all of them")

    def forward(self, images: Tensor, cameras: Tensor | None = None) -> Prediction:
        """Returns the answer for images (B, 3, H, W) in [0, 1]. Every process calls this, or :meth:`Rounds.close`."""
        if cameras is not None and (self.needs_camera or bool(known_cameras(cameras).any())):
            raise StageError(f"{self.spec.name} takes cameras, and a spread teacher does not yet; leave shard_teachers out")
        return cast(Prediction, self._ask(images))


class ShardedEncoder(FeatureEncoder):
    """A feature encoder whose weights are spread over the processes."""

    def __init__(self, model: FeatureEncoder, ask: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.model, self.spec, self._ask = model, model.spec, ask

    def encode(self, x: Tensor) -> Mapping[str, Tensor]:
        """Not to be called: weights are gathered around :meth:`forward` only."""
        raise NotImplementedError(f"{self.spec.name} is spread over several processes; call it, in all of them")

    def forward(self, images: Tensor) -> Mapping[str, Tensor]:
        """Returns the features for images (B, 3, H, W) in [0, 1]. Every process calls this, or :meth:`Rounds.close`."""
        return cast("Mapping[str, Tensor]", self._ask(images))


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """Returns the innermost modules that follow each other in a list of one type, such as a transformer's blocks.

    That is: two or more of one class in one ``ModuleList`` or ``Sequential``, made of parts themselves, with at least
    :data:`SMALLEST` of the model's weights each.
    """
    least = SMALLEST * _count(model)
    return [block for block in dict.fromkeys(_blocks(model)) if _count(block) >= least]


def _blocks(module: nn.Module) -> list[nn.Module]:
    kinds = Counter(type(child) for child in module.children() if isinstance(module, nn.ModuleList | nn.Sequential))
    found: list[nn.Module] = []
    for child in module.children():
        inner = _blocks(child)
        is_block = kinds[type(child)] > 1 and any(True for _ in child.children()) and _count(child) > 0
        found += inner or ([child] if is_block else [])
    return found


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
