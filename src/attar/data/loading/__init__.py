"""From image sets to batches: splits, loaders, streaming."""
