"""Datasets as they are written: shard by shard, from whatever gives samples."""
