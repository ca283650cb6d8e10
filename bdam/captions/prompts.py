"""What an MLLM is asked (§III-C of the paper): who is on an image, what they wear, and how a caption is written."""

from bdam.data.descriptions import Kind


# Written with every description; to be raised whenever a word below changes.
PROMPT_VERSION = "2"

SYSTEM = "You describe people in images from street cameras, for people who look for them by their description."

# Naming attributes that may be invisible invites invention, and so does asking for detail (Tan et al. 2024, in their
# supplement). Hence the way out, and the limit.
COMMON = """
Say only what can be seen in this image: leave out what cannot, or say that it is not visible, and imagine nothing.
Do not mention the background, the image itself or its quality. Write English, in complete sentences, as plain text
without lists, between 10 and 60 words."""

ABOUT: dict[Kind, str] = {
    "identity": """
Describe who the person is: the gender and age that they appear to have, their build and height, their hair, face,
glasses and skin, their posture. Do not mention what they wear or carry: no clothes, shoes, bags, hats or jewellery,
and none of their colours.""",
    "clothing": """
Describe what the person wears and carries: garments with their colours and patterns, from top to bottom, shoes, bags,
hats. Do not mention the body: no gender, age, build, height, hair, face, glasses, skin or posture. Speak of "the
person" and "they".""",
}

# What the server is asked to answer in, where it honours it.
ANSWER_SCHEMA = {
    "type": "object",
    "properties": {"description": {"type": "string"}},
    "required": ["description"],
    "additionalProperties": False,
}
RESPONSE_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "description", "schema": ANSWER_SCHEMA, "strict": True},
}

# The slots are those of `slots.generalize`.
GENERALIZE = """
Rewrite a caption about a person so that only the way it is written remains. Put [person], [age], [build], [features],
[garment], [colour], [bag] and [action] where it says who the person is, what they look like, what they wear and carry,
and what they do; put [they], [them] and [their] for pronouns; put one slot for several that are alike. Keep all other
words, their order and the punctuation. "The tall woman in a red coat has long brown hair." becomes "The [person] in
[garment] has [features]." Answer with the rewritten caption alone."""


def build_generalizing_messages(caption: str) -> list[dict]:
    """The conversation that asks for a caption without what it says of the person."""
    return [
        {"role": "system", "content": " ".join(GENERALIZE.split())},
        {"role": "user", "content": caption},
    ]


def build_messages(kind: Kind, image: str, style: str | None, rejected: list[tuple[str, list[str]]]) -> list[dict]:
    """
    The conversation of one request, as OpenAI-compatible servers take it.

    Args:
        kind: what is asked for.
        image: a `data:` URL.
        style: how to write, such as "Write in a very detailed, descriptive style."; None for no style. It was learned
            from captions, which speak of both person and clothes.
        rejected: earlier answers, each with what was wrong with it.
    """
    manner = f"As for style, not for content: {style}" if style else ""
    request = " ".join(" ".join(part.split()) for part in (ABOUT[kind], COMMON, manner))
    messages: list[dict] = [
        {"role": "system", "content": SYSTEM},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": image}},
                {"type": "text", "text": request.strip()},
            ],
        },
    ]
    for answer, problems in rejected:
        messages.append({"role": "assistant", "content": answer or "…"})
        messages.append(
            {"role": "user", "content": f"That cannot be used: {'; '.join(problems)}. Write the description again."}
        )
    return messages
