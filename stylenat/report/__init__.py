"""Records → tables → figures. Nothing here imports torch, so that these steps start in a moment."""
