"""Other people's models as models: `foreign` for any module, and the ways in for those of some libraries."""
