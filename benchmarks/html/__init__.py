"""The leaderboard as one page: a file that needs no server and no network."""
