"""What the study published, to stand beside what is measured here.

"Redes Neuronales Convolucionales – Una aplicación práctica a obras de arte", J. M. García Criado and
F. M. Hidalgo Aguilar, Universidad de Sevilla: Table I, on 8,446 paintings by 50 artists.
"""

# Accuracy and val accuracy. The study has no test pictures.
TABLE_ONE: dict[str, tuple[float, float]] = {
    "red1": (0.62, 0.38),
    "red2": (0.59, 0.37),
    "red3": (0.49, 0.34),
}

_TITLES = {"red1": "Red 1", "red2": "Red 2", "red3": "Red 3"}


def title(network: str) -> str:
    """A network's name as it stands in texts and figures."""
    return _TITLES.get(network, network.replace("_", " ").capitalize())
