"""The demo's database: a small site of pages, tags and comments in SQLite, and the one query that makes a page.

The query is what such sites really run: the page, its tags, its comments, and "see also" by a full-text search
through everybody's comments, ranked and joined back to pages. Nothing in it waits; its time is work.
The text is real (`corpus.py`), the sizes of the pages are those of the request log, the rest is drawn from a seed.
"""

import json
import math
import random
import re
import sqlite3
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .corpus import Text, source_files, texts_of
from .progress import Progress

RECIPE = 1  # raise it when what is generated changes: an older file is then built anew
SEED = 2015
SMALLEST, LARGEST = 1_000, 16_000  # characters of a page; the log has pixels and disk images too
COMMENTS = 60  # per page, on average
KEYWORDS = 16  # per page: what "see also" searches for; the first of them are its tags
TAGS = 5
OWN_WEIGHT = 4  # how much more a word of the page's first text counts than one of the following texts
COMMON = 0.5  # a word in more than this share of the pages says nothing about one

SCHEMA = """
CREATE TABLE page (id INTEGER PRIMARY KEY, title TEXT NOT NULL, body TEXT NOT NULL, search TEXT NOT NULL);
CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE page_tag (page_id INTEGER NOT NULL REFERENCES page, tag_id INTEGER NOT NULL REFERENCES tag,
                       PRIMARY KEY (page_id, tag_id)) WITHOUT ROWID;
CREATE TABLE comment (id INTEGER PRIMARY KEY, page_id INTEGER NOT NULL REFERENCES page, text TEXT NOT NULL);
CREATE INDEX comment_by_page ON comment (page_id);
CREATE VIRTUAL TABLE comment_text USING fts5 (text, content='comment', content_rowid='id', tokenize='porter');
"""

PAGE_QUERY = """
WITH here AS (SELECT id, title, body, search FROM page WHERE id = :id),
     found AS (SELECT rowid, -rank AS score FROM comment_text WHERE comment_text MATCH (SELECT search FROM here)),
     related AS (SELECT page.id, page.title, count(*) AS mentions
                   FROM found JOIN comment ON comment.id = found.rowid JOIN page ON page.id = comment.page_id
                  WHERE page.id <> :id
                  GROUP BY page.id ORDER BY sum(score) DESC, page.id LIMIT 8)
SELECT title, body,
       (SELECT json_group_array(name) FROM page_tag JOIN tag ON tag.id = tag_id WHERE page_id = here.id),
       (SELECT json_group_array(text) FROM (SELECT text FROM comment WHERE page_id = here.id ORDER BY id)),
       (SELECT json_group_array(json_array(id, title, mentions)) FROM related)
  FROM here
"""


@dataclass(frozen=True)
class Page:
    """What the page query answers."""

    title: str
    body: str
    tags: list[str]
    comments: list[str]
    related: list[tuple[int, str, int]]


def connect(path: Path) -> sqlite3.Connection:
    """Open the finished database, for reading only."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)


def query_page(connection: sqlite3.Connection, number: int) -> Page | None:
    """Run the page query; None if there is no such page."""
    row = connection.execute(PAGE_QUERY, {"id": number}).fetchone()
    if row is None:
        return None
    title, body, tags, comments, related = row
    return Page(title, body, json.loads(tags), json.loads(comments), [tuple(line) for line in json.loads(related)])


def measure_query(path: Path, numbers: Sequence[int]) -> float:
    """Median seconds of the page query over these pages, one after the other on one connection."""
    connection = connect(path)
    try:
        return statistics.median(_seconds(connection, number) for number in numbers)
    finally:
        connection.close()


def _seconds(connection: sqlite3.Connection, number: int) -> float:
    began = time.perf_counter()
    query_page(connection, number)
    return time.perf_counter() - began


def ensure_database(folder: Path, sizes: dict[int, int]) -> Path:
    """The path of the database for pages of these sizes: built once, then found again, never half built."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    path = folder / f"pages-{RECIPE}-py{version}.sqlite"
    if path.exists():
        return path
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    connection = sqlite3.connect(unfinished)
    try:
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + SCHEMA)
        _fill(connection, sizes)
        connection.commit()
    finally:
        connection.close()
    unfinished.replace(path)
    return path


def _fill(connection: sqlite3.Connection, sizes: dict[int, int]) -> None:
    files = source_files()
    texts: list[Text] = []
    with Progress("reading texts  ", len(files)) as progress:
        for file in files:
            texts.extend(texts_of(file))
            progress.step()
    drafts = list(_drafts(texts, sizes))
    keywords = _keywords([draft.words for draft in drafts])
    with Progress("writing pages  ", len(drafts)) as progress:
        for draft, chosen in zip(drafts, keywords, strict=True):
            _write(connection, draft, chosen)
            progress.step()
    connection.execute("INSERT INTO comment_text (comment_text) VALUES ('rebuild')")
    connection.execute("INSERT INTO comment_text (comment_text) VALUES ('optimize')")


@dataclass(frozen=True)
class _Draft:
    number: int
    title: str
    body: str
    words: Counter[str]
    comments: list[str]


def _drafts(texts: Sequence[Text], sizes: dict[int, int]) -> Iterator[_Draft]:
    """Each page begins at a text of its own and goes on with the following ones until it has its size."""
    rng = random.Random(SEED)
    starts = rng.sample(range(len(texts)), k=min(len(sizes), len(texts)))
    for number, size in sorted(sizes.items()):
        start = starts[number % len(starts)]
        around = _body(texts, start, LARGEST)
        words = Counter(_words(around) + OWN_WEIGHT * _words(texts[start].text))
        sentences = [sentence for sentence in re.split(r"(?<=[.:])\s+", around) if len(sentence) > 20]
        count = min(len(sentences), rng.randint(COMMENTS // 2, COMMENTS * 3 // 2))
        yield _Draft(
            number=number,
            title=texts[start].name,
            body=around[: max(size, SMALLEST)],
            words=words,
            comments=rng.sample(sentences, k=count),
        )


def _body(texts: Sequence[Text], start: int, length: int) -> str:
    parts: list[str] = []
    position = start
    while sum(map(len, parts)) < length:
        parts.append(texts[position % len(texts)].text)
        position += 1
    return "\n\n".join(parts)[:length]


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]{4,}", text.lower())


def _keywords(pages: Sequence[Counter[str]]) -> Iterator[list[str]]:
    """The words that tell a page from the others: often here, seldom elsewhere (tf-idf)."""
    spread = Counter(word for words in pages for word in words)
    usable = {word for word, count in spread.items() if 2 <= count <= COMMON * len(pages)}
    for words in pages:
        ranked = sorted(
            (-count * math.log(len(pages) / spread[word]), word) for word, count in words.items() if word in usable
        )
        yield [word for _, word in ranked[:KEYWORDS]]


def _write(connection: sqlite3.Connection, draft: _Draft, keywords: Iterable[str]) -> None:
    chosen = list(keywords)
    search = " OR ".join(f'"{word}"' for word in chosen) or '""'
    connection.execute("INSERT INTO page VALUES (?, ?, ?, ?)", (draft.number, draft.title, draft.body, search))
    for word in chosen[:TAGS]:
        connection.execute("INSERT OR IGNORE INTO tag (name) VALUES (?)", (word,))
        connection.execute("INSERT INTO page_tag SELECT ?, id FROM tag WHERE name = ?", (draft.number, word))
    connection.executemany(
        "INSERT INTO comment (page_id, text) VALUES (?, ?)", [(draft.number, text) for text in draft.comments]
    )
