"""A small codemod, the program of the demo: contents for long pages, tidy blanks, an inventory.

It puts a list of contents into every Markdown page of 40 lines and more, takes trailing blanks out
of every tracked text file, and writes INVENTORY.md: files and lines of each kind.
"""

import re
import subprocess
from collections import Counter
from pathlib import Path


def tidied(text: str) -> str:
    """The text without trailing blanks and with exactly one final newline."""
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(lines).rstrip("\n") + "\n" if text.strip() else text


def with_contents(text: str) -> str:
    """A long Markdown page with a list of its sections before the first of them."""
    sections = [line[3:].strip() for line in text.splitlines() if line.startswith("## ")]
    if text.count("\n") < 40 or len(sections) < 3 or "<!-- contents -->" in text:
        return text
    anchors = [re.sub(r"[^\w -]", "", s.lower()).replace(" ", "-") for s in sections]
    rows = [f"- [{s}](#{a})" for s, a in zip(sections, anchors, strict=True)]
    head, rest = text.split("\n## ", 1)
    return "\n".join([head, "<!-- contents -->", *rows, "", "## " + rest])


def main() -> None:
    """Tidy the repository that the current directory is in."""
    listing = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True)
    names = [name for name in listing.stdout.decode().split("\0") if name]
    files: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    touched = 0
    for number, name in enumerate(names, 1):
        path = Path(name)
        try:
            text = path.read_text()
        except (UnicodeDecodeError, OSError):
            continue
        files[path.suffix or path.name] += 1
        lines[path.suffix or path.name] += text.count("\n")
        better = tidied(with_contents(text) if path.suffix == ".md" else text)
        if better != text:
            path.write_text(better)
            touched += 1
            print(f"changed {name}", flush=True)
        if number % max(1, len(names) // 5) == 0:
            print(f"{number} of {len(names)} files read", flush=True)
    rows = [f"| {kind} | {files[kind]} | {lines[kind]} |" for kind, _ in files.most_common()]
    table = ["| kind | files | lines |", "|---|---|---|", *rows]
    Path("INVENTORY.md").write_text("# What is in here\n\n" + "\n".join(table) + "\n")
    print(f"changed {touched} files and wrote INVENTORY.md")


if __name__ == "__main__":
    main()
