"""
Checks that every link of the built site that stays within it leads somewhere:
C{python docs/check_links.py DIRECTORY}.  Others are not followed.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """
    What a page links to, and what in it can be linked to.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.add(value)
            elif value and (name == "id" or (name == "name" and tag == "a")):
                self.anchors.add(value)


def broken(site: Path) -> list[str]:
    """
    The links that lead nowhere, each with its page.
    """
    pages = {file.resolve(): Page(file) for file in site.rglob("*.html")}
    found = []
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = file
            if parts.path:
                target = (file.parent / unquote(parts.path)).resolve()
            anchors = pages[target].anchors if target in pages else None
            # Some anchors are made by a script when the page is shown.
            missing = anchors is not None and unquote(parts.fragment) not in {
                "",
                "top",
                *anchors,
            }
            if missing or not target.exists():
                found.append(f"{file.relative_to(site.resolve())}: {link}")
    return sorted(found)


if __name__ == "__main__":
    problems = broken(Path(sys.argv[1]))
    print("\n".join([*problems, f"{len(problems)} broken links"]))
    sys.exit(bool(problems))
