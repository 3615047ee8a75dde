"""What updates the weights: optimizers, schedules, groups, number formats."""
