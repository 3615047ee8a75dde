"""Adapters on a live model: which layers take a piece, what the pieces compute, and their files."""
