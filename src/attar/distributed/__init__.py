"""One training in several processes: the team, gathered batches, sharded teachers, the pre-flight check."""
