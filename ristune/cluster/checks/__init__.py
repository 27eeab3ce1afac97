"""Rules of cluster files, a small pure function each: the file and what is asked of it, to findings."""
