"""Surgery on files: extract, merge, resize, bake, convert, inspect.

Files in, files out: no host, no live model, no GPU. Tensors stream one at a time, deltas are computed in float32,
and an output is written whole or not at all. docs/tools.md says what each tool does and what it costs.
"""
