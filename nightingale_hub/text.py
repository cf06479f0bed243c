"""Text that others wrote, made inert: for a page, a terminal, a cell of a spreadsheet.

Paths, names and messages come from researchers and their files; what would move a cursor, turn
the direction of reading or start a formula is written out instead.
"""

import re

ESCAPED = re.compile(rb"\\(?:x([0-9a-f]{2})|\\)")
FORMULA_STARTS = ("=", "+", "-", "@")


def visible(text: str) -> str:
    r"""Return *text* with every control, bidi and invisible character as an escape: `\x1b`."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def format_name(name: bytes) -> str:
    r"""Return *name* as text that names it alone: `\xNN` for what is no UTF-8, `\\` for `\`."""
    return name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def parse_name(text: str) -> bytes:
    """Return the name that `format_name` wrote as *text*."""
    return ESCAPED.sub(_unescape, text.encode())


def _unescape(match: "re.Match[bytes]") -> bytes:
    return b"\\" if match[1] is None else bytes([int(match[1], 16)])


def csv_cell(text: str) -> str:
    """Return *text* as a spreadsheet cell that no program takes for a formula.

    ref: https://owasp.org/www-community/attacks/CSV_Injection
    """
    inert = visible(text)
    return f"'{inert}" if inert.lstrip().startswith(FORMULA_STARTS) else inert
