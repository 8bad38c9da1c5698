"""The scorer: one process that serves the versions of one Deployment over HTTP (SCORE-2, SCORE-6, SCORE-7).

| module      | what it holds                                                            |
|-------------|--------------------------------------------------------------------------|
| config.py   | the document that an engine writes                                        |
| session.py  | an ONNX graph that gives a row the same bits in any batch                 |
| columns.py  | values of a request as tensors, one converter per column                  |
| model.py    | a version: graph, lookups, scoring                                        |
| versions.py | loading versions beside those that serve, switching, weights              |
| v2.py v1.py | the Open Inference Protocol and KServe's older one                        |
| app.py      | from a request to a response                                              |
| http.py     | HTTP/1.1 on uvloop and httptools                                          |
| recorder.py | scores on their way into the catalogue (spool.py where it does not answer) |
| metrics.py  | counters, and how Prometheus sees them                                    |
"""
