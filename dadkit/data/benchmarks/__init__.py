"""Readers of public datasets in their official layouts and encodings: one small class each.

They register through the same hook as everybody's (``dadkit/plugin/builtins.py``). Nothing is downloaded: a folder that is not
what it should be is an error that says what was looked for and where the dataset can be had.
"""
