"""Training: the flat loop, optimisers, schedules, checkpoints, run folders and jobs."""
