"""The record of an engine: written as a plain dict, and those of earlier versions are read."""

import pytest

from attar.accel.engine_spec import INT8, PLAIN, EngineSpec
from attar.errors import AttarError

SPECS = [
    PLAIN,
    INT8,
    EngineSpec("folded", "float32"),
    EngineSpec("compiled", "bfloat16"),
    EngineSpec("folded", "bfloat16", cut=True),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_what_is_written_is_read(spec):
    assert EngineSpec.from_json(spec.to_json()) == spec
    assert EngineSpec.from_json(str(spec)) == spec  # as earlier versions wrote it


def test_names_are_those_of_the_log():
    assert [str(spec) for spec in SPECS] == [
        "plain",
        "int8",
        "folded float32",
        "compiled bfloat16",
        "folded bfloat16, cut",
    ]


@pytest.mark.parametrize("record", ["sparse float32", {"kind": "folded"}, {"kind": "magic", "dtype": "", "cut": False}])
def test_a_record_of_another_version_is_refused(record):
    with pytest.raises(AttarError, match="an engine of the teacher that this version lacks"):
        EngineSpec.from_json(record)
