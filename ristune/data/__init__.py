"""Datasets: format, storage, order, stream; knows no task and no trainer."""
