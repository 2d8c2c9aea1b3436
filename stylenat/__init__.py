"""StyleNAT (arXiv 2211.05770) reproduced: networks, training, sampling and evaluation."""

__version__ = "0.1.0"
