"""What a loaded Stable Diffusion must offer, and the two places that offer it.

`base` is the boundary; `webui` (the running webui) and `standalone` (a checkpoint file) implement it.
"""
