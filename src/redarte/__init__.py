"""redarte tells painters apart: a DVC pipeline around three small convolutional models."""
