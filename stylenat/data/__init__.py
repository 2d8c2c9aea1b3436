"""Data sets: where images come from, one-file LMDBs of them, and batches for training."""
