"""Which build this is: all of it Python, or the hot path as machine code (scripts/build_hook.py)."""

from typing import Final

BUILD: Final = "pure" if __file__.endswith(".py") else "compiled"
"""This module is compiled with the hot path."""
