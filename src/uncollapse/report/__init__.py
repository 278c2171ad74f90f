"""Reports: what run directories hold, as a page, as Markdown, as figures for a paper. No metric is computed here."""
