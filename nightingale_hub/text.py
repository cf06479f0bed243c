"""Text that others wrote, made inert: for a page, a terminal, a cell of a spreadsheet.

Paths, names and messages come from researchers and their files; what would move a cursor, turn
the direction of reading or start a formula is written out instead.
"""

FORMULA_STARTS = ("=", "+", "-", "@")


def visible(text: str) -> str:
    r"""Return *text* with every control, bidi and invisible character as an escape: `\x1b`."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def format_name(name: bytes) -> str:
    r"""Return *name* as text that names it alone: `\xNN` for what is no UTF-8, `\\` for `\`."""
    return name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def csv_cell(text: str) -> str:
    """Return *text* as a spreadsheet cell that no program takes for a formula.

    ref: https://owasp.org/www-community/attacks/CSV_Injection
    """
    inert = visible(text)
    return f"'{inert}" if inert.lstrip().startswith(FORMULA_STARTS) else inert
