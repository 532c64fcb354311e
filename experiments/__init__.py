"""Experiments: `python -m experiments.<name>`, flags from the dataclass in each file."""
