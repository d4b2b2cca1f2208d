"""Ask tasks with and without steering: the paper's four, and those of a file."""
