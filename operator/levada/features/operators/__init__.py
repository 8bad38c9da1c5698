"""What SQL's operators and functions do, as nodes; semantics and names are DuckDB's."""
