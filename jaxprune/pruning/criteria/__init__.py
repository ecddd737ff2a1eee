"""Pruning criteria, one file for each family."""
