"""Networks taken apart and put together: stages, taps, adapters, branches, re-parameterisation."""
