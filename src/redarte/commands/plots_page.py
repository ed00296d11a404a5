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
<meta name="color-scheme" content="light dark">
<style>
:root { --ink: #1b2530; --paper: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ebef; --paper: #14191e; } }
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 1300px; padding: 0 1rem; color: var(--ink);
       background: var(--paper); }
h1 { font-size: 1.6rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; text-align: left; }
/* Charts and figures have dark text: they stay on white. Wide charts scroll. */
img, .vega-embed { background: white; border-radius: 6px; }
img { max-width: 100%; height: auto; }
.vega-embed { padding: .6rem; box-sizing: border-box; max-width: 100%; overflow-x: auto; color: #1b2530; }
/* DVC puts a figure's revisions on one line that is wider than the page: here they share the width. */
div[style*="nowrap"] { display: flex; flex-wrap: wrap; gap: 8px; border: 0 !important; text-align: left !important; }
div[style*="nowrap"] > h2 { flex: 1 0 100%; }
div[style*="inline-block"] { flex: 0 1 auto; min-width: 0; max-width: 100%; margin: 0 !important;
       border: 0 !important; }
div[style*="inline-block"] > p { margin: 0 0 .2rem; }
@media (max-width: 600px) {
  div[style*="inline-block"] { overflow-x: auto !important; } img { max-width: none; width: 600px; }
}
div[style*="inline-block"]:not(:last-child), div[style*="inline-block"] ~ div { flex: 1 1 240px; }
</style>
</head>
<body>
<h1>redarte: plots</h1>
{plot_divs}
<script>
// DVC heads a figure with the name of its file, and a single figure with "workspace".
const headings = {
  table_one: "Beside the study's Table I", curves: "Learning curves", confusion: "Confusion matrix",
  recall: "Recall of each artist", confused_pairs: "Most confused pairs of artists",
  mistakes: "Most confident mistakes", copies: "Augmented copies of one image",
};
for (const [name, text] of Object.entries(headings)) {
  const figure = document.getElementById(`plots_${name}_png`);
  if (!figure) continue;
  const heading = document.createElement("h2");
  heading.textContent = text;
  figure.querySelector("p").replaceWith(heading);
  const revisions = figure.querySelectorAll("div > p");
  if (revisions.length === 1) revisions[0].remove();
  document.body.append(figure);
}
</script>
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
