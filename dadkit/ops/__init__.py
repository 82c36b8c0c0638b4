"""Operators behind the losses: the pure-PyTorch reference, and the choice between it and the fused ones of ``csrc/``."""

from dadkit.ops.dispatch import Backend, choose, preferred, reads_half, resolve

__all__ = ["Backend", "choose", "preferred", "reads_half", "resolve"]
