"""A Sphinx extension that shows docstrings as they are: plain text, formulas and examples, not RST.

| in the docstring                                   | on the page            |
|----------------------------------------------------|------------------------|
| a paragraph                                        | a paragraph            |
| text between backticks                             | code                   |
| an indented block                                  | the block, as it is    |
| `>>>` and what follows, up to an empty line        | an example             |
| lines that start with `-`                          | a list                 |
| lines that start with a bar, such as these         | a table                |
| `Args:`, `Returns:` or `Raises:`, and an indented block | names and their texts |

Everything else is text: `|s|`, `x*` and `p_` mean nothing else.
"""

import re
from collections.abc import Iterator
from itertools import groupby

SECTIONS = ("Args:", "Arguments:", "Returns:", "Raises:", "Yields:")
INDENT = "    "


def setup(app) -> dict[str, bool]:
    """Connects the extension to autodoc."""
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def process(app, what, name, obj, options, lines: list[str]) -> None:
    """Replaces the lines of a docstring by RST. A NamedTuple's field gets only a text of its own."""
    if len(lines) and lines[0].startswith("Alias for field number"):
        lines.clear()
    lines[:] = to_rst(lines)


def to_rst(lines: list[str]) -> list[str]:
    """Returns the docstring's lines as RST."""
    made: list[str] = []
    section = ""
    for kind, block in blocks(lines):
        if kind == "section":
            section = block[0].rstrip(":")
            continue
        if section:
            made += [f":{section}:", *named(block), ""]
        else:
            made += [*SHAPES[kind](block), ""]
        section = ""
    return made


def blocks(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yields neighbouring lines of one kind together; empty lines part paragraphs."""
    kinds, example, before = [], False, "empty"
    for line in lines:
        example = bool(line.strip()) and (example or line.startswith(">>>"))
        kind = "example" if example else kind_of(line)
        if kind == "paragraph" and before == "list":
            kind = "list"
        if kind == "empty" and before == "indented":
            kind = "indented"  # a block may have empty lines in it
        kinds.append(kind)
        before = kind
    for kind, group in groupby(zip(kinds, lines, strict=True), key=lambda pair: pair[0]):
        block = [line for _, line in group]
        if kind != "empty":
            yield kind, trimmed(block)


def kind_of(line: str) -> str:
    """The kind of a line that is in no example."""
    if not line.strip():
        return "empty"
    if line.strip() in SECTIONS:
        return "section"
    if line[0].isspace():
        return "indented"
    if line.startswith("|") and line.rstrip().endswith("|") and line.count("|") > 2:
        return "table"
    return "list" if line.startswith("- ") else "paragraph"


def trimmed(block: list[str]) -> list[str]:
    """The block without empty lines at its end."""
    while not block[-1].strip():
        block = block[:-1]
    return block


def paragraph(block: list[str]) -> list[str]:
    """One line of escaped text."""
    return [inline(" ".join(line.strip() for line in block))]


def literal(block: list[str]) -> list[str]:
    """The lines as they are."""
    margin = min(len(line) - len(line.lstrip()) for line in block if line.strip())
    return [".. code-block:: text", "", *(INDENT + line[margin:] for line in block)]


def bullets(block: list[str]) -> list[str]:
    """One item for each line that starts with a dash."""
    items: list[str] = []
    for line in block:
        if line.startswith("- "):
            items.append(line[2:].strip())
        else:
            items[-1] += " " + line.strip()
    return [f"- {inline(item)}" for item in items]


def table(block: list[str]) -> list[str]:
    """A list-table; the first row is its heading, the row of dashes is left out."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block]
    rows = [row for row in rows if not all(set(cell) <= set("-: ") for cell in row) or not any(row)]
    made = [".. list-table::", f"{INDENT}:header-rows: 1", ""]
    for row in rows:
        cells = [inline(cell) if cell else "" for cell in row]
        made += [f"{INDENT}* - {cells[0]}", *(f"{INDENT}  - {cell}" for cell in cells[1:])]
    return made


def named(block: list[str]) -> list[str]:
    """A definition for each `name: text` of the block; text without a name is a paragraph."""
    margin = min(len(line) - len(line.lstrip()) for line in block if line.strip())
    entries: list[str] = []
    for line in (line[margin:] for line in block if line.strip()):
        if entries and line[0].isspace():
            entries[-1] += " " + line.strip()
        else:
            entries.append(line.strip())
    made: list[str] = []
    for entry in entries:
        name, colon, text = entry.partition(": ")
        known = bool(colon) and re.fullmatch(r"[\w.*]+(,? (?:or |and )?[\w.*]+)*", name)
        if known:
            made += [f"{INDENT}``{name}``", f"{INDENT * 2}{inline(text)}"]
        else:
            made += [INDENT + inline(entry), ""]
    return made


def inline(text: str) -> str:
    """Escapes all markup but `code`, which becomes a literal."""
    parts = re.split(r"`([^`\s](?:[^`]*[^`\s])?)`", text)
    made = [escaped(part) if number % 2 == 0 else f"\\ ``{part}``\\ " for number, part in enumerate(parts)]
    whole = "".join(made)
    return whole if re.match(r"[^\W\d_]{2,}[^.)]", whole) else f"\\ {whole}"


def escaped(text: str) -> str:
    """The text with a backslash before every character that RST might read as markup."""
    return re.sub(r"([\\*_|`:<>\[\]])", r"\\\1", text)


SHAPES = {
    "paragraph": paragraph,
    "indented": literal,
    "example": lambda block: block,
    "list": bullets,
    "table": table,
}
