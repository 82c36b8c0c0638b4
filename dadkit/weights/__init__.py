"""Reading weight files, renaming what is in them, and loading them whole or not at all. For the authors of model plugins.

A checkpoint that fits only partly is the most expensive mistake of this field: the model runs, and its numbers are wrong.
So there is no ``strict=False`` here: what may be missing is named by the caller, and everything else is an error.
"""

from dadkit.errors import WeightsError
from dadkit.weights.families import Family, recognise
from dadkit.weights.reading import WeightFile, read_config, read_file, read_weights
from dadkit.weights.renaming import Place, Rule, assemble, compile_rules, locate
from dadkit.weights.sources import checksum_problem, find_file, note_file
from dadkit.weights.strict import Fit, load_family, load_strict

__all__ = [
    "Family",
    "Fit",
    "Place",
    "Rule",
    "WeightFile",
    "WeightsError",
    "assemble",
    "checksum_problem",
    "compile_rules",
    "find_file",
    "load_family",
    "load_strict",
    "locate",
    "note_file",
    "read_config",
    "read_file",
    "read_weights",
    "recognise",
]
