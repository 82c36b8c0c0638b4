"""Evaluation under named protocols: alignment, metrics, intervals, tables, pictures."""

from dadkit.evaluation.evaluate import Evaluation, evaluate
from dadkit.evaluation.intervals import Tally, bootstrap_mean, compare
from dadkit.evaluation.library import ProtocolError, load_protocol, protocol_names
from dadkit.evaluation.metrics import METRICS, depth_metrics
from dadkit.evaluation.protocol import Protocol
from dadkit.evaluation.results import write_results
from dadkit.evaluation.run import evaluate_run

__all__ = [
    "METRICS",
    "Evaluation",
    "Protocol",
    "ProtocolError",
    "Tally",
    "bootstrap_mean",
    "compare",
    "depth_metrics",
    "evaluate",
    "evaluate_run",
    "load_protocol",
    "protocol_names",
    "write_results",
]
