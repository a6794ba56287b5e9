"""Frozen teachers, fast: engines, eight bits, engine selection, cached logits."""
