"""How estimates are measured: BSS Eval and the protocols built on it. Pure functions."""
