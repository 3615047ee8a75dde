"""LoRA Lab: train, tag and test LoRAs on the Stable Diffusion checkpoint that is already loaded."""

__version__ = "0.1.0"
