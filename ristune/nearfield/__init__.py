"""Near-field localisation with a reconfigurable intelligent surface: the first task."""
