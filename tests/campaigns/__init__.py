"""Long attacks on what docs/promises.md promises.

Each module is a campaign: `prepared(place)` has what it attacks, made in an empty folder, and `attack(target, seed)`
makes one attack, drawn from its seed. It raises an AssertionError where a promise does not hold, and otherwise counts
what happened. `make test` runs a few attacks of each (tests/test_campaigns.py); `python -m tests.campaigns` runs as
many as one likes.
"""
