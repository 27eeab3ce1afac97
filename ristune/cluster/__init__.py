"""Clusters: what is in their files, on their nodes, and how a sweep gets there."""
