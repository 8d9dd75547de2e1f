#!/usr/bin/env python3
"""Draws captured terminal text (tmux capture-pane -p -e) as SVG: ansi_to_svg.py COLUMNS <screen.txt >screen.svg

Every character stands at its own place, so that no font can shift columns; lines and braille dots are drawn as
terminals draw them, because fonts differ in them.
"""

import re
import sys
import unicodedata
from html import escape

WIDTH, HEIGHT, MARGIN, TOP = 8.4, 18, 16, 40
COLORS = {31: "#ff7b72", 32: "#7ee787", 33: "#e3b341", 34: "#79c0ff", 35: "#d2a8ff", 36: "#56d4dd"}
TEXT, BACKGROUND = "#d5dbe3", "#10141a"
# Bits of a braille character to columns and rows of its dots.
DOTS = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)]
# Box-drawing characters: strokes from a point to a point, in cells; and their thickness.
CENTER, LEFT, RIGHT, UP, DOWN = (0.5, 0.5), (0, 0.5), (1, 0.5), (0.5, 0), (0.5, 1)
LINES = {"─": ([(LEFT, RIGHT)], 1), "━": ([(LEFT, RIGHT)], 3), "│": ([(UP, DOWN)], 1), "└": ([(UP, CENTER), (CENTER, RIGHT)], 1)}


def cells(screen):
    """(row, column, character, colour, bold, dim) of every character of a screen with escapes."""
    row, column, color, bold, dim = 0, 0, TEXT, False, False
    for part in re.split(r"(\x1b\[[0-9;]*m|\n)", screen):
        if part == "\n":
            row, column = row + 1, 0
            continue
        if part.startswith("\x1b"):
            for code in (int(c or 0) for c in part[2:-1].split(";")):
                if code == 0:
                    color, bold, dim = TEXT, False, False
                elif code == 1:
                    bold = True
                elif code == 2:
                    dim = True
                elif code == 22:
                    bold = dim = False
                elif code == 39:
                    color = TEXT
                else:
                    color = COLORS.get(code, color)
            continue
        for c in part:
            yield row, column, c, color, bold, dim
            column += 2 if unicodedata.east_asian_width(c) in "WF" else 1


def draw(c, x, y, color, bold, dim):
    faint = ' opacity="0.6"' if dim else ""
    if 0x2800 <= ord(c) < 0x2900:
        bits = ord(c) - 0x2800
        dots = [DOTS[i] for i in range(8) if bits >> i & 1]
        place = lambda dot: (x + (dot[0] + 0.5) * WIDTH / 2, y + (dot[1] + 0.5) * HEIGHT / 4)
        path = "".join(f"M{px - 1.3:.1f} {py:.1f}a1.3 1.3 0 1 0 2.6 0a1.3 1.3 0 1 0-2.6 0" for px, py in map(place, dots))
        return f'<path d="{path}" fill="{color}"{faint}/>'
    if c in LINES:
        strokes, thick = LINES[c]
        path = "".join(
            f"M{x + a * WIDTH:.1f} {y + b * HEIGHT:.1f}L{x + d * WIDTH:.1f} {y + e * HEIGHT:.1f}" for (a, b), (d, e) in strokes
        )
        return f'<path d="{path}" stroke="{color}" stroke-width="{thick}"{faint}/>'
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y + 0.75 * HEIGHT:.1f}" fill="{color}"{weight}{faint}>{escape(c)}</text>'


def main():
    columns = int(sys.argv[1])
    screen = sys.stdin.read().rstrip("\n")
    width, height = 2 * MARGIN + columns * WIDTH, TOP + MARGIN + (screen.count("\n") + 1) * HEIGHT
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">')
    print(f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>')
    for i, color in enumerate(["#ff5f57", "#febc2e", "#28c840"]):
        print(f'<circle cx="{MARGIN + 4 + 20 * i}" cy="18" r="6" fill="{color}"/>')
    print('<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,DejaVu Sans Mono,monospace" font-size="14">')
    for row, column, c, color, bold, dim in cells(screen):
        if not c.isspace():
            print(draw(c, MARGIN + column * WIDTH, TOP + row * HEIGHT, color, bold, dim))
    print("</g></svg>")


main()
