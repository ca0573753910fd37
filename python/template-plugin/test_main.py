"""Tests of {{name}}: `pytest` in this folder."""

import pytest
from consort.plugin import PluginError
from consort.plugin.testing import invoke

from main import plugin


def test_greet() -> None:
    """The output is a JSON value, as its caller gets it."""
    outcome = invoke(plugin, "greet", {"who": "Ada", "times": 2})
    assert outcome.output == {"text": "Hello, Ada! Hello, Ada!", "times": 2}
    assert outcome.progress[-1] == (1.0, "said it 2 times")


def test_nobody_cannot_be_greeted() -> None:
    """An error names the field."""
    with pytest.raises(PluginError) as caught:
        invoke(plugin, "greet", {"who": " "})
    assert list(caught.value.violations) == ["who"]
