"""What keeps a run honest: non-finite values, invariants, locks, signals."""
