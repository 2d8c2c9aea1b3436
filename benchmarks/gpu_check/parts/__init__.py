"""The parts of the check: modules with a ``run(check)``."""
