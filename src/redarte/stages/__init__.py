"""One module a DVC stage: load params, read inputs, call two or three functions, write outputs."""
