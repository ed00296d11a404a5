"""YAML as DVC reads it: version 1.2, of which PyYAML knows 1.1."""

import re
from collections import Counter
from collections.abc import Hashable
from typing import Any

import yaml

from redarte.runtime.errors import printable


class InvalidYAMLError(ValueError):
    """A text is not YAML."""


def load(text: str) -> Any:
    """Reads one document.

    Raises:
        InvalidYAMLError: the text is not YAML, or gives a key twice.
        RecursionError: it is nested too deep.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, KeyError, AttributeError) as error:
        # Of a value that is not what its explicit tag (!!int) says, PyYAML raises what Python raises.
        raise InvalidYAMLError(str(error)) from None


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key given twice and takes for numbers what DVC takes for them.

    DVC reads and writes YAML 1.2. PyYAML follows YAML 1.1, where 010 is eight, 1:30 is ninety, `on` is true and 1e-05
    is a text. Here a number is decimal, and what the two would read differently is a text, which no parameter that is a
    number takes.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, times in keys.items():
            if times > 1:
                raise yaml.MarkedYAMLError(problem=f"{printable(key)} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


_PLAIN = {
    "null": (r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "bool": (r"^(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    "int": (r"^[-+]?(0|[1-9][0-9]{0,99})$", list("-+0123456789")),
    "float": (
        r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$",
        list("-+.0123456789"),
    ),
    "merge": (r"^<<$", ["<"]),
}
_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(_pattern), _first)
