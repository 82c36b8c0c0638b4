"""How much light reaches each point: shadows and ambient occlusion, by blocks of neighbouring points.

``BLOCK`` consecutive points are a small patch of surface. For each block only the solids that can matter are tried, chosen by
coarse tests of all blocks against all solids; the surviving pairs are then computed together, however many solids there are.
The coarse tests are conservative: they save time and change no picture.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dadkit_procedural.geometry import interval, signed_distance
from dadkit_procedural.scene import Kind, Light, Primitives

__all__ = ["BLOCK", "Blocks"]

BLOCK = 64
_PAIRS = 256  # pairs a round: 16,384 points, so that a round's arrays stay in the cache
Rows = NDArray[np.float32]
Index = NDArray[np.intp]


class Blocks:
    """n points (n a multiple of ``BLOCK``), a little off their surfaces, ready for visibility questions.

    Args:
        primitives: the solids.
        position, normal: (3, n) float32.
        pixel: (n,) metres that a pixel covers.
    """

    def __init__(self, primitives: Primitives, position: Rows, normal: Rows, pixel: Rows) -> None:
        self.kinds = primitives.kind
        self.casts = primitives.casts
        self.normal = normal.reshape(3, -1, BLOCK)
        self.pixel = pixel.reshape(-1, BLOCK)
        self.points = (position + normal * (np.float32(1e-3) + np.float32(0.02) * pixel)).reshape(3, -1, BLOCK)
        self.rotation = primitives.rotation.astype(np.float32)
        self.turn = np.ascontiguousarray(self.rotation.transpose(2, 0, 1))  # (3, K, 3): world to local, by local axis
        self.at = primitives.centre.astype(np.float32)
        self.half = primitives.half.astype(np.float32)
        extent = self.half.copy()
        cones = primitives.kind == Kind.CONE
        extent[cones, 0] = extent[cones, 1] = self.half[cones, :2].max(axis=1)
        self.extent = extent.T[..., None]  # (3, K, 1): half sides of the bounding boxes
        self.centre, self.local, self.spread = self._bounds(self.points)
        self.ahead = self._ahead()

    def shadow(self, light: Light, facing: Rows) -> Rows:
        """(n,) share of the light that arrives, 0 in full shadow; blocks whose cosine ``facing`` is negative are skipped."""
        vector = np.array(light.vector, dtype=np.float32)
        lit = facing.reshape(-1, BLOCK).max(axis=1) > 0
        possible = self._between(vector, light.is_sun) & self.ahead & lit & self.casts[:, None]
        share = np.ones(self.points.shape[1:], dtype=np.float32)
        for kind, solid, block in self._pairs(possible):
            local = self._local(self.points[:, block], solid)
            aim = vector if light.is_sun else vector - self.at[solid]
            aimed = [(self.turn[i, solid] * aim).sum(axis=1)[:, None] for i in range(3)]
            direction = aimed if light.is_sun else [aimed[i] - local[i] for i in range(3)]
            half = self.half[solid].T[..., None]
            enter, leave = interval(kind, local, direction, half)
            enter = np.maximum(enter, 0)
            inside = (leave if light.is_sun else np.minimum(leave, 1)) - enter
            if not light.is_sun:  # from shares of the way to metres
                length = np.sqrt(direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2)
                enter, inside = enter * length, inside * length
            thickness = 1.2 * self.half[solid].min(axis=1)[:, None]
            penumbra = np.minimum(light.softness * enter + self.pixel[block], thickness)
            self._darken(share, block, np.clip(1 - inside / penumbra, 0, 1))
        return share.reshape(-1)

    def openness(self, reach: float, strength: float = 0.75) -> Rows:
        """(n,) how open the surroundings are: 1 in the open, small in corners and under things, by one probe at ``reach``."""
        share = np.ones(self.points.shape[1:], dtype=np.float32)
        probes = self.points + np.float32(reach) * self.normal
        _, local, spread = self._bounds(probes)
        near = signed_distance(Kind.BOX, local, self.extent + spread) < reach
        for kind, solid, block in self._pairs(near & self.ahead):
            half = self.half[solid].T[..., None]
            gap = signed_distance(kind, self._local(probes[:, block], solid), half)
            cover = np.clip(1 - gap * np.float32(1 / reach), 0, 1)
            self._darken(share, block, 1 - np.float32(strength) * cover * cover)
        return share.reshape(-1)

    def _bounds(self, points: Rows) -> tuple[Rows, Rows, Rows]:
        """Bounding boxes of blocks: centres (3, blocks); in each solid's frame, centres and half sides (3, K, blocks)."""
        low, high = points.min(axis=2), points.max(axis=2)
        centre = 0.5 * (low + high)
        local = _turned(self.turn, centre) - (self.turn * self.at).sum(axis=2)[..., None]
        return centre, local, _turned(np.abs(self.turn), 0.5 * (high - low))

    def _ahead(self) -> NDArray[np.bool_]:
        """(K, blocks): False where the block is flat and the solid lies wholly behind its plane, so that it can hide nothing.

        That is most pairs that are close: a wall's own points, its neighbours in the plane, the floor under a rug.
        """
        normal = self.normal[:, :, 0]
        offset = self.points - self.points[:, :, :1]
        above = normal[0, :, None] * offset[0] + normal[1, :, None] * offset[1] + normal[2, :, None] * offset[2]
        bent = (np.abs(above).max(axis=1) > 2e-3) | (np.abs(self.normal - self.normal[:, :, :1]).max(axis=(0, 2)) > 0.01)
        aligned = _turned(self.turn, normal)
        highest = (np.abs(aligned) * self.extent - aligned * self.local).sum(axis=0)  # of the solid, above the plane
        return (highest > 2e-3) | bent

    def _between(self, vector: Rows, is_sun: bool) -> NDArray[np.bool_]:
        """(K, blocks): whether a solid's bounding box can lie between a block and the light at or along ``vector``."""
        if is_sun:
            direction = np.broadcast_to((self.turn * vector).sum(axis=2)[..., None], self.local.shape)
        else:
            direction = _turned(self.turn, vector[:, None] - self.centre)
        near, far = interval(Kind.BOX, self.local, direction, self.extent + self.spread)
        possible = (near <= far) & (far > 0) & (near < (np.inf if is_sun else 1.0))
        # Block and light on one side of the solid: nothing of it lies between them.
        aside = self.extent + self.spread
        end = self.local + direction
        above, below = (direction >= 0, direction <= 0) if is_sun else (end > self.extent, end < -self.extent)
        return possible & ~((self.local > aside) & above).any(axis=0) & ~((self.local < -aside) & below).any(axis=0)

    def _pairs(self, possible: NDArray[np.bool_]) -> Iterator[tuple[Kind, Index, Index]]:
        """The possible (solid, block) pairs, one kind at a time, in rounds that fit the cache; blocks ascend within a round."""
        for kind in Kind:
            which = np.flatnonzero(self.kinds == kind)
            block, solid = np.nonzero(possible[which].T)
            for start in range(0, len(block), _PAIRS):
                yield kind, which[solid[start : start + _PAIRS]], block[start : start + _PAIRS]

    def _local(self, points: Rows, solid: Index) -> list[Rows]:
        """Points (3, P, BLOCK), which are overwritten, in the frames of their solids (P,)."""
        points -= self.at[solid].T[..., None]
        x, y, z = points
        rows = []
        for i in range(3):
            a, b, c = self.turn[i, solid].T[..., None]
            value = a * x
            value += b * y
            value += c * z
            rows.append(value)
        return rows

    @staticmethod
    def _darken(share: Rows, block: Index, factor: Rows) -> None:
        """Multiply each block's share by the factors of all its pairs."""
        starts = np.flatnonzero(np.concatenate([[True], block[1:] != block[:-1]]))
        share[block[starts]] *= np.multiply.reduceat(factor, starts, axis=0).astype(np.float32, copy=False)


def _turned(turn: Rows, vectors: Rows) -> Rows:
    """Vectors (3, B) in each solid's axes: (3, K, B). Written out: a threaded matrix product would take the trainer's cores."""
    result = turn[:, :, 0, None] * vectors[0]
    result += turn[:, :, 1, None] * vectors[1]
    result += turn[:, :, 2, None] * vectors[2]
    return result
