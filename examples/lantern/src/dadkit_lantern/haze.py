"""Depth from haze (He, Sun and Tang, Single Image Haze Removal Using Dark Channel Prior, CVPR 2009)."""

from torch.nn import functional as F

from dadkit.interfaces import ModelSpec, SizePolicy, Space, Teacher


class Haze(Teacher):
    """In clear air some colour channel is dark in every small patch; what brightness it has there comes from haze.

    Args:
        patch: side of the patches in pixels, an odd number.
        smoothing: side of the window that evens out the patches, an odd number.
    """

    def __init__(self, patch: int = 7, smoothing: int = 9):
        super().__init__()
        self.patch, self.smoothing = patch, smoothing
        self.spec = ModelSpec(
            name="lantern-haze",
            space=Space.DEPTH,              # affine-invariant depth: larger is farther
            native=SizePolicy(size=None),   # predict() runs at the image's own size
            mean=(0, 0, 0),                 # it wants colours as they are
            std=(1, 1, 1),
            license="MIT",
        )

    def estimate(self, x):
        # x: (B, 3, h, w) in [0, 1]
        dark = -F.max_pool2d(-x.amin(dim=1, keepdim=True), self.patch, stride=1, padding=self.patch // 2)
        clear = (1 - 0.95 * dark.clamp(max=1)).clamp(min=0.02)            # the share of light that comes through
        depth = -clear.log()                                              # Beer and Lambert
        window = self.smoothing
        even = F.avg_pool2d(F.pad(depth, [window // 2] * 4, mode="replicate"), window, stride=1)
        return even, {}                                                   # (B, 1, h, w), and no feature taps
