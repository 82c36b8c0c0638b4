"""``python -m dadkit``."""

from dadkit.cli import main

if __name__ == "__main__":
    main()
