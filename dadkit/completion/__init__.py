"""Completers that come with dadkit: dense metres from a depth model's map and sparse points."""
