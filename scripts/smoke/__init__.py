"""What the smoke run is made of: the request, the run in a process of its own, the comparison, the report."""
