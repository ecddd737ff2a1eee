"""Structures of pruning, one file for each."""
