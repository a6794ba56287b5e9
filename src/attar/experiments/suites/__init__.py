"""Suites of runs: their cells, the queue, tables while they run, search and clusters."""
