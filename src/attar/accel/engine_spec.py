"""The engine chosen for a frozen network, as a value that is written into the run and read back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from attar.errors import AttarError

Kind = Literal["plain", "folded", "compiled", "int8"]
# How runs of earlier versions wrote that an engine ends at its last tap.
CUT = ", cut"


@dataclass(frozen=True)
class EngineSpec:
    """How a frozen network is computed.

    Attributes:
        kind: "plain": the network itself, in the caller's precision; "folded": batch norms folded into convolutions;
            "compiled": folded, and through torch.compile; "int8": 8-bit weights and activations.
        dtype: "float32" or "bfloat16" for folded and compiled; "" for the others.
        cut: whether a staged network ends at the last tap that is asked for, without logits.

    >>> print(EngineSpec("folded", "bfloat16", cut=True))
    folded bfloat16, cut
    >>> EngineSpec.from_json(EngineSpec("int8").to_json()) == EngineSpec("int8")
    True
    """

    kind: Kind = "plain"
    dtype: str = ""
    cut: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.dtype}".strip() + CUT * self.cut

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any] | str) -> EngineSpec:
        """What `to_json` wrote, or the text that earlier versions wrote ("folded bfloat16, cut").

        Raises:
            AttarError: the record is of another version.
        """
        if isinstance(record, str):
            kind, _, dtype = record.removesuffix(CUT).partition(" ")
            record = {"kind": kind, "dtype": dtype, "cut": record.endswith(CUT)}
        if (
            not isinstance(record, dict)
            or record.keys() != {"kind", "dtype", "cut"}
            or record["kind"] not in get_args(Kind)
            or record["dtype"] not in ("", "float32", "bfloat16")
            or not isinstance(record["cut"], bool)
        ):
            raise AttarError(
                f"environment.json names an engine of the teacher that this version lacks ({record}); delete it to "
                "choose again"
            )
        return cls(**record)


PLAIN, INT8 = EngineSpec("plain"), EngineSpec("int8")
