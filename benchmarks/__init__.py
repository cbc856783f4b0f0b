"""Commands, runs, suites and leaderboards."""
