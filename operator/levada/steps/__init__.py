"""Steps: small programs that read immutable inputs and write immutable outputs, the same under both engines."""
