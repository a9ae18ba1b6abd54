"""Frozen values that all other parts share; they import none of them."""
