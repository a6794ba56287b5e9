"""Training: the flat loop, optimisers, schedules, checkpoints and run folders."""
