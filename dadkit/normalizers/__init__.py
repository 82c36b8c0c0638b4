"""The built-in normalizers, and losses through any normalizer."""

from dadkit.normalizers.generic import local_global, map_loss
from dadkit.normalizers.hybrid import Global, Hybrid, Local
from dadkit.normalizers.identity import Identity

__all__ = ["Global", "Hybrid", "Identity", "Local", "local_global", "map_loss"]
