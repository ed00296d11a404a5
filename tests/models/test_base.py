"""How stages find a model by its name."""

from collections.abc import Callable

import pytest

from redarte.models import base
from redarte.params import Params
from redarte.runtime.errors import UserError


@pytest.mark.parametrize("arguments", [[], ["red9"], ["red1", "red2"], ["fisher"]])
def test_a_stage_takes_the_name_of_one_trained_model(settings: Callable[..., Params], arguments: list[str]) -> None:
    assert base.name_argument("train", ["red2"], settings()) == "red2"
    with pytest.raises(UserError, match="train takes the name of one model: red1, red2, red3"):
        base.name_argument("train", arguments, settings())
