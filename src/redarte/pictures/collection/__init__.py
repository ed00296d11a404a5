"""From a tree of files that nobody has checked to the paintings of each artist: `collection.collect`, from the top.

files lists a tree, layout says whose each file is, checks whether it is a picture.
"""
