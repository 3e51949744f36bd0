"""Images without an alt text in HTML and Markdown: where they are, which file they show, and the text put in."""
