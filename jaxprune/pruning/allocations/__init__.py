"""Allocations of a sparsity over the layers, one file for each family."""
