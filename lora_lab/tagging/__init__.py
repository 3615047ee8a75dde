"""Tagging pictures with WD taggers. Import the module you need; this package imports none of them."""
