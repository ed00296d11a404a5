"""Sources of images: one package each, with one function.

    fetch_files(settings: params.Fetch, scratch: Path) -> Path

It returns a folder of files, in `scratch` or elsewhere; the stage fetch selects the images in it.
"""
