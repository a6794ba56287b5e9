"""What the site adds to mkdocs: the root's pages, a page of each method, and copies of linked files outside docs."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# Pages of the site that lie at the repository's root.
ROOT_PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
# The methods' pages by their place, made when the site is built.
PAGES: dict[str, str] = {}
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def target_of(source: str, link: str) -> str:
    """The repository path that a link leads to, from the repository path of the page that has it."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def site_path(target: str) -> str:
    """Where the site keeps a file of the repository."""
    return ROOT_PAGES.get(target) or (target[5:] if target.startswith("docs/") else f"files/{target}")


def rewritten(markdown: str, source: str) -> str:
    """A page's markdown with its links turned from repository paths to site paths; folders lose their link."""
    here = posixpath.dirname(site_path(source))

    def replace(match: re.Match[str]) -> str:
        mark, text, link, anchor = match.groups()
        target = target_of(source, link)
        if (ROOT / target).is_dir():
            return text
        return f"{mark}[{text}]({posixpath.relpath(site_path(target), here or '.')}{anchor or ''})"

    return LINK.sub(replace, markdown)


def method_pages() -> dict[str, str]:
    """The page of every method, by its place in the site."""
    sys.path.insert(0, str(ROOT / "src"))
    from attar.report.method_text import method_page, own_names

    measurements = (ROOT / "docs/measurements.md").read_text(encoding="utf-8")
    return {f"methods/each/{name}.md": method_page(name, measurements) for name in own_names()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the methods' pages into the navigation."""
    PAGES.update(method_pages())
    each = [{Path(place).stem: place} for place in PAGES]
    for section in config.nav or []:
        if isinstance(section, dict) and "Methods" in section:
            section["Methods"].append({"Each method": each})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, and every linked file that lies outside docs/."""
    written = {f"docs/{file.src_uri}": file.src_uri for file in files.documentation_pages()}
    sources = {source: uri for source, uri in written.items() if uri not in PAGES} | ROOT_PAGES
    for source, uri in ROOT_PAGES.items():
        files.append(File.generated(config, uri, content=(ROOT / source).read_text()))
    for uri, text in PAGES.items():
        files.append(File.generated(config, uri, content=text))
    links = {target_of(source, match[3]) for source in sources for match in LINK.finditer((ROOT / source).read_text())}
    for target in sorted(links):
        uri = site_path(target)
        if uri.startswith("files/") and (ROOT / target).is_file():
            linked = File.generated(config, uri, abs_src_path=str(ROOT / target))
            linked.inclusion = InclusionLevel.NOT_IN_NAV  # a table in Markdown is no page of the navigation
            files.append(linked)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of a page."""
    if page.file.src_uri in PAGES:
        return markdown
    roots = {uri: source for source, uri in ROOT_PAGES.items()}
    return rewritten(markdown, roots.get(page.file.src_uri, f"docs/{page.file.src_uri}"))
