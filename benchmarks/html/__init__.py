"""The leaderboard as a page: one file that needs neither a server nor a network."""
