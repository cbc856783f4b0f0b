"""Text encoders and their content-addressed cache."""
