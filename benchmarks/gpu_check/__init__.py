"""One command that says what a GPU makes of this project: ``make gpu-check``."""
