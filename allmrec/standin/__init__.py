"""A stand-in language model, for machines that cannot download one."""
