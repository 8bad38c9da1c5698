"""The report as a page that stands on its own (EVAL-3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from levada.artifacts import EvaluationManifest, LookupSpec, ModelManifest, Parity, StoredFile
from levada.features.types import ColumnType
from levada.methods.evaluators import Chart, Series, Table
from levada.resources.dataset import Column
from levada.resources.status import InputVersion
from levada.steps.evaluate.charts import number_text
from levada.steps.evaluate.report import Facts, render

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
NASTY = 'a <b>"name"</b> & more'
CHARTS = [
    Chart(
        kind="lines",
        title=f"Curve of {NASTY}",
        x="x",
        y="y",
        series=[
            Series(name=NASTY, points=[(0, 0), (0.5, 0.9), (1, 1)]),
            Series(name="Rows", points=[(0.2, 0.2)], style="points"),
            Series(name="Chance", points=[(0, 0), (1, 1)], style="reference"),
        ],
        note="How to read it.",
    ),
    Chart(kind="bars", title="Bars", x="x", y="y", names=["1 to 2", "2 to 3"], values=[3, 0]),
    Chart(kind="matrix", title="Matrix", x="Predicted", y="Truth", names=["no", NASTY], cells=[[3, 1], [0, 0]]),
]


class Page(HTMLParser):
    """Elements, ids and text of a page; raises AssertionError where tags are not closed in order."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def find(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def report(**model: Any) -> str:
    evaluation = EvaluationManifest(
        evaluation="evaluation-1",
        namespace="default",
        candidate="late-boosted-1",
        metrics={"rocAuc": 0.71234, "rmse": 123456.7},
        baselines={"rocAuc": 0.5},
        figures={
            "mine": {
                "charts": [chart.document() for chart in CHARTS],
                "tables": [Table(title="Rows", columns=["Class", "F1"], rows=[[NASTY, 0.5]]).document()],
            }
        },
        evaluators=["mine"],
        part="test",
        rows=65469,
        report=StoredFile(key="report.html", bytes=0, digest=""),
        warnings=[NASTY],
        created_at=NOW,
    )
    fields: dict[str, Any] = {
        "candidate": "late-boosted-1",
        "namespace": "default",
        "task": "classification",
        "algorithm": "boosted",
        "type": "boostedTrees",
        "params": {"learningRate": 0.1},
        "onnx": StoredFile(key="model.onnx", bytes=92016, digest="sha256:" + "ab" * 32),
        "request": [Column(name="carrier", type=ColumnType.STRING)],
        "inputs": [],
        "outputs": [],
        "learned": {"splits": {NASTY: 7, "distance": 64}},
        "parity": Parity(rows=327346, max_abs=3.2e-7),
        "training_run": "late",
        "execution": "training-1",
        "feature_set_version": "features-1",
        "split": "split-1",
        "label": "late",
        "batches": [InputVersion(kind="Dataset", name="flights", ids=["batch-1"])],
        "lookups": [
            LookupSpec(
                feature_set="planes",
                namespace="default",
                version="features-2",
                prefix="p/",
                on=[],
                keys=[],
                key_types=[],
                columns=[],
            )
        ],
        "rows": {"train": 261877, "test": 65469},
        "created_at": NOW,
    }
    return render(evaluation, ModelManifest.model_validate(fields | model), Facts(nodes=31, single_row_seconds=12e-6))


def test_eval3_the_page_is_well_formed_and_needs_nothing_else() -> None:
    page = Page(report())
    assert page.find("script") == []
    assert page.find("link") == []
    assert not re.search(r"https?://", report())
    assert dict(page.find("html")[0]) == {"lang": "en"}


def test_eval3_every_picture_has_a_title_and_a_description() -> None:
    html = report()
    pictures = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(pictures) == len(CHARTS)
    ids: set[str] = set()
    for picture in pictures:
        svg = ElementTree.fromstring(picture)
        assert svg.get("role") == "img"
        named = svg.get("aria-labelledby", "").split()
        texts = {child.get("id"): child.text for child in svg if child.tag in ("title", "desc")}
        assert set(named) == set(texts)
        assert all(texts.values())
        assert ids.isdisjoint(named)
        ids.update(named)


def test_eval3_nothing_that_comes_from_data_is_read_as_html() -> None:
    html = report(candidate="late-boosted-1", params={"x": NASTY})
    assert "<b>" not in html
    assert html.count("&lt;b&gt;") >= 6


def test_eval3_the_page_tells_metrics_with_what_they_would_be_without_a_model() -> None:
    words = " ".join(" ".join(Page(report()).words).split())
    assert "rocAuc 0.7123 without a model 0.5" in words
    assert "rmse 123,457" in words
    assert "on 65,469 rows of the test part" in words
    assert "largest difference 3e-07 over 327,346 rows; 1e-05 is allowed" in words


def test_eval3_the_page_shows_every_id_back_to_the_raw_batches() -> None:
    words = " ".join(Page(report()).words)
    for id in ("evaluation-1", "training-1", "split-1", "features-1", "batch-1", "features-2", "sha256:abab"):
        assert id in words


def test_eval3_what_was_learnt_is_shown_strongest_first() -> None:
    html = report()
    assert html.index("<code>distance</code>") < html.index("a &lt;b&gt;&#34;name&#34;&lt;/b&gt; &amp; more</code>")


@pytest.mark.parametrize("learned", [{}, {"coefficients": {"a": {"x": 1.0}}}])
def test_eval3_a_model_that_shows_nothing_of_what_it_learnt_has_no_such_table(learned: dict[str, Any]) -> None:
    assert 'id="learned"' not in report(learned=learned)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.25, "0.25"), (1234.5, "1234"), (65469, "65,469"), (1.5e9, "1.5e+09")]
)
def test_numbers_as_a_person_reads_them(value: float, text: str) -> None:
    assert number_text(value) == text
