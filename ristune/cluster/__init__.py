"""Clusters that `ray up` starts: their files, what they carry, the way to their head, the jobs there."""
