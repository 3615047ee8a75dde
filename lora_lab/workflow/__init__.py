"""What spans rooms: one folder to a tested LoRA, and other ways of working."""
