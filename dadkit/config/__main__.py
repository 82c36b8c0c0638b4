"""``python -m dadkit.config PAGE...``: write the table of keys in documentation pages anew, from the schema."""

from __future__ import annotations

import sys
from pathlib import Path

from dadkit.config.reference import renew

for page in map(Path, sys.argv[1:]):
    page.write_text(renew(page.read_text(encoding="utf-8")), encoding="utf-8")
