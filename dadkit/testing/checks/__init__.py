"""The checks themselves, a module a kind; importing this package defines them all."""

from importlib import import_module

ORDER = (
    *(
        "models",
        "encoders",
        "students",
        "normalizers",
        "contexts",
        "losses",
        "terms",
        "hooks",
        "datasets",
        "completers",
        "exporters",
    ),
    *("common", "plugins"),
)
"""Modules of this package, in the order in which their checks are listed."""

for _name in ORDER:
    import_module(f"{__name__}.{_name}")
