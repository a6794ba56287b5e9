"""File formats of a deployed network."""
