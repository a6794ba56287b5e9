"""What methods share: options of edges, pairs of stages, rules for several teachers, matrices of who teaches whom."""
