"""From a score, or anything else, back to the raw files it was made from: one query."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from graphlib import TopologicalSorter
from typing import Any

from levada.stores.ports import LineageNode
from levada.stores.postgres.connection import Connection

_SOURCE = "source"

# The start is a score of a batch, a score of a scorer, or artifacts of that id; then parents, each key once. A request
# is a column of its own: jsonb does not take every text that json does (a zero character).
_QUERY = """
WITH RECURSIVE score AS (
    SELECT a.key AS parent, r.namespace, r.scoring_run AS owner, a.created_at,
           jsonb_build_object('row', %(row)s::bigint, 'value', b.values[b.place], 'label', b.labels[b.place],
                              'entity', b.entities[b.place], 'eventTime', b.event_times[b.place]) AS details,
           NULL::json AS request
    FROM score_runs r
    CROSS JOIN LATERAL (
        SELECT *, (%(row)s::bigint - first_row + 1)::integer AS place FROM score_blocks
        WHERE run = r.run AND first_row BETWEEN %(row)s::bigint - 1023 AND %(row)s::bigint  -- scores.BLOCK_ROWS
          AND first_row + rows > %(row)s::bigint
    ) b
    JOIN artifacts a ON a.key = concat_ws('/', 'scores', r.namespace, r.scoring_run, r.execution)
    WHERE r.execution = %(source)s AND (%(namespace)s::text IS NULL OR r.namespace = %(namespace)s)
    UNION ALL
    SELECT concat_ws('/', 'candidate', p.namespace, p.candidate, p.candidate), p.namespace, p.deployment,
           s.scored_at,
           jsonb_build_object('row', s.seq, 'value', s.value, 'label', s.label, 'deployment', p.deployment,
                              'version', p.version),
           s.request
    FROM scorers p
    JOIN online_scores s ON s.scorer = p.scorer AND s.seq = %(row)s
                        AND s.first_seq BETWEEN %(row)s::bigint - 255 AND %(row)s::bigint  -- ports.BLOCK_ROWS
    WHERE p.source = %(source)s AND (%(namespace)s::text IS NULL OR p.namespace = %(namespace)s)
), history (key) AS (
    SELECT parent FROM score
    UNION
    SELECT key FROM artifacts WHERE id = %(id)s AND (%(namespace)s::text IS NULL OR namespace = %(namespace)s)
    UNION
    SELECT l.parent FROM history h JOIN lineage l ON l.child = h.key
)
SELECT concat_ws('/', 'score', namespace, owner, %(id)s) AS key, created_at, ARRAY[parent] AS parents, details, request
FROM score
UNION ALL
SELECT h.key, a.created_at, ARRAY(SELECT parent FROM lineage WHERE child = h.key ORDER BY parent),
       a.details || jsonb_build_object('uri', a.uri, 'digest', a.digest, 'rows', a.rows), NULL
FROM history h
LEFT JOIN artifacts a ON a.key = h.key
"""


def of(connection: Connection, id: str) -> list[LineageNode]:
    """The history of something, itself first and whatever was made from something before it; see `Catalogue.lineage`.

    What was forgotten since stands there without a time. `namespace/id` names one of several of the same id.
    """
    namespace, _, name = id.rpartition("/")
    source, _, row = name.rpartition(":")
    is_score = bool(source) and row.isascii() and row.isdigit() and int(row) < 2**63
    values = {
        "id": name,
        "namespace": namespace or None,
        "source": source if is_score else None,
        "row": int(row) if is_score else None,
    }
    found = {
        key: (created_at, parents, details if request is None else details | {"request": request})
        for key, created_at, parents, details, request in connection.execute(_QUERY.encode(), values)
    }
    # Parents come first in a topological order.
    order = TopologicalSorter({key: parents for key, (_, parents, _) in found.items()}).static_order()
    nodes: list[LineageNode] = []
    for key in reversed(list(order)):
        nodes += _nodes(key, *found[key])
    return sorted(nodes, key=lambda node: node.type == _SOURCE)


def _nodes(
    key: str, created_at: datetime | None, parents: list[str], details: dict[str, Any] | None
) -> Iterator[LineageNode]:
    """The node of a key and, if it is a batch or of files that were scored, one for each of the files."""
    type, namespace, owner, id = key.split("/")
    if details is None:
        yield LineageNode(id, type, owner, None, (), {"namespace": namespace, "forgotten": True})
        return
    originals = details.pop("originals", [])
    files = [
        LineageNode(
            f"{id}/{original['key']}",
            _SOURCE,
            original["key"].removeprefix("original/"),
            created_at,
            (),
            {"digest": original["digest"], "bytes": original["bytes"]},
        )
        for original in originals
    ]
    files += [
        LineageNode(
            f"{id}/{source['uri']}",
            _SOURCE,
            source["uri"].rpartition("/")[2],
            created_at,
            (),
            {"uri": source["uri"], "version": source["version"], "bytes": source["bytes"]},
        )
        for source in details.pop("sources", [])
    ]
    known = {name: value for name, value in details.items() if value is not None}
    ids = tuple(parent.rpartition("/")[2] for parent in parents) + tuple(file.id for file in files)
    yield LineageNode(id, type, owner, created_at, ids, {"namespace": namespace, **known})
    yield from files
