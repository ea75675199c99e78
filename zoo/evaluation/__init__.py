"""Figures that can be trusted: what systems are worth on a data set, and how they compare."""
