"""The guide as data and rules: starting points with reasons, rules, arithmetic, words. No torch, no gradio.

Its facts come from "Stable Diffusion LoRA training science and notes" (the Other LoRA Rentry Guy, state of 18 August
2023); what later practice has improved says so, with its source. Everything here takes and gives plain values.
"""
