"""Curves as SVG files."""

from pathlib import Path

import pygal  # type: ignore[import-untyped]
from pygal.style import CleanStyle  # type: ignore[import-untyped]

from tests.bench.frame import Curve


def draw(curve: Curve, folder: Path) -> Path:
    """Writes folder/<file>.svg, which needs no script and loads nothing."""
    chart = pygal.XY(
        title=curve.title,
        x_title=curve.x,
        y_title=curve.y,
        js=[],
        disable_xml_declaration=True,
        style=CleanStyle(background="white", plot_background="white"),
        dots_size=1.5,
        include_x_axis=True,
        width=820,
        height=420,
        legend_at_bottom=True,
    )
    for name, points in curve.series.items():
        chart.add(name, list(points))
    path = folder / f"{curve.file}.svg"
    path.write_text(chart.render(is_unicode=True) + "\n")
    return path
