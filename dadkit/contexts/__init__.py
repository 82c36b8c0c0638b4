"""Context samplers: where student and teacher look in one image.

Boxes only, no pixels; see :class:`dadkit.interfaces.Contexts`. Randomness comes from the given generator alone.
"""

from dadkit.contexts.local_global import LocalGlobal
from dadkit.contexts.shared import Shared
from dadkit.contexts.whole import Whole

__all__ = ["LocalGlobal", "Shared", "Whole"]
