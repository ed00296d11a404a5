"""redarte recognises the artists of paintings: a DVC pipeline around three small convolutional neural networks."""
