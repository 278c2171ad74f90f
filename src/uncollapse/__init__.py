"""Train VAEs that keep using their latents, and measure truthfully whether they do."""
