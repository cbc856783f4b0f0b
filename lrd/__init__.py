"""LRD: latent relations discovered from language-model vectors (SIGIR 2024)."""
