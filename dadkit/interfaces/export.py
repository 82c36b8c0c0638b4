"""A model in another program's layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["Export"]


@dataclass(frozen=True, eq=False)
class Export:
    """What :meth:`dadkit.interfaces.DepthModel.export` answers.

    Attributes:
        tensors: name in the other program -> tensor.
        files: name -> text of the files that belong beside the weights (``config.json``, …). With them the result is a
            folder, without them a single file.
        notes: what a user of the result must know, a sentence each: where its answers differ, what has to be given by hand.
        usage: Python that loads the result, for its card; ``{path}`` is replaced by its path.
    """

    tensors: Mapping[str, Tensor]
    files: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    usage: str = ""
