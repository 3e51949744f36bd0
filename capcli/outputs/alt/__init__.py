"""Images without alt text in HTML and Markdown: their places, their files, and the text put in."""
