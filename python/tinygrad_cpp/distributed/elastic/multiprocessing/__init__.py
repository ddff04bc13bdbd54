"""Parts of the launcher of several processes that programs import."""
