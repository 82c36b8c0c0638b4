"""Evaluation under named protocols: alignment, metrics, intervals, tables, pictures."""

from dadkit.evaluation.evaluate import Evaluation, evaluate
from dadkit.evaluation.intervals import Tally, bootstrap_mean, compare
from dadkit.evaluation.metrics import METRICS
from dadkit.evaluation.plan import EvaluationPlan, ProtocolError, load_protocol, protocol_names
from dadkit.evaluation.protocol import Protocol
from dadkit.evaluation.run import evaluate_run, write_results

__all__ = [
    "METRICS",
    "Evaluation",
    "EvaluationPlan",
    "Protocol",
    "ProtocolError",
    "Tally",
    "bootstrap_mean",
    "compare",
    "evaluate",
    "evaluate_run",
    "load_protocol",
    "protocol_names",
    "write_results",
]
