"""Tests of a LoRA on generated previews: grids of block weights, influence, strengths, snapshots, diagnosis."""
