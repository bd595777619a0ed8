"""The drill over time as an SVG: a band for each contestant, its callers as bars by what became of them."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from .drill import SCRIPT

if TYPE_CHECKING:
    from .drill import Asked, Outcome

WIDE, BAND, LEFT, TOP = 760, 84, 96, 64
STEP = 0.1  # seconds a bar
HEIGHT = 56

STYLE = """
  .ground { fill: #ffffff } text { font: 12px "Inter", "Segoe UI", "DejaVu Sans", sans-serif; fill: #52525b }
  .title { font-size: 18px; font-weight: 600; fill: #18181b } .name { font-size: 13px; fill: #18181b }
  .answered { fill: #0f766e } .waited { fill: #eab308 } .empty { fill: #dc2626 } .border { stroke: #d4d4d8 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #18181b } text { fill: #a1a1aa } .title, .name { fill: #fafafa } .border { stroke: #3f3f46 }
  }
"""


def draw(outcomes: list[Outcome]) -> str:
    """The picture as the text of an SVG file."""
    whole = sum(seconds for _, seconds in SCRIPT)
    width, height = LEFT + WIDE + 16, TOP + BAND * len(outcomes) + 12
    size = f'width="{width}" height="{height}"'
    title = "Callers during an outage: answered at once, after 100 ms, or not at all"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">',
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{width}" height="{height}"/>',
        f'<text class="title" x="16" y="26">{title}</text>',
    ]
    at = 0.0
    for phase, seconds in SCRIPT:
        x = LEFT + WIDE * at / whole
        parts.append(f'<line class="border" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 20}" y2="{height - 12}"/>')
        parts.append(f'<text x="{x + 4:.1f}" y="{TOP - 8}">{escape(phase)}</text>')
        at += seconds
    for number, outcome in enumerate(outcomes):
        parts.extend(band(outcome, TOP + BAND * number, whole))
    return "\n".join([*parts, "</svg>\n"])


def band(outcome: Outcome, top: float, whole: float) -> list[str]:
    """A contestant's callers, stacked by what became of them."""
    bars: dict[int, list[Asked]] = {}
    for one in outcome.asked:
        bars.setdefault(int(one.at / STEP), []).append(one)
    most = max(len(bar) for bar in bars.values())
    parts = [f'<text class="name" x="16" y="{top + HEIGHT / 2 + 4}">{escape(outcome.name)}</text>']
    for number, bar in bars.items():
        x, width, y = LEFT + WIDE * number * STEP / whole, WIDE * STEP / whole - 1, top + HEIGHT
        kinds = {
            "answered": sum(one.answered and one.seconds < 0.1 for one in bar),
            "waited": sum(one.answered and one.seconds >= 0.1 for one in bar),
            "empty": sum(not one.answered for one in bar),
        }
        for kind, count in kinds.items():
            tall = HEIGHT * count / most
            y -= tall
            if count:
                parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{tall:.1f}"/>')
    return parts
