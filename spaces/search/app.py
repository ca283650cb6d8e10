"""The Space: a web page that searches the folder `gallery` with the model in the folder `model`, next to this file."""

from pathlib import Path

from bdam import Gallery
from bdam.retrieval.page import build_page, serve_page


here = Path(__file__).parent
page = build_page(Gallery.load(here / "gallery", here / "model"))

if __name__ == "__main__":
    serve_page(page)
