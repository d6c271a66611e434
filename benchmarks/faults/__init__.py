"""Training bugs as users make them, and their healthy twins, on four kinds of model."""
