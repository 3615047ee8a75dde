"""Pictures, captions, buckets, latents. Knows nothing of models but "encode these pixels"."""
