"""Files on a disk or in an object store, behind one interface."""
