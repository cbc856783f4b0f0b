"""What papers print against what was measured."""
