"""Parquet of other tools, and for other tools."""
