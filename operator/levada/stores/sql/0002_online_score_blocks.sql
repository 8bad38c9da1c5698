-- Online scores of requests of several rows: up to 256 rows that follow each other in one block. Of the request's
-- columns, numbers stand row after row in an array (NaN is a null), and all others in JSON: a list for each row.
CREATE TABLE online_score_blocks (
    scorer         integer NOT NULL,
    first_seq      bigint NOT NULL,
    scored_at      timestamptz NOT NULL,
    rows           integer NOT NULL,
    values         double precision[],
    labels         text[],
    number_columns text[],
    numbers        double precision[],
    other_columns  text[],
    others         json,
    PRIMARY KEY (scorer, first_seq)
);
ALTER TABLE online_score_blocks
    ALTER values SET STORAGE EXTERNAL,
    ALTER labels SET STORAGE EXTERNAL,
    ALTER numbers SET STORAGE EXTERNAL,
    ALTER others SET STORAGE EXTERNAL;
CREATE INDEX online_score_blocks_time ON online_score_blocks USING brin (scored_at);

-- `first_seq` finds the block of a score by the key: it is at most 255 before `seq`.
CREATE VIEW online_scores AS
SELECT scorer, seq AS first_seq, seq, scored_at, value, label, request FROM online_score_rows
UNION ALL
SELECT b.scorer, b.first_seq, b.first_seq + r.place - 1, b.scored_at, r.value, r.label, (
    SELECT json_object_agg(c.name, c.value)
    FROM (
        SELECT n.name, to_json(nullif(n.value, 'NaN'))
        FROM unnest(
            b.number_columns,
            b.numbers[(r.place - 1) * cardinality(b.number_columns) + 1 : r.place * cardinality(b.number_columns)]
        ) AS n (name, value)
        UNION ALL
        SELECT o.name, o.value
        FROM ROWS FROM (unnest(b.other_columns), json_array_elements(r.other)) AS o (name, value)
    ) AS c (name, value)
)
FROM online_score_blocks b
CROSS JOIN LATERAL ROWS FROM (
    generate_series(1, b.rows), unnest(b.values), unnest(b.labels), json_array_elements(b.others)
) AS r (place, value, label, other);

CREATE OR REPLACE VIEW scores AS
SELECT r.execution || ':' || s.row AS id, 'batch' AS mode, r.namespace, r.scoring_run AS owner, r.candidate,
       NULL::integer AS version, r.execution AS source, s.row, s.value, s.label, s.entity, s.event_time,
       a.created_at AS scored_at, NULL::json AS request
FROM score_rows s
JOIN score_runs r USING (run)
JOIN artifacts a ON a.key = concat_ws('/', 'scores', r.namespace, r.scoring_run, r.execution)
UNION ALL
SELECT p.source || ':' || s.seq, 'online', p.namespace, p.deployment, p.candidate,
       p.version, p.source, s.seq, s.value, s.label, NULL, NULL,
       s.scored_at, s.request
FROM online_scores s
JOIN scorers p USING (scorer);
