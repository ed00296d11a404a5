"""Long attacks on the guarantees of docs/guarantees.md.

Each module is a campaign: `prepared(folder)` creates the target in an empty folder, and `attack(target, seed)` runs one
random attack. An attack raises an AssertionError if a guarantee is broken, and otherwise counts the outcomes.
`make test` runs a few attacks of each (test_campaigns.py); `python -m campaigns` runs more.
"""
