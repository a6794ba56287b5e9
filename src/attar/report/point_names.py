"""Where the names of a chart's points stand: beside them, over no other name and no other point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from attar.report.axes import clipped

# How wide a letter of a name is, the widest ones a little more; how high a line is, and how far it goes below.
LETTER, LINE, BELOW = 6.8, 13.0, 3.0
# A name begins so far beside its point, whose mark reaches this far.
BESIDE, MARK = 9.0, 6.0
# A name goes to its point's other side before it stands more than so many lines away.
NEAR, FAR = 3, 12

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class PlacedName:
    """A name on paper.

    Attributes:
        x: where it begins, or ends where `anchor` is "end".
        y: of its base line.
        anchor: "start" to the right of its point, "end" to the left.
        text: the name, clipped where there is no room.
    """

    x: float
    y: float
    anchor: str
    text: str

    @property
    def box(self) -> Box:
        """Left, top, right and bottom."""
        wide = LETTER * len(self.text)
        left = self.x if self.anchor == "start" else self.x - wide
        return left, self.y - LINE + BELOW, left + wide, self.y + BELOW

    def away(self, y: float) -> bool:
        """Whether the name stands more than a line from its point, so that a line has to lead to it."""
        return abs(self.y - 4 - y) > LINE


def placed_names(
    points: Sequence[tuple[float, float, str]], across: tuple[float, float], down: tuple[float, float]
) -> list[PlacedName]:
    """The names of points (x, y, name), each on the side with more room, a few lines up or down where others stand.

    Args:
        points: in pixels.
        across: the left and the right end of the paper.
        down: the highest and the lowest base line.

    >>> first, second = placed_names([(50, 90, "one"), (50, 90, "two")], (0, 340), (30, 200))
    >>> (first.x, first.y), (second.x, second.y)
    ((59.0, 94.0), (59.0, 107.0))
    """
    taken: list[Box] = [(x - MARK, y - MARK, x + MARK, y + MARK) for x, y, _ in points]
    found: dict[int, PlacedName] = {}
    for number in sorted(range(len(points)), key=lambda n: points[n][1]):
        places = list(_places(*points[number], across, down))
        free = (one for one in places if not any(_overlap(one.box, box) for box in taken))
        found[number] = next(free, places[0])
        taken.append(found[number].box)
    return [found[number] for number in range(len(points))]


def _places(
    x: float, y: float, name: str, across: tuple[float, float], down: tuple[float, float]
) -> Iterator[PlacedName]:
    """Where a name may stand, the best place first."""
    near = min(max(y + 4, down[0]), down[1])
    right = x < sum(across) / 2
    sides = [_beside(x, name, right, across), _beside(x, name, not right, across)]
    shifts = [sign * line * LINE for line in range(FAR + 1) for sign in ((1, -1) if line else (1,))]
    for anchor, start, text in [sides[0], *(side for side in sides[1:] if side[2] == name)]:
        for shift in shifts[: 2 * NEAR + 1]:
            if down[0] <= near + shift <= down[1]:
                yield PlacedName(start, near + shift, anchor, text)
    anchor, start, text = sides[0]
    for shift in shifts[2 * NEAR + 1 :]:
        if down[0] <= near + shift <= down[1]:
            yield PlacedName(start, near + shift, anchor, text)


def _beside(x: float, name: str, right: bool, across: tuple[float, float]) -> tuple[str, float, str]:
    """Anchor, x, and what of a name has room on one side of a point."""
    room = across[1] - x if right else x - across[0]
    text = clipped(name, max(int((room - BESIDE) / LETTER), 1))
    return ("start", x + BESIDE, text) if right else ("end", x - BESIDE, text)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
