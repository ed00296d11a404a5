"""The page of `dvc plots show` with the plotting library included, so that it works without internet.

DVC's page loads Vega from a CDN and is blank without it. The wheel of vl-convert-python contains the same library; it
is written into a page template, which .dvc/config.local names. Neither file is committed: together they would add a
megabyte of third-party code.
"""

import subprocess
import sys
from pathlib import Path

import vl_convert

from redarte.runtime import outputs

TEMPLATE = Path(".dvc/tmp/plots_page.html")
# DVC replaces {plot_divs} by the plots, and {refresh_tag} by a tag for `dvc plots show --refresh`.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>redarte: plots</title>
{refresh_tag}
<script>LIBRARY</script>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 1300px; padding: 0 1rem; }
img { max-width: 100%; height: auto; }
/* DVC puts a figure's revisions on one line that is wider than the page: here they share the width. */
div[style*="nowrap"] { display: flex; flex-wrap: wrap; gap: 8px; border: 0 !important; margin-top: 2rem; }
div[style*="nowrap"] > p { flex: 1 0 100%; font-weight: 600; margin: 0; }
div[style*="inline-block"] { flex: 0 1 auto; min-width: 0; max-width: 100%; margin: 0 !important; }
div[style*="inline-block"]:not(:last-child), div[style*="inline-block"] ~ div { flex: 1 1 0; }
</style>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def install() -> None:
    """Writes the template, and configures DVC in this clone to use it."""
    library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
    outputs.write_text(TEMPLATE, _PAGE.replace("LIBRARY", library))
    command = [
        sys.executable,
        "-m",
        "dvc",
        "config",
        "--local",
        "plots.html_template",
        str(TEMPLATE.relative_to(".dvc")),
    ]
    subprocess.run(command, check=True)
