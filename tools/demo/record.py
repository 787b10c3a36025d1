"""Records a command in a terminal and draws the recording as an animated SVG.

    record.py OUT.svg SHOWN UNTIL COMMAND...

SHOWN is what stands behind the prompt. Some seconds after the command has written UNTIL it gets Ctrl-C, as from a person.
What it wrote is played into pyte, a terminal emulator, and each screen that stood for a moment becomes a frame. A long
recording is played faster. Where animations are not played, or not wanted (prefers-reduced-motion), the last screen is
shown.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from xml.sax.saxutils import escape

import pyte

COLUMNS, ROWS = 124, 26
# Seconds that the recording goes on behind UNTIL, and that it may wait for it.
MORE, PATIENCE = 6.0, 900.0
# Seconds that the animation takes at most, and that its last screen stands.
PLAY, REST = 36.0, 8.0
# Seconds that each of its screens stands at least: the live line changes four times a second.
FRAME = 0.4
SPINNER = re.compile("[\u2800-\u28ff]")
WIDTH, HEIGHT, MARGIN = 7.22, 17, 12
COLOURS = {"green": "#6cc070", "brown": "#d8b352", "red": "#e5786d", "blue": "#79a8e8", "cyan": "#67c1c1", "magenta": "#c58fd6"}
TEXT, BACK, DIM = "#d6dae0", "#16191d", "#8b939e"


def record(command, until):
    """What the command writes, each piece with the seconds since its start, and its exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        os.environ["TERM"] = "xterm-256color"
        os.execvp(command[0], command)
    begun, end, text, pieces = time.monotonic(), PATIENCE, b"", []
    while True:
        elapsed = time.monotonic() - begun
        if end == PATIENCE and until in text:
            end = elapsed + MORE
        if elapsed > end:
            os.kill(pid, signal.SIGINT)
            end = float("inf")
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            break
        if not piece:
            break
        text += piece
        pieces.append((time.monotonic() - begun, piece))
    _, status = os.waitpid(pid, 0)
    return pieces, os.waitstatus_to_exitcode(status)


def row(line):
    """A row of the screen as runs of one colour: (column, colour, text)."""
    runs = []
    for column in range(COLUMNS):
        char = line[column]
        colour = COLOURS.get(char.fg, TEXT)
        if runs and runs[-1][1] == colour and runs[-1][0] + len(runs[-1][2]) == column:
            runs[-1][2] += char.data
        else:
            runs.append([column, colour, char.data])
    return tuple((at, colour, text.rstrip()) for at, colour, text in runs if text.strip())


def screens(shown, pieces):
    """The screens that stood long enough, each with when it is shown: (seconds, rows)."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    stream.feed(f"$ {shown}\r\n".encode())
    slower = max(1.0, pieces[-1][0] / PLAY)
    still = lambda rows: SPINNER.sub("", repr(rows))
    found = [(0.0, tuple(row(screen.buffer[y]) for y in range(ROWS)))]
    for number, (at, piece) in enumerate(pieces):
        stream.feed(piece)
        last = number + 1 == len(pieces)
        # A piece that is followed at once by another is half of a change.
        whole = last or pieces[number + 1][0] - at >= 0.02
        if last or (whole and at / slower - found[-1][0] >= FRAME):
            rows = tuple(row(screen.buffer[y]) for y in range(ROWS))
            if still(rows) != still(found[-1][1]):
                found.append((at / slower, rows))
    return found


def draw(found):
    """The SVG: all screens one below the other, of which a window shows one after the other."""
    lines, used = {}, []
    height = max(y + 1 for _, rows in found for y, runs in enumerate(rows) if runs) * HEIGHT
    for _, rows in found:
        used.append([(y, lines.setdefault(runs, len(lines))) for y, runs in enumerate(rows) if runs])
    total = found[-1][0] + REST
    wide, tall = COLUMNS * WIDTH + 2 * MARGIN, height + 2 * MARGIN
    steps = "".join(
        f"{100 * at / total:.2f}%{{transform:translateY({-number * height}px)}}" for number, (at, _) in enumerate(found)
    )
    last = -(len(found) - 1) * height
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {tall}" width="{wide:.0f}" height="{tall}">',
        "<style>text{white-space:pre;font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}",
        f"#s{{transform:translateY({last}px);animation:p {total:.2f}s steps(1,end) infinite}}",
        f"@keyframes p{{{steps}100%{{transform:translateY({last}px)}}}}",
        "@media (prefers-reduced-motion:reduce){#s{animation:none}}</style>",
        f'<rect width="100%" height="100%" rx="6" fill="{BACK}"/><defs>',
    ]
    for runs, number in lines.items():
        texts = "".join(
            f'<text x="{at * WIDTH:.1f}" textLength="{len(text) * WIDTH:.1f}" lengthAdjust="spacingAndGlyphs" fill="{colour}">{escape(text)}</text>'
            for at, colour, text in runs
        )
        out.append(f'<g id="l{number}">{texts}</g>')
    out.append(f'</defs><svg x="{MARGIN}" y="{MARGIN}" width="{wide - 2 * MARGIN:.0f}" height="{height}"><g id="s">')
    for number, screen in enumerate(used):
        for y, line in screen:
            out.append(f'<use href="#l{line}" y="{number * height + y * HEIGHT + 13}"/>')
    out.append("</g></svg></svg>")
    return "\n".join(out) + "\n"


def main():
    target, shown, until, *command = sys.argv[1:]
    pieces, code = record(command, until.encode())
    if code != 0:
        sys.stdout.buffer.write(b"".join(piece for _, piece in pieces))
        sys.exit(f"{command[0]} ended with exit code {code}")
    with open(target, "w", encoding="utf-8") as file:
        file.write(draw(screens(shown, pieces)))


main()
