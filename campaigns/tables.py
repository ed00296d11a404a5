"""corrections.csv as people, spreadsheets, web pages and git leave it: applied completely, or refused.

An attack is two hundred tables of random corrections. A harmless change (separator, line ends, order of columns,
Unicode form, invisible characters) must give the corrections of the plain table; a damaged table gives these too, or is
refused in one sentence.
"""

import random
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from redarte.images import folders
from redarte.images.splitting import corrections
from redarte.images.splitting.corrections import RawImage
from redarte.runtime import tables
from redarte.runtime.errors import UserError

TABLES = 200
ARTISTS = ("Ana", "002", "Joan_Miró", "Ben Ito", "葛飾北斎", "O'Keeffe, G")
REASONS = ("", "signed", "signed, lower left", 'called "Eve"', "ein Maß; zu groß", "=1+1", "é", "a\tb")
Row = tuple[str, str, str, str]


@contextmanager
def prepared(folder: Path) -> Iterator[Path]:
    raw = folder / "raw"
    for artist in ARTISTS:
        (raw / artist).mkdir(parents=True)
        for number in range(4):
            (raw / artist / f"{artist} {number}.jpg").write_bytes(f"{artist} {number}".encode())
    yield folder
    shutil.rmtree(raw)


def attack(folder: Path, seed: int) -> Counter[str]:
    rng = random.Random(seed)
    happened: Counter[str] = Counter()
    for _ in range(TABLES):
        rows = some_rows(rng, folder / "raw")
        expected = applied(folder, tables.to_csv([corrections.COLUMNS, *rows]))
        change = rng.choice([*HARMLESS, *DAMAGES])
        text = change(rng, rows)
        try:
            found = applied(folder, text)
        except UserError as error:
            assert "\n" not in str(error) and str(error).isprintable() and len(str(error)) < 600, error
            assert change in DAMAGES, f"{change.__name__}: {error}\n{text}"
            happened[f"{change.__name__}: refused"] += 1
        else:
            assert found == expected, f"{change.__name__} was applied in part:\n{text}"
            happened[f"{change.__name__}: applied"] += 1
    return happened


def applied(folder: Path, text: str) -> tuple[list[RawImage], object]:
    file = folder / "corrections.csv"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    raw = folder / "raw"
    return corrections.apply(file, corrections.read(file), raw, folders.list_images(raw))


def some_rows(rng: random.Random, raw: Path) -> list[Row]:
    rows: list[Row] = []
    for path in rng.sample(folders.list_images(raw), rng.randint(1, 8)):
        action = rng.choice(corrections.ACTIONS)
        artist = rng.choice([*ARTISTS, "Zoë"]) if action == "relabel" else ""
        name = folders.image_id(path) if rng.random() < 0.8 else folders.content_hash((raw / path).read_bytes())
        rows.append((name, artist, action, rng.choice(REASONS)))
    return rows


def written(
    rows: list[Row], delimiter: str = ",", end: str = "\n", columns: tuple[str, ...] = corrections.COLUMNS
) -> str:
    """The table in another dialect, every cell in quotes."""
    named = [dict(zip(corrections.COLUMNS, row, strict=True)) for row in rows]
    lines = [list(columns), *([row.get(name, "x") for name in columns] for row in named)]
    return "".join(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in line) + end for line in lines)


def separators(rng: random.Random, rows: list[Row]) -> str:
    delimiter = rng.choice(",;\t")
    head = rng.choice(["", "\ufeff", f"sep={delimiter}\r\n", f'\ufeff"sep={delimiter}"\n'])
    return head + written(rows, delimiter, rng.choice(["\n", "\r\n", "\r"]))


def columns(rng: random.Random, rows: list[Row]) -> str:
    names = [*corrections.COLUMNS, *rng.sample(["who", "date", "note"], rng.randint(0, 3))]
    rng.shuffle(names)
    return written(rows, columns=tuple(names))


def blank_lines(rng: random.Random, rows: list[Row]) -> str:
    lines = written(rows).splitlines(keepends=True)
    lines.insert(rng.randint(1, len(lines)), rng.choice(["\n", ",,,\n", '"","","",""\n']))
    return "".join(lines)


def spelling(rng: random.Random, rows: list[Row]) -> str:
    """Decomposed, in other capitals of a hash, with invisible characters and spaces."""

    def changed(name: str) -> str:
        name = name.upper() if "/" not in name and len(name) == 32 else unicodedata.normalize("NFD", name)
        at = rng.randint(0, len(name))
        return name[:at] + rng.choice(["", "\u200b", "\u00ad", "\ufeff"]) + name[at:] if "/" in name else f" {name} "

    return written([(changed(row[0]), *row[1:]) for row in rows])


HARMLESS: list[Callable[[random.Random, list[Row]], str]] = [separators, columns, blank_lines, spelling]


def a_quote(rng: random.Random, rows: list[Row]) -> str:
    """Added or removed somewhere."""
    text = rng.choice([written(rows), tables.to_csv([corrections.COLUMNS, *rows])])
    at = rng.randint(text.index("\n") + 1, len(text))
    return text[:at] + '"' + text[at:] if rng.random() < 0.5 else text[:at] + text[at:].replace('"', "", 1)


def a_comma(rng: random.Random, rows: list[Row]) -> str:
    """Outside of quotes, where it makes another cell."""
    text = written(rows)
    outside = [at for at in range(text.index("\n") + 1, len(text)) if text[:at].count('"') % 2 == 0]
    at = rng.choice(outside)
    return text[:at] + rng.choice([",", ";", ",,"]) + text[at:]


def a_conflict(rng: random.Random, rows: list[Row]) -> str:
    lines = written(rows).splitlines(keepends=True)
    at = rng.randint(1, len(lines))
    return "".join([*lines[:at], "<<<<<<< HEAD\n", *lines[at:], "=======\n", ">>>>>>> other\n"])


def another_image(rng: random.Random, rows: list[Row]) -> str:
    name = rng.choice(["Nobody/1", "Ana", "", "Ana/", "f" * 32, "../x", "Ana/Ana 0/x", rows[0][0]])
    return written([*rows, (name, "", "keep", "")])


def another_artist(rng: random.Random, rows: list[Row]) -> str:
    name = rng.choice(["2", "ana", "joan miro\u0301", "Ana/x", "..", "=Ana", "a\x1b", "x" * 300, "\ud800", " "])
    return written([*rows, ("Ana/Ana 0", name, "relabel", "")])


def another_column(rng: random.Random, rows: list[Row]) -> str:
    return written(rows, columns=rng.choice([("image", "artist"), ("image", "image", "artist", "action"), ("a", "b")]))


DAMAGES: list[Callable[[random.Random, list[Row]], str]] = [
    a_quote, a_comma, a_conflict, another_image, another_artist, another_column,
]  # fmt: skip
