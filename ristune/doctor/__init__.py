"""Whether a training is sound: short checks of data, learning, consistency and search, on any task."""
