"""Checks that look at the pixels and the captions of a dataset. They name; nothing is ever deleted or moved by them."""
