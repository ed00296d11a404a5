"""plots/study.html: the study's three models, beside its Table I and each other."""

from pathlib import Path
from typing import Any

from redarte.evaluation import comparison
from redarte.evaluation.comparison import Curve, title
from redarte.reporting import pages

_TEMPLATE = Path(__file__).parent / "study.html.j2"


def render(compared: dict[str, Any], fetched: dict[str, Any], verdicts: list[str], histories: dict[str, Curve]) -> str:
    """Returns the page.

    Args:
        histories: model -> its learning curve.
    """
    published = comparison.published(fetched)
    values = {
        "compared": compared,
        "has_published": bool(published),
        "is_sample": fetched["source"] == "sample",
        "described": comparison.describe(fetched),
        "models": [(title(name), published.get(name), compared[name]) for name in histories],
        "curves": [(title(name), pages.curve_chart(curve), published.get(name)) for name, curve in histories.items()],
        "verdicts": verdicts,
    }
    return pages.render(_TEMPLATE, values)
