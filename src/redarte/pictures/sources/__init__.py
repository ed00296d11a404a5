"""Where pictures come from: one module a source, each with one function.

    tree(settings: params.Fetch, scratch: Path) -> Path

It gives a folder of files, in `scratch` or elsewhere; `fetch` sorts out what is in it.
"""
