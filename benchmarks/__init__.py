"""Side by side with what a user would take instead: ``python -m benchmarks.NAME [--json]``."""
