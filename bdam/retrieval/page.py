"""The web page that searches a gallery, and its endpoint `/search` for programs."""

import signal
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

from bdam.retrieval.access import QueryLog, Users
from bdam.retrieval.bounded_search import MAX_HITS, MAX_SENTENCE, BoundedSearch
from bdam.retrieval.display import InFrame
from bdam.retrieval.gallery import Gallery
from bdam.retrieval.page_handlers import HITS, PageHandlers
from bdam.retrieval.stores.base import Span


try:
    import gradio
    from gradio.context import LocalContext
    from gradio.route_utils import delete_files_created_by_app
    from starlette.middleware import Middleware
    from starlette.responses import PlainTextResponse
    from starlette.types import ASGIApp, Receive, Scope, Send
except ImportError as error:
    raise ImportError("The web page needs Gradio: pip install bdam[app]") from error


HOUR = 3600  # seconds
MAX_UPLOAD = "10mb"
MAX_WAITING = 500  # requests; beyond these, the page reports that it is busy
# All searches share two threads: one searches while the other opens images.
LIMITS: dict[str, Any] = {"concurrency_id": "search", "concurrency_limit": 2}

TITLE = "# Find a person by a sentence"
# The first captions of the first three persons of the demo. A sentence may be short, but the more it says, the better.
SENTENCES = [
    "Dressed in a beige and brown checked dress, brown leggings and grey flat shoes while carrying a purple "
    "handbag, a stocky woman of average height in her seventies with black hair worn long and light skin comes "
    "closer.",
    "Dressed in a white coat, blue straight trousers, navy leather boots, a red beanie and a pink scarf, a guy of "
    "medium height and heavy build with short black hair heads off.",
    "A rather short, stocky young woman with short black hair and tan skin comes closer in an orange and brown "
    "striped hooded sweatshirt, red shorts and navy sneakers.",
]
EXPLANATION = """
**The score.** The model splits each image in two: *who* the person is and *what they wear*. A learned gate decides,
feature by feature, how much goes to the one and how much to the other. Your words are compared with both halves, and
the slider weighs the two: `score = (1 − c) · identity + c · clothing`. Below each image stand its score and what
either half has in it. Somebody always comes first, even if the person is on no image: where the model was measured on
other people, the line above the images says how often the first is right, and whether the person is probably absent.

**The slider.** At 0 the clothes do not count, for somebody who may have changed them; at 1 nothing else does. It
starts at the model's own choice.

**Why this one.** Select an image that was found. Red is what its score loses when that part of the image is hidden,
for the person and for the clothes.

**More like this.** An image that is opened, or one that you upload, takes the place of the sentence. Describe the
clothes apart, and you look for this person in those clothes.

**Use it well.** Searching for people by description can harm them. Use it with consent and within the law, test it for
bias on your own data, check every result by eye, and do not use it to watch individuals. What you upload is deleted
within two hours.
"""
THEME = gradio.themes.Default(
    primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
).set(
    body_text_color_subdued="*neutral_500",
    block_info_text_color="*neutral_500",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_large_text_weight="400",
    button_medium_text_weight="400",
    slider_color="*primary_700",
)
# Images stand whole above their captions, as many in a row as there is room for.
CSS = """
.gradio-container { max-width: 1280px !important; margin: auto; }
#title h1 { font-weight: 600; margin-top: 0.5rem; }
#sentence .submit-button {
    background: var(--button-primary-background-fill); color: var(--button-primary-text-color);
}
#weight input[type="number"], #count input[type="number"] { width: 4.5rem; }
.images .grid-wrap { min-height: 0; max-height: none; overflow: visible; padding: 0; }
.images .grid-container { grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 1rem; }
.images .thumbnail-item { aspect-ratio: auto; height: auto; padding-top: 0.6rem; box-shadow: none; }
.images .thumbnail-item > img { height: 260px; object-fit: contain; }
.images .thumbnail-item:focus-visible { outline: 3px solid var(--color-accent); outline-offset: -3px; }
.images .caption-label {
    position: static; max-width: none; padding: 0.6rem 0.9rem 0.75rem; border: none; background: none;
    white-space: pre; line-height: 1.5; color: var(--body-text-color-subdued);
}
.images .thumbnail-item:hover .caption-label { opacity: 1; }
.images .caption-label::first-line { font-weight: 600; color: var(--body-text-color); }
#opened { padding-bottom: 1rem; border-bottom: 1px solid var(--border-color-primary); }
#views .grid-container { grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); }
#frame .grid-container { grid-template-columns: 1fr; }
#frame .thumbnail-item > img { height: auto; max-height: 420px; }
#track .grid-container { grid-template-columns: repeat(auto-fill, minmax(110px, 1fr)); }
#track .thumbnail-item > img { height: 130px; }
#facts dl { display: grid; grid-template-columns: auto 1fr; gap: 0.2rem 0.8rem; overflow-wrap: anywhere; }
#facts dt { color: var(--body-text-color-subdued); }
/* On a phone, what was found stands right below the sentence. */
@media (max-width: 700px) {
    #examples, #controls { order: 1; }
    #title h1 { font-size: 1.25rem; margin: 0; }
    .images .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.5rem; }
    .images .thumbnail-item > img { height: 200px; }
}
#explanation { max-width: 75ch; }
"""


class OwnFilesOnly:
    """Middleware that refuses `/file=https://…`, which Gradio would fetch from anywhere."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fetches = scope["type"] == "http" and "/file=http" in scope["path"].lower()
        await (PlainTextResponse("Not of this gallery.", 403) if fetches else self.app)(scope, receive, send)


def build_page(
    gallery: Gallery, blur_heads: bool = False, log: QueryLog | None = None, in_frame: InFrame | None = None
) -> gradio.Blocks:
    """
    The page that searches a gallery, to be served by [`serve_page`], and its endpoint for programs.

    Args:
        gallery: to search.
        blur_heads: whether the images that are found are shown with heads blurred.
        log: of the searches and of the images that are opened; None keeps none.
        in_frame: see [`BoundedSearch`].

    Example:

    ```python
    client = gradio_client.Client("http://127.0.0.1:7860")
    client.predict(text="A tall man in a red coat.", clothing_weight=0.3, k=5, api_name="/search")
    # {'warnings': [], 'confidence': {…}, 'hits': [{'image_id': '0001/3.png', 'score': 0.71, 'identity': 0.53, …
    ```"""
    bounded = BoundedSearch(gallery, blur_heads, None if log is None else partial(_write, log), in_frame)
    with gradio.Blocks(title="Find a person", analytics_enabled=False, delete_cache=(HOUR, HOUR)) as page:
        gradio.api(endpoint(bounded), api_name="search", **LIMITS)
        _connect(_build_parts(bounded), PageHandlers(bounded))
    return page.queue(max_size=MAX_WAITING)


class Parts(NamedTuple):
    """The components of the page that something happens to: what is typed and pressed, and what is shown."""

    examples: Any  # `gradio.Examples`, which is a function
    query: list[Any]
    upload: gradio.UploadButton
    shown: gradio.Image
    clear: gradio.Button
    opened: gradio.Column
    details: list[Any]
    more: gradio.Button
    close: gradio.Button
    meaning: gradio.HTML
    ask: gradio.Button
    question: gradio.Dataset
    said: gradio.HTML
    results: gradio.Gallery


def _build_parts(bounded: BoundedSearch) -> Parts:
    gradio.Markdown(TITLE, elem_id="title")
    sentence = gradio.Textbox(
        label="Whom do you look for?",
        placeholder="The person, their clothes, or both",
        max_length=MAX_SENTENCE,
        submit_btn="Search",
        autofocus=True,
        elem_id="sentence",
    )
    examples = gradio.Examples(SENTENCES, sentence, label="For example", elem_id="examples", api_visibility="private")
    with gradio.Row(elem_id="search"):
        with gradio.Column(scale=1, min_width=280, elem_id="controls"):
            query = [sentence, *_build_controls(bounded)]
            upload = gradio.UploadButton("Upload an example", type="binary", file_types=["image"], size="md")
            shown = gradio.Image(label="Like this", interactive=False, visible=False, height=200, buttons=[])
            clear = gradio.Button("Clear the example", visible=False, size="md")
        with gradio.Column(scale=3):
            opened = _build_opened()
            meaning = gradio.HTML(visible=False, elem_id="meaning")
            asking = _build_asking()
            results = _images("Found", elem_id="results")
    with gradio.Accordion("What the score says, and how to use it well", open=False):
        gradio.Markdown(EXPLANATION, elem_id="explanation")
    return Parts(examples, query, upload, shown, clear, *opened, meaning, *asking, results)


def _connect(parts: Parts, handlers: PageHandlers) -> None:
    """Has the handlers called, and their new values shown."""
    found, example = gradio.State([], time_to_live=HOUR), gradio.State(None, time_to_live=HOUR)
    image_id, asked = gradio.State(None, time_to_live=HOUR), gradio.State(None, time_to_live=HOUR)
    answers = gradio.State({}, time_to_live=HOUR)
    query, (sentence, identity, clothing, *others) = parts.query, parts.query
    private: dict[str, Any] = {"api_visibility": "private", **LIMITS}
    shown = [parts.meaning, parts.results, found, example, parts.shown, parts.clear, parts.opened]
    search: dict[str, Any] = {
        "outputs": [*shown, answers, parts.said, asked, parts.question, parts.ask],
        **private,
    }
    parts.examples.load_input_event.then(handlers.on_sentence, [example, *query], **search)
    sentence.submit(handlers.on_sentence, [example, *query], **search)
    gradio.on([identity.submit, clothing.submit], handlers.search, [example, *query], **search)
    gradio.on(
        [control.change for control in others],
        handlers.on_change,
        [answers, example, *query],
        trigger_mode="always_last",
        show_progress="hidden",
        **search,
    )
    parts.upload.upload(handlers.on_upload, [parts.upload, *query], **search)
    parts.clear.click(handlers.on_clear, query, **search)
    parts.ask.click(handlers.on_ask, [answers, example, *query], **search)
    parts.question.click(handlers.on_answer, [parts.question, asked, answers, example, *query], **search)
    one = [parts.opened, *parts.details, image_id]
    parts.results.select(handlers.on_selection, [found, example, *query], outputs=one, **private)
    parts.more.click(handlers.search, [image_id, *query], **search)
    parts.close.click(lambda: gradio.Column(visible=False), outputs=parts.opened, api_visibility="private")


def serve_page(
    page: gradio.Blocks, host: str | None = None, port: int | None = None, users: Users | None = None
) -> None:
    """
    Serves a page until Ctrl-C or SIGTERM, then deletes the images that it showed and those that were uploaded. It has
    no share link and no telemetry, and serves no files but the images that it shows.

    Args:
        page: of [`build_page`].
        host: address to listen on. Default: `GRADIO_SERVER_NAME`, or else 127.0.0.1.
        port: to listen on. Default: `GRADIO_SERVER_PORT`, or else the first free one from 7860.
        users: who may use it; None for everybody who reaches it.
    """
    page.launch(
        server_name=host,
        server_port=port,
        auth=None if users is None else users.check,  # type: ignore[arg-type]  # which may be a coroutine
        share=False,
        max_file_size=MAX_UPLOAD,
        state_session_capacity=1000,
        run_history=False,
        footer_links=["api", "gradio"],
        ssr_mode=False,
        pwa=False,
        enable_monitoring=False,
        theme=THEME,
        css=CSS,
        app_kwargs={"middleware": [Middleware(OwnFilesOnly)]},
        prevent_thread_lock=True,
        quiet=True,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"The page is at {page.local_url} until Ctrl-C.")
    try:
        page.block_thread()
    finally:  # Gradio does this, too, but not while a browser is connected
        delete_files_created_by_app(page, age=None)


def endpoint(bounded: BoundedSearch) -> Callable[..., dict[str, Any]]:
    """The function of the endpoint `/search`: [`Gallery.search`] with JSON input and output."""

    def search(
        text: str | None = None,
        identity: str | None = None,
        clothing: str | None = None,
        like: str | None = None,
        clothing_weight: float | None = None,
        k: int = HITS,
        filter: dict[str, list | dict[str, float]] | None = None,
        one_per: str | None = None,
    ) -> dict[str, Any]:
        """
        The `hits`, the k images that fit best, best first, each with its id, its score, and the identity and clothing
        parts of the score; `warnings`, which say what the model does not know or cuts of the sentences; and
        `confidence`, what the scores mean, or null if that is not known.

        Parameters:
            text: a sentence about the person, the clothes or both.
            identity: a sentence about the person; it replaces the identity half of the text.
            clothing: a sentence about the clothes; it replaces the clothing half of the text.
            like: the id of an image in the gallery, instead of the text.
            clothing_weight: 0 compares the person alone, 1 the clothes alone. Default: the model's own weight.
            k: number of images.
            filter: columns, each with the list of values that it may have, or its span, {"start": 1.5, "end": 20}.
            one_per: a column, such as track: of images with the same value, the best alone is among the hits.
        """
        query = {"text": text, "identity": identity, "clothing": clothing, "like": like}
        try:
            hits = bounded.search(**query, clothing_weight=clothing_weight, k=k, filter=filter, one_per=one_per)
        except ValueError as error:
            raise gradio.Error(str(error), print_exception=False) from None
        columns = ("image_id", "score", "identity", "clothing")
        return {
            "warnings": hits.warnings,
            "confidence": hits.confidence and asdict(hits.confidence),
            "hits": [{name: getattr(hit, name) for name in columns} for hit in hits],
        }

    return search


def _images(label: str, **options: Any) -> gradio.Gallery:
    """Images that stand whole above their captions."""
    fixed: dict[str, Any] = {"show_label": False, "container": False, "allow_preview": False, "height": "auto"}
    return gradio.Gallery(label=label, object_fit="contain", buttons=[], elem_classes=["images"], **fixed, **options)


def _build_opened() -> tuple[gradio.Column, list[Any], gradio.Button, gradio.Button]:
    """What shows one image, and the buttons that search by it and close it."""
    with gradio.Column(visible=False, elem_id="opened") as opened:
        with gradio.Row():
            with gradio.Column(scale=3, min_width=300):
                views = _images("Opened", elem_id="views")
            with gradio.Column(scale=1, min_width=160):
                facts = gradio.HTML(elem_id="facts")
        frame = _images("Frame", visible=False, elem_id="frame")
        track = _images("Track", visible=False, elem_id="track")
        with gradio.Row():
            more = gradio.Button("More like this", size="md")
            close = gradio.Button("Close", size="md")
    return opened, [views, facts, frame, track], more, close


def _build_asking() -> tuple[gradio.Button, gradio.Dataset, gradio.HTML]:
    """The button that asks for a question, the question with a button for each answer, and the answers so far."""
    ask = gradio.Button("Ask me what would help", visible=False, size="md", elem_id="ask")
    question = gradio.Dataset(
        components=[gradio.Textbox(visible=False)],
        samples=[],
        samples_per_page=100,
        type="index",
        visible=False,
        elem_id="question",
    )
    return ask, question, gradio.HTML(visible=False, elem_id="said")


def _build_controls(bounded: BoundedSearch) -> list[Any]:
    """Text boxes for the person and the clothes, sliders for weight and number of images, and the filters."""
    embedder = bounded.gallery.embedder
    has_clothes = embedder.space.clothing_size > 0
    weight = _slider(
        0,
        1,
        embedder.clothing_weight if has_clothes else 0,
        step=0.05,
        label="Clothing weight",
        info="0: who they are · 1: what they wear",
        visible=has_clothes,
        elem_id="weight",
    )
    count = _slider(1, MAX_HITS, HITS, step=1, label="Images", elem_id="count")
    with gradio.Accordion("Person and clothes apart", open=False, visible=has_clothes):
        identity = gradio.Textbox(label="The person", max_length=MAX_SENTENCE, elem_id="identity")
        clothing = gradio.Textbox(label="The clothes", max_length=MAX_SENTENCE, elem_id="clothing")
    with gradio.Accordion("Filters", open=False, visible=bool(bounded.choices)):
        filters = [each for column, choices in bounded.choices.items() for each in _build_filter(column, choices)]
    return [identity, clothing, weight, count, *filters]


def _build_filter(column: str, choices: list | Span) -> list[Any]:
    """A list to choose values from, or two boxes for the ends of a span."""
    if isinstance(choices, Span):
        with gradio.Row():
            return [
                gradio.Number(label=f"{column} {side}", placeholder=f"{bound:g}", min_width=100)
                for side, bound in (("from", choices.start), ("to", choices.end))
            ]
    values = [(str(value), position) for position, value in enumerate(choices)]
    return [gradio.Dropdown(values, multiselect=True, label=column)]


def _slider(*arguments: Any, **options: Any) -> gradio.Slider:
    """A slider without Gradio's check, which fails on an empty number; [`BoundedSearch.search`] checks it instead."""
    slider = gradio.Slider(*arguments, **options)
    slider.preprocess = lambda payload: payload  # type: ignore[method-assign]
    return slider


def _write(log: QueryLog, query: dict[str, Any], shown: list[str] | None, opened: str | None) -> None:
    """Logs a search or an image that is opened, with the name of whom Gradio is answering."""
    request = LocalContext.request.get(None)
    log.write(request.username if request else None, query, shown, opened)
