"""Data sources, a file for each."""
