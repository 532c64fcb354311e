"""Functions that several experiments use."""
