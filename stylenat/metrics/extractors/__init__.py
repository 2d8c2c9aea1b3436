"""Feature networks: uint8 images in, feature vectors out."""
