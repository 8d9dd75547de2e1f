"""Tables that scripts write into pages, each between two comments: <!-- NAME: begin … --> and <!-- NAME: end -->."""
import pathlib
import re

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"


def put(name, text, path=README):
    """Puts `text` between the two comments of a name."""
    place = re.compile(rf"(<!-- {name}: begin[^>]*-->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    whole, found = place.subn(lambda m: f"{m[1]}\n{text.strip()}\n\n{m[2]}", path.read_text())
    if not found:
        raise SystemExit(f"{path.name} has no place for the table: <!-- {name}: begin --> … <!-- {name}: end -->")
    path.write_text(whole)
