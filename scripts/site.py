"""A hook of MkDocs: makes pages of documents that are not in docs/, and keeps links working.

The documents link to each other and to files of the project as GitHub shows them. On the site,
README.md, CHANGELOG.md and locks/README.md are pages, and other linked files are downloads.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "locks/README.md": "locks.md"}
"""Documents outside docs/ and their names on the site."""
LINK = re.compile(r"(\]\(|^\[[\w-]+\]: )(?!\w+:|#)([^\s)#]+)", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents that are not in docs/, and the files that documents link to."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for file in files.documentation_pages():
        for target in linked(file.content_string, source_of(file.src_uri)):
            if target not in PAGES and not target.startswith("docs/"):
                _add(files, target, config)
    return files


def _add(files: Files, target: str, config: MkDocsConfig) -> None:
    path = ROOT / target
    for found in sorted(path.iterdir()) if path.is_dir() else [path]:
        name = f"files/{found.relative_to(ROOT).as_posix()}"
        if found.is_file() and files.get_file_from_path(name) is None:
            files.append(File.generated(config, name, content=found.read_bytes()))


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Rewrite the links of a page to where the documents and files are on the site."""
    source = source_of(page.file.src_uri)

    def rewritten(found: re.Match[str]) -> str:
        target = resolved(found[2], source)
        if (ROOT / target).is_dir():
            target = f"{target}/__init__.py"  # a folder has no page: its first file stands for it
        there = place_of(target)
        return found[1] + posixpath.relpath(there, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(rewritten, markdown)


def source_of(page: str) -> str:
    """Return the path of a page's document in the project.

    >>> source_of("index.md"), source_of("reading.md")
    ('README.md', 'docs/reading.md')
    """
    names = {name: source for source, name in PAGES.items()}
    return names.get(page, f"docs/{page}")


def place_of(target: str) -> str:
    """Return where a file of the project is on the site.

    >>> place_of("CHANGELOG.md"), place_of("docs/keys.md"), place_of("examples/ask.py")
    ('changelog.md', 'keys.md', 'files/examples/ask.py')
    """
    if target in PAGES:
        return PAGES[target]
    return target.removeprefix("docs/") if target.startswith("docs/") else f"files/{target}"


def resolved(link: str, source: str) -> str:
    """Return the path in the project of a link in a document.

    >>> resolved("../examples/ask.py", "docs/uses.md")
    'examples/ask.py'
    """
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def linked(text: str, source: str) -> list[str]:
    """Return the paths in the project of all files that a document links to."""
    return [resolved(found[2], source) for found in LINK.finditer(text)]
