"""Charts as inline SVG: drawn in Python, coloured by the page's style sheet, labelled for all.

Every chart is ``role="img"`` with a title and a description in words; the numbers stand in a table
beside it. No inline style (the page's content policy forbids it): classes and attributes only.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from auditor.report.series import (
    Chart,
    Confusion,
    Curve,
    GraphPath,
    PerClass,
    Scatter,
    Series,
    Table,
)
from auditor.report.text import number, percent, visible

WIDTH = 460
HEIGHT = 290
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 14, 46
COLOURS = 10
"""Classes ``c0`` to ``c9`` in the style sheet."""


def draw(chart: Chart, title: str, highlight: frozenset[int]) -> Markup:
    """`chart` as SVG. `highlight` are the suspected target classes."""
    if isinstance(chart, Curve):
        return curve(chart, title)
    if isinstance(chart, Confusion):
        return confusion(chart, title)
    if isinstance(chart, Scatter):
        return scatter(chart, title, highlight)
    if isinstance(chart, GraphPath):
        return graph_path(chart, title)
    if isinstance(chart, Table):
        return Markup("")
    return bars(chart, title, highlight)


def curve(chart: Curve, title: str) -> Markup:
    """Accuracy against strength, with the interval as a band and one dash pattern a series."""
    xs = [x for s in chart.series for x, *_ in s.points]
    low, high = min(xs), max(xs)
    room = WIDTH - LEFT - RIGHT

    def px(x: float) -> float:
        return LEFT + room * ((x - low) / (high - low) if high > low else 0.5)

    parts = [_y_axis(1.0, as_percent=True)]
    ticks = [low + (high - low) * i / 4 for i in range(5)] if high > low else [low]
    parts += [_x_label(px(x), number(round(x, 4))) for x in ticks]
    parts.append(_caption("attack strength", "accuracy"))
    for index, series in enumerate(chart.series):
        tone = f"c{index % COLOURS}"
        upper = [f"{px(x):.1f},{_py(h):.1f}" for x, _, _, h in series.points]
        lower = [f"{px(x):.1f},{_py(lo):.1f}" for x, _, lo, _ in reversed(series.points)]
        line = " ".join(f"{px(x):.1f},{_py(y):.1f}" for x, y, *_ in series.points)
        parts.append(f'<polygon class="band {tone}" points="{" ".join(upper + lower)}"/>')
        parts.append(f'<polyline class="line {tone} dash{index % 4}" points="{line}"/>')
        if len(series.points) == 1:
            parts.append(
                f'<line class="line {tone}" x1="{px(low):.1f}" x2="{px(low):.1f}" '
                f'y1="{_py(series.points[0][2]):.1f}" y2="{_py(series.points[0][3]):.1f}"/>'
            )
        parts += [
            f'<circle class="dot {tone}" cx="{px(x):.1f}" cy="{_py(y):.1f}" r="3.5"/>'
            for x, y, *_ in series.points
        ]
    words = "; ".join(_curve_words(s) for s in chart.series)
    return _svg(title, words, parts, HEIGHT)


def _curve_words(series: Series) -> str:
    first, last = series.points[0], series.points[-1]
    return (
        f"{visible(series.name, 60)}: accuracy {percent(first[1])} at {number(first[0])}, "
        f"{percent(last[1])} at {number(last[0])}"
    )


def bars(chart: PerClass, title: str, highlight: frozenset[int]) -> Markup:
    """One group a class, one bar for the first numeric column besides the class itself."""
    column, label = bar_column(chart), class_column(chart)
    if column is None:
        return Markup("")
    values = [float(row[column]) if _real(row[column]) else 0.0 for row in chart.rows]
    top = 1.0 if all(0 <= v <= 1 for v in values) else _round_up(max(*values, 1e-9))
    share = top == 1.0
    step = (WIDTH - LEFT - RIGHT) / len(values)
    parts = [_y_axis(top, as_percent=share)]
    every = -(-len(values) // 20)
    for index, value in enumerate(values):
        name = chart.rows[index][label] if label is not None else index
        hot = isinstance(name, int) and name in highlight
        x, y = LEFT + step * (index + 0.14), _py(max(0.0, min(value / top, 1.0)))
        tone = "hot" if hot else "c0"
        parts.append(
            f'<rect class="bar {tone}" x="{x:.1f}" y="{y:.1f}" width="{step * 0.72:.1f}" '
            f'height="{_py(0) - y:.1f}"/>'
        )
        if index % every == 0 or hot:
            parts.append(_x_label(x + step * 0.36, visible(str(name), 9)))
    parts.append(_caption("class", visible(chart.columns[column], 40)))
    largest = max(range(len(values)), key=values.__getitem__)
    named = chart.rows[largest][label] if label is not None else largest
    words = f"{len(values)} classes; largest {number(values[largest])} at class {named}"
    return _svg(title, words, parts, HEIGHT)


def bar_column(chart: PerClass) -> int | None:
    """The column to draw: the first that is numeric and not the class or a count."""
    for index, name in enumerate(chart.columns):
        plain = name.lower() not in ("class", "label", "count", "samples", "n")
        if plain and any(_real(row[index]) for row in chart.rows):
            return index
    return None


def class_column(chart: PerClass) -> int | None:
    """The column that names the class."""
    names = [name.lower() for name in chart.columns]
    return next((names.index(word) for word in ("class", "label") if word in names), None)


def scatter(chart: Scatter, title: str, highlight: frozenset[int]) -> Markup:
    """Points by class; suspected target classes drawn last, larger and ringed."""
    xs, ys = [p[0] for p in chart.points], [p[1] for p in chart.points]
    x0, y0 = min(xs), min(ys)
    w, h = (max(xs) - x0) or 1.0, (max(ys) - y0) or 1.0
    parts = [f'<rect class="frame" x="8" y="8" width="{WIDTH - 16}" height="{HEIGHT - 16}"/>']
    ordered = sorted(chart.points, key=lambda p: p[2] in highlight)
    for x, y, label in ordered:
        px, py = 20 + (x - x0) / w * (WIDTH - 40), HEIGHT - 20 - (y - y0) / h * (HEIGHT - 40)
        hot = label in highlight
        tone = f"c{label % COLOURS}" + (" ring" if hot else "")
        radius = 4.2 if hot else 2.8
        parts.append(f'<circle class="dot {tone}" cx="{px:.1f}" cy="{py:.1f}" r="{radius}"/>')
    labels = {p[2] for p in chart.points}
    words = f"{len(chart.points)} activations of {len(labels)} classes in two dimensions"
    return _svg(title, words, parts, HEIGHT)


def confusion(chart: Confusion, title: str) -> Markup:
    """Rows are true classes, columns predictions; colour by share of the row."""
    count = len(chart.rows)
    left, top = 40, 34
    cell = (WIDTH - left - 8) / count
    parts: list[str] = []
    for i, row in enumerate(chart.rows):
        total = sum(row) or 1.0
        middle = top + cell * (i + 0.5)
        if count <= 30:
            parts.append(
                f'<text class="tick" x="{left - 8}" y="{middle + 4:.1f}" '
                f'text-anchor="end">{i}</text>'
            )
            parts.append(
                f'<text class="tick" x="{left + cell * (i + 0.5):.1f}" y="{top - 8}" '
                f'text-anchor="middle">{i}</text>'
            )
        for j, value in enumerate(row):
            share = value / total
            tone = "good" if i == j else "bad"
            x, y = left + cell * j, top + cell * i
            parts.append(
                f'<rect class="cell {tone}" x="{x:.1f}" y="{y:.1f}" width="{cell:.1f}" '
                f'height="{cell:.1f}" fill-opacity="{0.04 + 0.9 * max(0.0, min(share, 1.0)):.2f}"/>'
            )
            if count <= 16 and value:
                ink = "value strong" if share > 0.5 else "value"
                parts.append(
                    f'<text class="{ink}" x="{x + cell / 2:.1f}" y="{middle + 4:.1f}" '
                    f'text-anchor="middle">{number(int(value))}</text>'
                )
    bottom = top + cell * count
    parts.append(f'<text class="axis" x="{left}" y="{top - 22}">predicted class</text>')
    parts.append(
        f'<text class="axis" transform="rotate(-90 12 {bottom:.0f})" x="12" y="{bottom:.0f}">'
        "true class</text>"
    )
    right = sum(row[i] for i, row in enumerate(chart.rows))
    everything = sum(map(sum, chart.rows)) or 1.0
    words = f"{count} classes; {percent(right / everything)} on the diagonal"
    return _svg(title, words, parts, int(bottom + 10))


def graph_path(chart: GraphPath, title: str) -> Markup:
    """Nodes from top to bottom with arrows between."""
    parts: list[str] = []
    for index, (operator, name) in enumerate(chart.nodes):
        y = 8 + index * 56
        if index:
            parts.append(
                f'<path class="arrow" d="M230 {y - 20} V{y - 3} M225 {y - 9} L230 {y - 3} '
                f'L235 {y - 9}"/>'
            )
        parts.append(f'<rect class="node" x="60" y="{y}" width="340" height="36" rx="8"/>')
        parts.append(
            f'<text class="node-op" x="230" y="{y + 15}" text-anchor="middle">'
            f"{escape(visible(operator, 30))}</text>"
            f'<text class="tick" x="230" y="{y + 30}" text-anchor="middle">'
            f"{escape(visible(name, 48))}</text>"
        )
    words = " to ".join(visible(operator, 30) for operator, _ in chart.nodes)
    return _svg(title, words, parts, 8 + len(chart.nodes) * 56)


def _svg(title: str, words: str, parts: Sequence[str], height: int) -> Markup:
    label = escape(f"{visible(title)}. {words}")
    body = "".join(parts)
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{body}</svg>'
    )


def _py(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _y_axis(top: float, *, as_percent: bool) -> str:
    parts = []
    for i in range(5):
        y = _py(i / 4)
        text = f"{25 * i} %" if as_percent else number(round(top * i / 4, 3))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 7}" y="{y + 4}" text-anchor="end">{text}</text>'
        )
    return "".join(parts)


def _x_label(x: float, text: str) -> str:
    return (
        f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">'
        f"{escape(text)}</text>"
    )


def _caption(x: str, y: str) -> str:
    return (
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" '
        f'text-anchor="middle">{escape(x)}</text>'
        f'<text class="axis" transform="rotate(-90 11 {HEIGHT / 2 - 10})" x="11" '
        f'y="{HEIGHT / 2 - 10}" text-anchor="middle">{escape(y)}</text>'
    )


def _round_up(value: float) -> float:
    scale = 10.0 ** (len(str(int(value))) - 1) if value >= 1 else 1.0
    for step in (1, 2, 4, 5, 8, 10):
        if value <= step * scale:
            return step * scale
    return value


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
