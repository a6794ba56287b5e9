"""Every option of every method: a value of its type trains for three epochs, or is refused in one line."""

import inspect
import typing
from typing import Literal, get_args, get_origin

import pytest

from attar.conformance.probe import check_learning
from attar.errors import AttarError
from attar.methods import create_method, method_info
from attar.models import create_model
from sweeps import installed_methods

NUMBERS = {int: (0, 1, 2), float: (0.0, 0.5, 2.0)}


def variants(name):
    """{option: another value} of a method, one option at a time."""
    start = method_info(name).cls.__init__
    hints, found = typing.get_type_hints(start), []
    for key, parameter in inspect.signature(start).parameters.items():
        default = parameter.default
        if parameter.kind != parameter.KEYWORD_ONLY:
            continue
        values = [
            value
            for hint in (hints[key], *get_args(hints[key]))
            if get_origin(hint) is Literal
            for value in get_args(hint)
        ]
        values += [not default] if isinstance(default, bool) else NUMBERS.get(type(default), ())
        found += [{key: value} for value in dict.fromkeys(values) if value != default]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", installed_methods())
def test_other_values_train_or_are_refused(tiny, name):
    for options in variants(name):
        refused = ""
        try:
            one = tiny(name, options, epochs=3)
            check_learning(one.method, next(iter(one.loader.epoch(0))))
            one.fit()
        except AttarError as error:
            refused = str(error)
        assert "\n" not in refused, options
        state = {} if refused else one.state
        assert all(value.isfinite().all() for value in state.values()), options


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("atsc", "factor"),
        ("catkd", "cells"),
        ("cc", "width"),
        ("crd", "negatives"),
        ("crd", "width"),
        ("norm", "copies"),
        ("pefd", "projectors"),
        ("redundancy", "expansion"),
        ("reviewkd", "width"),
        ("scalekd", "heads"),
        ("semckd", "batch_size"),
        ("simkd", "factor"),
    ],
)
def test_nothing_is_no_number_of_things(name, option):
    nets = {role: create_model("resnet8", num_classes=4) for role in ("teacher", "student")}
    for count in (0, -1):
        with pytest.raises(AttarError, match=rf"{option}.* {count}\b"):
            create_method(name, **nets, **{option: count})
