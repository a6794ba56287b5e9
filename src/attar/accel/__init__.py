"""Optional speed, correct without it: precision, compiled steps, fused norms, packed convolutions, memory, threads."""
