"""Find the heads of a model that make it follow emphasis (Algorithm 1 of the paper)."""
