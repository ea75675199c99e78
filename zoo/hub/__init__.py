"""Releases and the world: weights that their authors published."""
