-- What exists and where it came from. Names are unqualified, so the connection's search_path says which schema holds it.

-- Everything immutable that steps committed. `key` is '<type>/<namespace>/<owner>/<id>': two resources may well make
-- something of the same id, and an edge to something that was forgotten can still be read.
CREATE TABLE artifacts (
    key         text PRIMARY KEY,
    type        text NOT NULL,
    namespace   text NOT NULL,
    owner       text NOT NULL,
    id          text NOT NULL,
    uri         text NOT NULL,
    digest      text NOT NULL,
    rows        bigint,
    created_at  timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    details     jsonb NOT NULL
);
CREATE INDEX artifacts_id ON artifacts (id);
CREATE INDEX artifacts_owner ON artifacts (type, namespace, owner, created_at);

-- What was made from what. Parents need not be there any more.
CREATE TABLE lineage (
    child  text NOT NULL,
    parent text NOT NULL,
    PRIMARY KEY (child, parent)
);
CREATE INDEX lineage_parent ON lineage (parent);

-- An execution that writes scores: what would else be repeated in each of its rows. Its scores count once the artifact
-- 'scores/<namespace>/<scoring_run>/<execution>' exists.
CREATE TABLE score_runs (
    run         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace   text NOT NULL,
    scoring_run text NOT NULL,
    execution   text NOT NULL,
    candidate   text NOT NULL,
    UNIQUE (namespace, scoring_run, execution)
);
CREATE INDEX score_runs_execution ON score_runs (execution);

-- What each part of an execution loaded, so that loading it again replaces it.
CREATE TABLE score_parts (
    run       integer NOT NULL REFERENCES score_runs ON DELETE CASCADE,
    part      integer NOT NULL,
    first_row bigint NOT NULL,
    rows      bigint NOT NULL,
    PRIMARY KEY (run, part)
);

-- Scores of batches, up to 1,024 rows that follow each other in one block: a quarter of the work of as many rows, and
-- less than half of the space. Compressing them would take three times as long as the rest.
CREATE TABLE score_blocks (
    run         integer NOT NULL,
    first_row   bigint NOT NULL,
    part        integer NOT NULL,
    rows        integer NOT NULL,
    values      double precision[] NOT NULL,
    labels      text[],
    entities    text[],
    event_times timestamptz[],
    PRIMARY KEY (run, first_row, part)
);
ALTER TABLE score_blocks
    ALTER values SET STORAGE EXTERNAL,
    ALTER labels SET STORAGE EXTERNAL,
    ALTER entities SET STORAGE EXTERNAL,
    ALTER event_times SET STORAGE EXTERNAL;

CREATE VIEW score_rows AS
SELECT b.run, b.first_row + u.place - 1 AS row, u.value, u.label, u.entity, u.event_time
FROM score_blocks b,
     unnest(b.values, b.labels, b.entities, b.event_times)
     WITH ORDINALITY AS u (value, label, entity, event_time, place);

-- A process that scores online, with what it scores for.
CREATE TABLE scorers (
    scorer     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source     text NOT NULL,
    namespace  text NOT NULL,
    deployment text NOT NULL,
    version    integer NOT NULL,
    candidate  text NOT NULL,
    UNIQUE (source, namespace, deployment, version, candidate)
);
CREATE INDEX scorers_deployment ON scorers (namespace, deployment);

CREATE TABLE online_score_rows (
    seq       bigint NOT NULL,
    scored_at timestamptz NOT NULL,
    value     double precision,
    scorer    integer NOT NULL,
    label     text,
    request   json,
    PRIMARY KEY (scorer, seq)
);
CREATE INDEX online_score_rows_time ON online_score_rows USING brin (scored_at);

-- Scores for people and for the data service: those that were committed.
CREATE VIEW scores AS
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
FROM online_score_rows s
JOIN scorers p USING (scorer);

-- Who decided what, and why.
CREATE TABLE audit (
    id        text PRIMARY KEY,
    at        timestamptz NOT NULL,
    kind      text NOT NULL,
    namespace text NOT NULL,
    name      text NOT NULL,
    actor     text NOT NULL,
    action    text NOT NULL,
    reason    text NOT NULL,
    message   text NOT NULL,
    data      jsonb NOT NULL,
    position  bigint GENERATED ALWAYS AS IDENTITY
);
CREATE INDEX audit_position ON audit (position);
CREATE INDEX audit_resource ON audit (kind, namespace, name, position);

-- Events that are committed and not yet known to be published.
CREATE TABLE outbox (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id       text NOT NULL UNIQUE,
    event    jsonb NOT NULL
);
