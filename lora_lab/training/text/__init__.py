"""Captions on their way to the UNet: tokens, brackets, states, caches."""
