"""Eigenvalues, traces and spectral densities of the curvature matrices."""
