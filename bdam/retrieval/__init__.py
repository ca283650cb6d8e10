"""A searchable gallery of images, and its web page."""
