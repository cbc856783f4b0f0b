"""Many runs: in which order, on which processes or machines, and what happened to each."""
