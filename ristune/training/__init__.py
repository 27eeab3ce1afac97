"""The shared trainer: knows no task, no data format, no scheduler."""
