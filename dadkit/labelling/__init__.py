"""Label many images once: a plan, units, records that are created exclusively, workers of several kinds."""

from __future__ import annotations

from dadkit.labelling.labeller import Labeller, commit
from dadkit.labelling.plan import Plan, PlanError, Settings, make_plan, open_plan
from dadkit.labelling.pools import InlinePool, Pool, ProcessPool, RayPool
from dadkit.labelling.schedule import Claims, Outcome, finished_units, label_units
from dadkit.labelling.upkeep import compact, records, sweep, verify

__all__ = [
    "Claims",
    "InlinePool",
    "Labeller",
    "Outcome",
    "Plan",
    "PlanError",
    "Pool",
    "ProcessPool",
    "RayPool",
    "Settings",
    "commit",
    "compact",
    "finished_units",
    "label_units",
    "make_plan",
    "open_plan",
    "records",
    "sweep",
    "verify",
]
