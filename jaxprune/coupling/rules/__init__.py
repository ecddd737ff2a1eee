"""Rules of operations: linking axes, following zeros, evaluation after a cut."""
