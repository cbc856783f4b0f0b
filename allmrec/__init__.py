"""A-LLMRec: a collaborative filter aligned with a frozen language model (KDD 2024)."""
