"""README.md and docs/*.md: every ```python block runs, in order, one namespace a file; a Redis they name is real."""

import re
from pathlib import Path

import pytest
from servers import RedisServer

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: As the pages call it; what runs is told of a server of the test's.
REDIS = "redis://localhost:6379/0"


def blocks(text):
    """The code of each block, moved down so that a traceback names the page's own line."""
    return ["\n" * text.count("\n", 0, found.start(1)) + found[1] for found in BLOCK.finditer(text)]


@pytest.fixture
def redis():
    server = RedisServer()
    yield server
    server.stop()


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page_run(page, request):
    namespace = {"__name__": f"docs_{page.stem.lower()}"}
    code = blocks(page.read_text(encoding="utf-8"))
    if any(REDIS in block for block in code):
        url = request.getfixturevalue("redis").url
        code = [block.replace(REDIS, url) for block in code]
    for block in code:
        exec(compile(block, str(page), "exec"), namespace)


def test_there_are_examples_in_readme_and_docs():
    counts = {page.name: len(blocks(page.read_text(encoding="utf-8"))) for page in PAGES}
    assert all(counts[name] for name in ("README.md", "concepts.md", "guide.md", "redis.md", "reference.md")), counts


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
