"""Training: the flat loop, optimisers, schedules, checkpoints, logs."""
