"""The gate's tests; they mirror the packages."""
