"""Evaluation under named protocols: alignment, metrics, tables, the run's report."""

from dadkit.evaluation.evaluate import Evaluation, evaluate, write_results
from dadkit.evaluation.metrics import METRICS, depth_metrics
from dadkit.evaluation.protocol import Protocol, load_protocol, protocol_names
from dadkit.evaluation.run import evaluate_run

__all__ = [
    "METRICS",
    "Evaluation",
    "Protocol",
    "depth_metrics",
    "evaluate",
    "evaluate_run",
    "load_protocol",
    "protocol_names",
    "write_results",
]
