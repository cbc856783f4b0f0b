"""What papers print, compared with what was measured."""
