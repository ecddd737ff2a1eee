"""Gradients, curvature products, Taylor terms, and gradients of single examples."""
