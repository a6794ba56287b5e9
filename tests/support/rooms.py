"""The rooms of the house, and which may import which: the one table that the tests and the README's drawing follow."""

from __future__ import annotations

# Files at the top that every room may import; they import only each other, and from below.
LEAVES = (
    "errors", "batch", "schedules", "registry", "choices", "plugins", "files", "records", "extras", "decoding",
    "yaml_text", "sizes",
)  # fmt: skip

# Each room with what it may import besides the leaves. A room stands below all rooms that import it.
ROOMS: dict[str, tuple[str, ...]] = {
    "knowledge": (),
    "recipe": ("recipes",),
    "recipes": (),
    "track": (),
    "losses": (),
    "data": (),
    "models": ("knowledge", "data"),
    "metrics": ("knowledge", "losses"),
    "profiling": ("models", "metrics"),
    "tasks": ("losses", "data", "metrics", "recipe"),
    "methods": ("knowledge", "losses", "models", "tasks"),
    "conformance": ("knowledge", "tasks", "methods", "models"),
    "accel": ("knowledge", "losses", "methods"),
    "safety": ("knowledge", "losses", "methods", "accel"),
    "distributed": ("knowledge", "losses", "data", "models", "methods", "accel", "safety"),
    "teachers": ("recipe", "knowledge", "data", "models", "methods", "accel", "safety", "distributed"),
    "train": (
        "recipe", "knowledge", "losses", "data", "metrics", "tasks", "methods", "accel", "safety", "distributed",
        "teachers",
    ),
    "deploy": ("losses", "data", "models", "metrics", "profiling", "tasks", "methods"),
    "report": ("recipe", "knowledge", "data", "models", "metrics", "profiling", "methods", "deploy"),
}  # fmt: skip
ROOMS["experiments"] = tuple(ROOMS)
ROOMS["api"] = tuple(ROOMS)
ROOMS["cli"] = tuple(ROOMS)
ROOMS["__main__"] = ("cli",)

# What stands in each box of the drawing; rooms that are not named here are left out of it.
DRAWN = {
    "experiments": "jobs, suites, parallel runs",
    "report": "tables, drawings, HTML",
    "deploy": "formats, parity, model card",
    "train": "the flat loop, checkpoints",
    "teachers": "engines, 8 bits, cached logits",
    "distributed": "torch.distributed",
    "safety": "non-finite values, invariants, locks",
    "accel": "precision, compiled steps",
    "conformance": "what every method is held by",
    "methods": "one file a paper, registry",
    "tasks": "what is learnt: supervise, imitate",
    "models": "zoo, libraries, surgery",
    "data": "sources, transforms, loading",
    "profiling": "cost, choosing a student",
    "metrics": "accuracy, calibration, fidelity",
    "losses": "pure functions",
    "knowledge": "Knowledge, Transfer, graph",
}


def below(room: str) -> set[str]:
    """Every room that a room reaches through what it imports."""
    reached: set[str] = set()
    for one in ROOMS[room]:
        reached |= {one} | below(one)
    return reached


def mermaid() -> str:
    """The drawing: an arrow where one room imports another and no room between them does."""
    lines = ["graph TD", *(f'    {room}["{room}: {text}"]' for room, text in DRAWN.items())]
    for room in DRAWN:
        direct = [one for one in ROOMS[room] if one in DRAWN]
        between = set().union(*(below(one) for one in direct))
        lines += [f"    {room} --> {one}" for one in direct if one not in between]
    return "\n".join(lines)


if __name__ == "__main__":
    print(mermaid())
