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
_PAGE = Path(__file__).with_suffix(".html")


def install() -> None:
    """Writes the template, and configures DVC in this clone to use it."""
    library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
    outputs.write_text(TEMPLATE, _PAGE.read_text(encoding="utf-8").replace("LIBRARY", library))
    setting = ["plots.html_template", str(TEMPLATE.relative_to(".dvc"))]
    subprocess.run([sys.executable, "-m", "dvc", "config", "--local", *setting], check=True)
