"""Small pictures in SVG: bars and curves on a logarithmic scale. They follow the reader's light or dark theme."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from bench.figures import brief, short

# Hues that can be told apart in both themes; the first is ours.
_HUES = ("#2f7fd6", "#d9822b", "#8a63d2", "#3f9d63", "#c4485a", "#7a8694", "#1f9ea8")
_STYLE = """
  .bg { fill: #ffffff } .ink { fill: #1f2328 } .dim { fill: #59636e }
  .grid { stroke: #d1d9e0 } .axis { stroke: #818b98 }
  @media (prefers-color-scheme: dark) {
    .bg { fill: #0d1117 } .ink { fill: #f0f6fc } .dim { fill: #9198a1 }
    .grid { stroke: #30363d } .axis { stroke: #656c76 }
  }
  text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
  .title { font-size: 17px; font-weight: 600 } .head { font-size: 13px; font-weight: 600 } .small { font-size: 10.5px }
  .grid, .axis { stroke-width: 1; fill: none }
"""


@dataclass(frozen=True, slots=True)
class Box:
    """Where a panel stands, with its title."""

    x: float
    y: float
    width: float
    height: float


@dataclass(slots=True)
class Canvas:
    """A picture under construction."""

    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, said: str, style: str = "ink", anchor: str = "start") -> None:
        """Writes a line of text; `y` is its baseline."""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{escape(said)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str = "grid") -> None:
        """Draws a thin line."""
        self.parts.append(f'<path class="{style}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>')

    def bar(self, x: float, y: float, width: float, height: float, hue: str, said: str) -> None:
        """Draws a bar that tells its figure to a pointer."""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{max(height, 1):.1f}" rx="1.5" fill="{hue}">'
            f"<title>{escape(said)}</title></rect>"
        )

    def curve(self, points: Sequence[tuple[float, float]], hue: str) -> None:
        """Joins points, each with a dot."""
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path d="M{path}" fill="none" stroke="{hue}" stroke-width="2"/>')
        self.parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{hue}"/>' for x, y in points]

    def render(self) -> str:
        """The whole picture."""
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img" aria-label="{escape(self.title)}">\n<style>{_STYLE}</style>\n'
            f'<rect class="bg" width="{self.width}" height="{self.height}" rx="6"/>\n{body}\n</svg>\n'
        )


def hue(number: int) -> str:
    """The colour of the n-th series."""
    return _HUES[number % len(_HUES)]


@dataclass(frozen=True, slots=True)
class Scale:
    """A logarithmic scale from whole decades to places on the picture."""

    low: int
    high: int
    start: float
    end: float

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float) -> "Scale":
        """The scale whose decades hold all values that are above zero."""
        logs = [math.log10(value) for value in values if value > 0]
        low = math.floor(min(logs, default=0))
        return cls(low, max(math.ceil(max(logs, default=1)), low + 1), start, end)

    def at(self, value: float) -> float:
        """The place of a value; what is below the scale is at its start."""
        share = (math.log10(value) - self.low) / (self.high - self.low) if value > 0 else 0.0
        return self.start + max(share, 0.0) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """The decades."""
        return [10.0**power for power in range(self.low, self.high + 1)]


Series = dict[str, list[float | None]]


def legend(canvas: Canvas, x: float, y: float, names: Sequence[str], *, first_hue: int = 0) -> None:
    """Names the series in their colours, side by side."""
    for number, name in enumerate(names, first_hue):
        canvas.bar(x, y - 9, 10, 10, hue(number), name)
        canvas.text(x + 15, y, name)
        x += 34 + 7.0 * len(name)


def bars(canvas: Canvas, box: Box, title: str, groups: Sequence[str], series: Series) -> None:
    """Groups of bars, one of each series, on a logarithmic scale, each with its figure. None leaves a gap."""
    top, bottom, left = box.y + 34, box.y + box.height - 20, box.x + 34
    canvas.text(box.x, box.y + 12, title, "head ink")
    known = [value for row in series.values() for value in row if value]
    if not known:
        canvas.text(box.x + box.width / 2, (top + bottom) / 2, "not measured", "dim", "middle")
        return
    scale = Scale.over([*known, min(known) / 1.5], bottom, top)
    _grid(canvas, scale, left, box.x + box.width)
    each = (box.x + box.width - left) / len(groups)
    wide = min(each * 0.92 / len(series), 44)
    for place, group in enumerate(groups):
        middle = left + each * (place + 0.5)
        canvas.text(middle, bottom + 15, group, "dim", "middle")
        for number, (name, row) in enumerate(series.items()):
            value = row[place]
            if not value:
                continue
            x = middle + (number - len(series) / 2) * wide
            y = scale.at(value)
            canvas.bar(x + 1, y, wide - 2, bottom - y, hue(number), f"{name}, {group}: {short(value)}")
            canvas.text(x + wide / 2, y - 4, brief(value), "small ink", "middle")


def curves(
    canvas: Canvas,
    box: Box,
    title: str,
    along: Sequence[float],
    series: Series,
    *,
    first_hue: int = 0,
    said: Callable[[float], str] = short,
) -> None:
    """Curves over a logarithmic scale both ways, each point with its figure. None leaves a point out."""
    top, bottom, left, right = box.y + 34, box.y + box.height - 20, box.x + 34, box.x + box.width - 18
    canvas.text(box.x, box.y + 12, title, "head ink")
    known = [value for row in series.values() for value in row if value]
    if not known or not along:
        canvas.text(box.x + box.width / 2, (top + bottom) / 2, "not measured", "dim", "middle")
        return
    across, up = Scale.over(along, left + 10, right), Scale.over([*known, min(known) / 1.5], bottom, top)
    # Not whole decades: the points shall fill the width.
    low, high = math.log10(min(along)), math.log10(max(along))
    _grid(canvas, up, left, box.x + box.width)

    def place(value: float) -> float:
        share = (math.log10(value) - low) / (high - low) if high > low else 0.5
        return across.start + share * (across.end - across.start)

    for value in along:
        canvas.text(place(value), bottom + 15, said(value), "dim", "middle")
    for number, (name, row) in enumerate(series.items(), first_hue):
        points = [(place(x), up.at(y), y) for x, y in zip(along, row, strict=True) if y]
        canvas.curve([(x, y) for x, y, _ in points], hue(number))
        for x, y, value in points:
            canvas.text(x, y - 7, short(value), "small ink", "middle")
        if len(series) > 1 and points:
            x, y, _ = points[0]
            canvas.text(x, y + 15, name, "small dim")


def _grid(canvas: Canvas, scale: Scale, left: float, right: float) -> None:
    for tick in scale.ticks():
        y = scale.at(tick)
        canvas.line(left, y, right, y, "axis" if tick == scale.ticks()[0] else "grid")
        canvas.text(left - 5, y + 4, short(tick), "small dim", "end")
