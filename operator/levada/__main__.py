"""`levada`, and `python -m levada`: the command line, which can be ended while it is still being loaded."""

from __future__ import annotations

from levada import ending


def main() -> None:
    """Run the command line. A signal that ends it before there is anything to end leaves no traceback."""
    ending.at_once()
    from levada.cli import app

    app()


if __name__ == "__main__":
    main()
